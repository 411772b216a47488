"""HTML of a visitor's finished clips: found by their prompt, pinned, deleted, saved, two side by side."""

from dataclasses import dataclass
from html import escape
from typing import Any

from opensora.jobs.queue import JobState, JobView
from opensora.ui import render
from opensora.ui.icons import ICONS
from opensora.ui.said import button
from opensora.ui.words import Words

MOST = 12
"""Clips that are shown before more are asked for."""


@dataclass(frozen=True)
class Look:
    """What a visitor looks at."""

    query: str = ""
    """Words that prompts have to hold."""
    most: int = MOST
    """Clips to show."""
    pair: tuple[str, ...] = ()
    """Up to two clips to compare, each as the id of its job and, but for the first of a job, ``:`` and its number."""

    @classmethod
    def of(cls, shown: dict[str, Any]) -> "Look":
        """From what the page remembers."""
        return cls(shown.get("query") or "", shown.get("most") or MOST, tuple(shown.get("pair") or ()))


def chosen(pair: list[str], job_id: str) -> list[str]:
    """The clips to compare after a job was clicked: its own go, or its first one comes in and the oldest goes."""
    rest = [other for other in pair if _job_of(other) != job_id]
    return rest if len(rest) < len(pair) else [*pair, job_id][-2:]


def other_clip(pair: list[str], place: str, job_id: str, number: str) -> list[str]:
    """The clips to compare after another one of a job was chosen.

    Args:
        place: of the clip that it replaces; any other text adds it.
        number: of the clip in its job, from 0.
    """
    clip = f"{job_id}:{number}" if number.isdecimal() and int(number) else job_id
    if place not in ("0", "1") or int(place) >= len(pair):
        return [*pair, clip][-2:]
    return [clip if number == int(place) else other for number, other in enumerate(pair)]


def _job_of(clip: str) -> str:
    return clip.partition(":")[0]


def _number_of(clip: str, job: JobView) -> int:
    """Which of a job's clips is meant; the first where there is no such one."""
    number = clip.partition(":")[2]
    return int(number) if number.isdecimal() and int(number) < len(job.files) else 0


def found(jobs: list[JobView], query: str) -> list[JobView]:
    """Jobs that have ended, pinned ones first, whose prompts hold every word of the query."""
    words = query.casefold().split()
    fit = [job for job in jobs if job.state.finished and all(word in job.request.prompt.casefold() for word in words)]
    return sorted(fit, key=lambda job: not job.pinned)


def shelf(w: Words, jobs: list[JobView], present: str, look: Look) -> str:
    """The clips, with two of them side by side above where two are chosen.

    Args:
        present: id of the job in the large panel.
    """
    ended = [job for job in jobs if job.state.finished]
    if not ended:
        return ""
    fit = found(jobs, look.query)
    cards = "".join(_card(w, job, job.id == present, job.id in map(_job_of, look.pair)) for job in fit[: look.most])
    body = f"<ul class='os-shelf'>{cards}</ul>" if cards else f"<p class='os-faint'>{w('history.none')}</p>"
    more = button(w("history.more", count=len(fit) - look.most), act="more") if len(fit) > look.most else ""
    return f"{compared(w, jobs, look.pair)}{body}{more}"


def compared(w: Words, jobs: list[JobView], pair: tuple[str, ...]) -> str:
    """Two finished clips that play together, and what differs between them."""
    known = {job.id: job for job in jobs if job.state is JobState.DONE and job.files}
    two = [(known[_job_of(clip)], _number_of(clip, known[_job_of(clip)])) for clip in pair if _job_of(clip) in known]
    if len(two) < 2:
        hint = "".join(f"<p>{w('compare.one')}</p>{_clips_of(w, job, number, '')}" for job, number in two)
        return f"<div class='os-note' role='status'>{hint}</div>" if hint else ""
    clips = "".join(_side(w, job, number, str(place)) for place, (job, number) in enumerate(two))
    close = button(w("compare.close"), act="uncompare")
    return (
        f"<section class='os-compare' aria-label='{w('compare')}'><div class='os-side-by-side' data-together='1'>"
        f"{clips}</div>{_differences(w, *two[0], *two[1])}<div class='os-row'>{close}</div></section>"
    )


def _clips_of(w: Words, job: JobView, number: int, place: str) -> str:
    """Buttons that choose another clip of a job which has several.

    Args:
        number: of the clip that is chosen.
        place: in the comparison; empty to add one to it.
    """
    clips = [n for n, file in enumerate(job.files) if file.suffix == job.files[0].suffix]
    if len(clips) < 2:
        return ""
    buttons = "".join(
        f"<button type='button' class='os-button os-small' data-act='side' data-job='{job.id}' data-place='{place}' "
        f"data-number='{n}' aria-pressed='{str(n == number).lower()}'>{w('compare.own', number=n + 1)}</button>"
        for n in clips
        if place or n != number
    )
    return f"<div class='os-row' role='group' aria-label='{w('compare.of')}'>{buttons}</div>"


def _side(w: Words, job: JobView, number: int, place: str) -> str:
    settings = job.settings or {}
    shape = (settings.get("width", 16), settings.get("height", 9))
    return (
        f"<figure>{render.player(w, job.id, job.files[number], shape)}"
        f"<figcaption>{render.prompt(job)}{_clips_of(w, job, number, place)}</figcaption></figure>"
    )


def _differences(w: Words, one: JobView, first: int, other: JobView, second: int) -> str:
    """Settings that two clips do not share; each clip of a job has its own seed.

    Args:
        first: number of the clip in its job.
        second: the same of the other.
    """
    names = ("seed", "steps", "guidance", "image_guidance", "motion_score", "model", "resolution", "num_frames")
    a, b = _settings(one, first), _settings(other, second)
    rows = [(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]
    if not rows:
        return f"<p class='os-faint'>{w('compare.same')}</p>"
    shown = "".join(
        f"<tr><th scope='row'>{w(f'setting.{name}')}</th><td>{escape(str(x))}</td><td>{escape(str(y))}</td></tr>"
        for name, x, y in rows
    )
    return f"<table class='os-table'><tbody>{shown}</tbody></table>"


def _settings(job: JobView, number: int) -> dict[str, Any]:
    settings = job.settings or {}
    seed = settings.get("seed")
    return {**settings, "seed": seed + number} if isinstance(seed, int) else settings


def _card(w: Words, job: JobView, present: bool, paired: bool) -> str:
    prompt, label = escape(job.request.prompt[:160], quote=True), w(f"state.{job.state}")
    done = job.state is JobState.DONE and bool(job.files)
    inside = (
        f"<img src='posters/{job.id}/{job.files[0].name}' alt='' loading='lazy'>" if done else f"<span>{label}</span>"
    )
    current = " aria-current='true'" if present else ""
    tile = (
        f"<button type='button' class='os-tile' data-act='show' data-job='{job.id}' title='{prompt}'{current} "
        f"aria-label='{label}: {prompt}'>{inside}</button>"
    )
    tools = _tools(w, job, done, paired)
    return f"<li class='os-clip'>{tile}<p class='os-clip-prompt' dir='auto'>{prompt}</p>{tools}</li>"


def _tools(w: Words, job: JobView, done: bool, paired: bool) -> str:
    """What can be done with a clip on the shelf."""
    tools = []
    if done:
        tools.append(_tool(w, "unpin" if job.pinned else "pin", job, job.pinned))
        tools.append(_tool(w, "compare", job, paired))
        name = job.files[0].name
        text = w("download", kind=name.rpartition(".")[2].upper())
        tools.append(
            f"<a class='os-icon' href='files/{job.id}/{name}' download='opensora-{name}' aria-label='{text}' "
            f"title='{text}'>{ICONS['download']}</a>"
        )
    tools.append(_tool(w, "delete", job, confirm=w("delete.sure") if done else ""))
    return f"<div class='os-tools'>{''.join(tools)}</div>"


def _tool(w: Words, act: str, job: JobView, pressed: bool | None = None, confirm: str = "") -> str:
    label = w(f"do.{act}")
    state = "" if pressed is None else f" aria-pressed='{str(pressed).lower()}'"
    sure = f" data-confirm='{escape(confirm, quote=True)}'" if confirm else ""
    return (
        f"<button type='button' class='os-icon' data-act='{act}' data-job='{job.id}' aria-label='{label}' "
        f"title='{label}'{state}{sure}>{ICONS[act]}</button>"
    )
