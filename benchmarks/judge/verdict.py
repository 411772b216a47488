"""What a clip shows, as far as the judge can tell from its pixels, and how that compares with what was asked for."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge import network, pixels
from benchmarks.judge.camera import CameraMotion, judge_camera
from benchmarks.judge.motion import Motion, judge_motion
from benchmarks.judge.subjects import Track, tracks

WORKING_FPS = 12
"""Frames per second that are looked at."""


@dataclass(frozen=True)
class Seen:
    """One subject as seen."""

    kind: str
    colour: str
    motion: Motion
    track: Track


@dataclass(frozen=True)
class Verdict:
    """Everything that is seen in a clip; subjects from left to right."""

    subjects: tuple[Seen, ...]
    camera: CameraMotion


@lru_cache(maxsize=1)
def _networks() -> tuple[network.Network, network.Network]:
    return network.load("pixels"), network.load("shape")


def look(clip: NDArray[np.uint8], fps: float = 24) -> Verdict:
    """Judge a clip, uint8 (T, H, W, 3)."""
    stride = max(1, round(fps / WORKING_FPS))
    lab = pixels.working_lab(clip[::stride])
    colour_network, shape_network = _networks()
    classes = pixels.probabilities(lab, colour_network)
    seen = tuple(Seen(t.kind, t.colour, judge_motion(lab, t, fps / stride), t) for t in tracks(classes, shape_network))
    return Verdict(seen, judge_camera(lab, 1 - classes[..., 0], fps / stride))
