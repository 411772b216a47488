"""Compare verdicts with what was asked for, and count."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge.verdict import Seen, Verdict
from opensora.datasets.world.spec import SceneSpec

DIRECTIONS = ("left", "right", "up", "down")
MEASURES = ("colour", "shape", "direction", "motion", "camera", "count")
"""Shares that are reported. ``direction`` counts subjects asked to move left, right, up or down; ``motion`` all."""


@dataclass(frozen=True)
class Expected:
    """What a prompt asks for: (kind, colour, motion) per subject from left to right, and a camera motion or None."""

    subjects: tuple[tuple[str, str, str], ...]
    camera: str | None = None


@dataclass
class Tally:
    """Right answers and questions by measure."""

    right: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    def count(self, measure: str, is_right: bool) -> None:
        """One more question."""
        self.right[measure] = self.right.get(measure, 0) + is_right
        self.asked[measure] = self.asked.get(measure, 0) + 1

    def add(self, other: "Tally") -> None:
        """Add another tally."""
        for measure, asked in other.asked.items():
            self.asked[measure] = self.asked.get(measure, 0) + asked
            self.right[measure] = self.right.get(measure, 0) + other.right[measure]

    def shares(self) -> dict[str, float]:
        """Share of right answers by measure, in the order of ``MEASURES``."""
        return {m: self.right[m] / self.asked[m] for m in MEASURES if self.asked.get(m)}


def expected_of(scene: SceneSpec) -> Expected:
    """What a prompt that describes the whole scene asks for."""
    return Expected(tuple((s.kind, s.colour, s.motion) for s in scene.subjects), scene.camera)


def _assigned(expected: Expected, verdict: Verdict) -> Sequence[Seen | None]:
    """The seen subject for each expected one: the largest where one is asked for, else by order from the left."""
    seen = list(verdict.subjects)
    if len(expected.subjects) == 1 and len(seen) > 1:
        seen = [max(seen, key=lambda s: float(np.nansum(s.track.area)))]
    return [seen[i] if i < len(seen) else None for i in range(len(expected.subjects))]


def compare(expected: Expected, verdict: Verdict) -> Tally:
    """Score one clip. A subject that is not seen gets every question wrong."""
    tally = Tally()
    for (kind, colour, motion), seen in zip(expected.subjects, _assigned(expected, verdict), strict=True):
        tally.count("colour", seen is not None and seen.colour == colour)
        tally.count("shape", seen is not None and seen.kind == kind)
        moves = seen is not None and seen.motion.word == motion
        tally.count("motion", moves)
        if motion in DIRECTIONS:
            tally.count("direction", moves)
    if expected.camera is not None:
        tally.count("camera", verdict.camera.word == expected.camera)
    tally.count("count", len(verdict.subjects) == len(expected.subjects))
    return tally


def total(expected: Sequence[Expected], verdicts: Sequence[Verdict]) -> Tally:
    """Score all clips against their own prompts."""
    tally = Tally()
    for wish, verdict in zip(expected, verdicts, strict=True):
        tally.add(compare(wish, verdict))
    return tally


def shuffled(expected: Sequence[Expected], verdicts: Sequence[Verdict]) -> Tally:
    """Score every clip against the prompts of all *other* clips: what a judge would say that looks at nothing."""
    tally = Tally()
    for i, wish in enumerate(expected):
        for j, verdict in enumerate(verdicts):
            if i != j:
                tally.add(compare(wish, verdict))
    return tally


def table(columns: dict[str, dict[str, float]], measures: Iterable[str] = MEASURES) -> str:
    """A text table of shares in per cent: a row for each measure, a column for each entry."""
    lines = [f"{'':12}" + "".join(f"{name:>18}" for name in columns)]
    for measure in measures:
        if any(measure in shares for shares in columns.values()):
            cells = (f"{shares[measure]:18.1%}" if measure in shares else f"{'-':>18}" for shares in columns.values())
            lines.append(f"{measure:12}" + "".join(cells))
    return "\n".join(lines)


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 arrays of one shape."""
    if first.shape != second.shape:
        raise ValueError(f"cannot compare pictures of {first.shape} and {second.shape}")
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return 10 * np.log10(255**2 / max(error, 1e-9))
