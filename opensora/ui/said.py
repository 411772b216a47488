"""Durations, sizes and refusals as people say them. Every value that a person typed is escaped."""

import math
from collections.abc import Sequence
from html import escape

from opensora.ui.words import Words

UNITS = ((120, 1, "unit.s"), (7200, 60, "unit.min"), (172_800, 3600, "unit.h"), (math.inf, 86_400, "unit.days"))
"""Below how many seconds a duration is said in which unit."""


def seconds(w: Words, value: float) -> str:
    """A duration as people say it: ``8 s``, ``1 min 20 s``."""
    whole = round(value)
    if whole < 60:
        return w("unit.s", value=max(1, whole))
    if whole < 3600:
        return w("unit.min_s", minutes=whole // 60, seconds=f"{whole % 60:02d}")
    return w("unit.h", value=f"{whole / 3600:.1f}")


def size(count: int) -> str:
    """A number of bytes as people say it."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    if count >= 1e6:
        return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"
    return f"{max(1, round(count / 1e3))} kB"


def span(w: Words, low: float, high: float) -> str:
    """A range of durations, rounded away from the middle; one number when both ends read the same."""
    unit, key = next((unit, key) for below, unit, key in UNITS if high < below)
    ends = max(1, math.floor(low / unit)), max(1, math.ceil(high / unit))
    return w(key, value=ends[0] if ends[0] == ends[1] else f"{ends[0]} – {ends[1]}")


def length(w: Words, frames: int, duration: float) -> str:
    """Seconds and frames of a clip: ``2 s, 49 frames``."""
    if frames == 1:
        return w("frame")
    return w("frames", seconds=f"{duration:.1f}".removesuffix(".0"), frames=frames)


def problem(w: Words, message: str, title: str = "problem", more: str = "") -> str:
    """An error as a sentence that says what to do.

    Args:
        title: key of the text above it.
        more: HTML below it, such as a button.
    """
    told = escape(w.tell(message))
    return f"<div class='os-problem' role='alert'><strong>{escape(w(title))}</strong><p>{told}</p>{more}</div>"


def facts(rows: Sequence[tuple[str, object]], kind: str) -> str:
    """Names and values; without those that are ``None``."""
    shown = "".join(
        f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in rows if value is not None
    )
    return f"<dl class='{kind}'>{shown}</dl>"


def button(label: str, kind: str = "os-button", **data: str) -> str:
    """A button of a panel; what it is for goes along as its data, see ``page.js``."""
    attributes = "".join(
        f" data-{name.replace('_', '-')}='{escape(value, quote=True)}'" for name, value in data.items()
    )
    return f"<button type='button' class='{kind}'{attributes}>{label}</button>"
