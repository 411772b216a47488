"""Find the subjects of a clip and follow them: colour, shape and place in every frame."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.judge import shape
from benchmarks.judge.network import Network
from opensora.datasets.world.spec import COLOURS, KINDS

Array: TypeAlias = NDArray[np.floating[Any]]
SMALLEST = 0.012
"""A subject covers at least this share of the squared short side (a disc of 12 % diameter)."""
SECOND = 0.3
"""A second subject is at least this much of the first."""


@dataclass(frozen=True)
class Track:
    """A subject followed through a clip; lengths in short sides of the frame, per frame, NaN where it is not seen."""

    colour: str
    kind: str
    confidence: float
    """Share of the shape votes that agree."""
    x: Array
    y: Array
    area: Array
    whole: NDArray[np.bool_]
    """Whether the subject lies inside the frame entirely."""
    masks: Array
    """Soft masks (T, H, W)."""


@dataclass(frozen=True)
class Blob:
    """A connected coloured region of one frame."""

    mask: Array
    mass: float
    colour: int
    touches: bool


def blobs(frame: Array) -> list[Blob]:
    """Connected coloured regions of one frame's class probabilities (H, W, C), the heaviest first."""
    foreground = 1 - frame[..., 0]
    count, labels, stats, _ = cv2.connectedComponentsWithStats((foreground > 0.5).astype(np.uint8), connectivity=8)
    height, width = foreground.shape
    least = SMALLEST * min(height, width) ** 2
    found = []
    for label in range(1, count):
        left, top, wide, tall, area = stats[label]
        if area < least:
            continue
        inside = (labels == label).astype(np.uint8)
        reach = cv2.dilate(inside, np.ones((3, 3), np.uint8))
        colour = int(frame[..., 1:][inside > 0].sum(axis=0).argmax())
        touches = left <= 0 or top <= 0 or left + wide >= width or top + tall >= height
        found.append(Blob(foreground * reach, float(area), colour, touches))
    return sorted(found, key=lambda blob: -blob.mass)


def _colours(blobs: list[list[Blob]]) -> list[int]:
    """Colours of the one or two subjects of the clip: those that fill most over all frames."""
    mass, seen = np.zeros(len(COLOURS)), np.zeros(len(COLOURS))
    for frame in blobs:
        best: dict[int, float] = {}
        for blob in frame:
            best[blob.colour] = max(best.get(blob.colour, 0.0), blob.mass)
        for colour, value in best.items():
            mass[colour] += value
            seen[colour] += 1
    order = np.argsort(-mass)
    first = int(order[0])
    if mass[first] == 0:
        return []
    second = int(order[1])
    both = mass[second] > SECOND * mass[first] and seen[second] > 0.5 * len(blobs)
    return [first, second] if both else [first]


def _follow(blobs: list[list[Blob]], colour: int, size: tuple[int, int]) -> list[Blob | None]:
    """In each frame the region of this colour that is largest, preferring one near the last place."""
    followed: list[Blob | None] = []
    last: tuple[float, float] | None = None
    for frame in blobs:
        best, best_score = None, 0.0
        for blob in frame:
            if blob.colour != colour:
                continue
            cx, cy, _ = shape.centroid(blob.mask)
            away = 0.0 if last is None else float(np.hypot(cx - last[0], cy - last[1])) / min(size)
            score = blob.mass * (1 if away < 0.3 else 0.5)
            if score > best_score:
                best, best_score, place = blob, score, (cx, cy)
        followed.append(best)
        if best is not None:
            last = place
    return followed


def _kind(blobs: list[Blob | None], network: Network) -> tuple[str, float]:
    """The shape that all frames together look like most; whole subjects count if there are any."""
    seen = [b for b in blobs if b is not None]
    whole = [b for b in seen if not b.touches] or seen
    logits = network.probabilities(np.stack([shape.describe(b.mask) for b in whole]))
    votes = np.log(logits + 1e-3).mean(axis=0)
    best = int(votes.argmax())
    return KINDS[best], float((logits.argmax(axis=1) == best).mean())


def _track(blobs: list[Blob | None], colour: int, size: tuple[int, int], network: Network) -> Track:
    height, width = size
    short = min(size)
    x, y, area = (np.full(len(blobs), np.nan) for _ in range(3))
    whole, masks = np.zeros(len(blobs), bool), np.zeros((len(blobs), height, width), np.float32)
    for frame, blob in enumerate(blobs):
        if blob is None:
            continue
        cx, cy, covered = shape.centroid(blob.mask)
        x[frame], y[frame], area[frame] = (cx - width / 2) / short, (cy - height / 2) / short, covered / short**2
        whole[frame], masks[frame] = not blob.touches, blob.mask
    kind, confidence = _kind(blobs, network)
    return Track(COLOURS[colour], kind, confidence, x, y, area, whole, masks)


def tracks(probabilities: Array, network: Network) -> list[Track]:
    """The subjects of a clip from its pixel classes (T, H, W, C): none, one or two, from left to right."""
    regions = [blobs(frame) for frame in probabilities]
    size = (probabilities.shape[1], probabilities.shape[2])
    found = [_track(_follow(regions, c, size), c, size, network) for c in _colours(regions)]
    return sorted(found, key=lambda track: float(np.nanmean(track.x)))
