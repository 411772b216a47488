"""How a subject moves: from its place in every frame, and from what turns inside it."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge import pixels, shape
from benchmarks.judge.subjects import Track

Array: TypeAlias = NDArray[np.floating[Any]]
STILL_SPEED = 0.045
"""Slower than this (short sides per second) is at rest; the slowest mover of the world is at 0.084."""
SPIN_RATE = 0.07
"""Turns per second from which a subject at rest counts as spinning; the slowest of the world is at 0.21."""
COHERENT = 0.28
"""How much of the changes inside a subject one common turn must explain."""
OUTLINE_CHANGES, BAND_CHANGES = 0.5, 0.1
"""How much of what is uneven about a subject (a ball) must change for it to spin."""
TONES = 0.12
"""Larger differences of tone inside a subject count as this much, so that single flakes and drops do not."""
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
    usual = np.median(lab[mask > 0.5], axis=0) if (mask > 0.5).any() else lab.mean(axis=(0, 1))
    inside = mask[..., None] * np.clip(lab - usual, -TONES, TONES)
    return shape.polar(np.concatenate([0.5 * mask[..., None], inside], axis=-1), cx, cy, radius)


def _correlation(first: Array, second: Array) -> tuple[Array, float]:
    """How well one ring pattern (RINGS, ANGLES, 4) turned by each angle matches another, (ANGLES,); their energy."""
    weight = (np.arange(shape.RINGS, dtype=np.float32) + 0.5)[:, None, None]
    a, b = np.fft.rfft(first, axis=1)[:, 1:], np.fft.rfft(second, axis=1)[:, 1:]
    spectrum = np.concatenate([np.zeros(1), (np.conj(a) * b * weight).sum(axis=(0, 2))])
    energy = float(((np.abs(a) ** 2 + np.abs(b) ** 2) * weight).sum())
    return np.fft.irfft(spectrum, n=shape.ANGLES), energy / shape.ANGLES


def _turning(lab: Array, track: Track, fps: float) -> tuple[float, float, float]:
    """Turns per second of what changes in the subject, how coherently it turns, and the share that changes."""
    height, width = lab.shape[1:3]
    lag = max(1, round(fps / 6))
    frames = np.flatnonzero(track.whole)
    if len(frames) <= lag:
        return 0.0, 0.0, 0.0
    patterns = {
        int(f): _ring_pattern(pixels.without_drops(lab[f], 5), track.masks[f], height, width, track, int(f))
        for f in frames
    }
    lasting = np.mean(list(patterns.values()), axis=0)
    match, energy = np.zeros(shape.ANGLES), 1e-9
    for frame, pattern in patterns.items():
        if frame + lag in patterns:
            part, effort = _correlation(pattern - lasting, patterns[frame + lag] - lasting)
            match, energy = match + part, energy + effort
    reach = shape.ANGLES // 8  # up to 45 degrees either way
    shifts = np.arange(-reach, reach + 1)
    best = int(shifts[match[shifts].argmax()])
    changing = np.mean([_correlation(p - lasting, p - lasting)[1] for p in patterns.values()])
    share = float(changing / (changing + _correlation(lasting, lasting)[1] + 1e-9))
    return best / shape.ANGLES * fps / lag, float(2 * match[best] / energy), share


def _spin(lab: Array, track: Track, fps: float) -> float:
    """Turns per second of a subject at rest; zero unless it clearly spins. The outline of a ball shows nothing, only
    the band on it does: that is told from snow, which falls over it slowly, by turning clockwise or fast."""
    turns, coherence, share = _turning(lab, track, fps)
    if track.kind == "ball":
        spins = share >= BAND_CHANGES and (turns >= 1.7 * SPIN_RATE or turns <= -4 * SPIN_RATE)
    else:
        spins = share >= OUTLINE_CHANGES and abs(turns) >= SPIN_RATE
    return turns if spins and coherence >= COHERENT else 0.0


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
    turns = _spin(lab, track, fps)
    return Motion("spin" if turns else "still", dx, dy, turns)
