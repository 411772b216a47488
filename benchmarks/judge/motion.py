"""How a subject moves: from its place in every frame, and from what turns inside it."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge import shape
from benchmarks.judge.subjects import Track

Array: TypeAlias = NDArray[np.floating[Any]]
STILL_SPEED = 0.035
"""Slower than this (short sides per second) is at rest; the slowest mover of the world is at 0.084."""
SPIN_RATE = 0.07
"""Turns per second from which a subject at rest counts as spinning; the slowest of the world is at 0.21."""
BOUNCE = 0.07
"""A bounce is at least this high, in short sides."""


@dataclass(frozen=True)
class Motion:
    """A subject's motion in the frame."""

    word: str
    """left, right, up, down, still, bounce or spin; ``none`` if it is seen in too few frames."""
    dx: float
    dy: float
    """Mean velocity in short sides per second, y down."""
    turns: float
    """Turns per second, clockwise."""


def _velocity(places: Array, whole: NDArray[np.bool_], time: Array) -> float:
    """Mean velocity along one axis. Jumps (a subject that re-enters at the other side) do not count, and pairs in which
    it is cut by the edge only if there are hardly any others."""
    step, gap = np.diff(places), np.diff(time)
    usable = np.isfinite(step) & (np.abs(step) < 0.3)
    clean = usable & whole[1:] & whole[:-1]
    chosen = clean if clean.sum() >= 3 else usable
    return float(step[chosen].sum() / gap[chosen].sum()) if chosen.any() else 0.0


def _reversals(places: Array, least: float) -> int:
    """How often the direction along an axis changes, counting ways of at least ``least`` only."""
    seen = places[np.isfinite(places)]
    turns, direction, extreme = 0, 0, seen[0]
    for place in seen[1:]:
        way = place - extreme
        if direction == 0 and abs(way) >= least:
            direction, extreme = int(np.sign(way)), place
        elif direction and way * direction > 0:
            extreme = place
        elif direction and -way * direction >= least:
            direction, extreme, turns = -direction, place, turns + 1
    return turns


def _ring_pattern(lab: Array, mask: Array, height: int, width: int, track: Track, frame: int) -> Array:
    """What a subject looks like around its centre: mask and tones (RINGS, ANGLES, 4) in polar coordinates."""
    short = min(height, width)
    cx, cy = float(track.x[frame]) * short + width / 2, float(track.y[frame]) * short + height / 2
    radius = float(np.sqrt(track.area[frame] / np.pi)) * short
    inside = mask[..., None] * (lab - np.average(lab.reshape(-1, 3), axis=0, weights=mask.ravel() + 1e-6))
    return shape.polar(np.concatenate([0.5 * mask[..., None], inside], axis=-1), cx, cy, radius)


def _turn_between(first: Array, second: Array) -> tuple[float, float]:
    """The turn in radians that maps one ring pattern best on another, and how much better it does than none."""
    weight = (np.arange(shape.RINGS, dtype=np.float32) + 0.5)[:, None, None]
    a = np.fft.rfft(first - first.mean(axis=1, keepdims=True), axis=1)
    b = np.fft.rfft(second - second.mean(axis=1, keepdims=True), axis=1)
    match = np.fft.irfft((np.conj(a) * b * weight).sum(axis=(0, 2)), n=shape.ANGLES)
    energy = float(np.sqrt((np.abs(a) ** 2 * weight).sum() * (np.abs(b) ** 2 * weight).sum())) + 1e-9
    reach = shape.ANGLES // 10  # up to 36 degrees either way
    shifts = np.arange(-reach, reach + 1)
    best = int(shifts[match[shifts].argmax()])
    return best * 2 * np.pi / shape.ANGLES, float((match[best] - match[0]) / energy * shape.ANGLES)


def _turning(lab: Array, track: Track, fps: float) -> float:
    """Turns per second of what is seen of the subject, the median over pairs of frames a sixth of a second apart."""
    height, width = lab.shape[1:3]
    lag = max(1, round(fps / 6))
    rates = []
    for frame in range(0, len(lab) - lag):
        if not (track.whole[frame] and track.whole[frame + lag]):
            continue
        first, second = (_ring_pattern(lab[f], track.masks[f], height, width, track, f) for f in (frame, frame + lag))
        turn, gain = _turn_between(first, second)
        rates.append(turn / (2 * np.pi) * fps / lag if gain > 0.004 else 0.0)
    return float(np.median(rates)) if rates else 0.0


def judge_motion(lab: Array, track: Track, fps: float) -> Motion:
    """The motion of a tracked subject; ``lab`` (T, H, W, 3) are the frames that were tracked, ``fps`` theirs."""
    time = np.arange(len(track.x)) / fps
    if np.isfinite(track.x).sum() < 3:
        return Motion("none", 0.0, 0.0, 0.0)
    dx, dy = _velocity(track.x, track.whole, time), _velocity(track.y, track.whole, time)
    inside = np.where(track.whole, track.y, np.nan)
    heights = inside if np.isfinite(inside).sum() >= 3 else track.y
    rise = float(np.nanmax(heights) - np.nanmin(heights))
    way = abs(dx) * float(time[-1])
    jumps = bool(np.any(np.abs(np.diff(track.y[np.isfinite(track.y)])) > 0.3))
    if rise > BOUNCE and rise > way and not jumps and _reversals(heights, 0.4 * rise):
        return Motion("bounce", dx, dy, 0.0)
    if max(abs(dx), abs(dy)) >= STILL_SPEED:
        if abs(dx) > abs(dy):
            return Motion("right" if dx > 0 else "left", dx, dy, 0.0)
        return Motion("down" if dy > 0 else "up", dx, dy, 0.0)
    turns = _turning(lab, track, fps)
    return Motion("spin" if abs(turns) >= SPIN_RATE else "still", dx, dy, turns)
