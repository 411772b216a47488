"""A picture being painted: a camera's view of the world's plane and soft-edged fills.

Pictures are planar float32 (3, H, W) in [0, 1]; world lengths are in short sides of the frame, y points down.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]


def rgb(*values: int) -> Array:
    """A colour of 0..255 components as (3, 1, 1) in [0, 1]."""
    return (np.array(values, np.float32) / 255).reshape(3, 1, 1)


@dataclass(frozen=True)
class View:
    """What the camera sees in one frame."""

    x: Array
    """(1, W) pixel centres from the middle of the frame."""
    y: Array
    """(H, 1) pixel centres from the middle of the frame."""
    pixels: float
    """Pixels per short side."""
    pan: float = 0.0
    """How far the camera looks to the right."""
    tilt: float = 0.0
    """How far the camera looks down."""
    zoom: float = 1.0
    """Magnification."""
    time: float = 0.0
    """Seconds since the first frame."""

    @property
    def sharpness(self) -> float:
        """Pixels per world unit."""
        return self.pixels * self.zoom

    def at(self, depth: float) -> tuple[Array, Array]:
        """World coordinates (1, W), (H, 1) of the pixels on a layer; far layers (small depth) pan less."""
        return self.x / self.zoom + np.float32(self.pan * depth), self.y / self.zoom + np.float32(self.tilt)


def frame_axes(height: int, width: int) -> tuple[Array, Array, float]:
    """Pixel centres (1, W) and (H, 1) in short sides from the middle of the frame, and pixels per short side."""
    pixels = min(height, width)
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / pixels
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / pixels
    return x[None, :].astype(np.float32), y[:, None].astype(np.float32), float(pixels)


def cover(distance: Array, sharpness: float) -> Array:
    """Share of each pixel that lies inside, from signed distances."""
    return np.clip(0.5 - distance * np.float32(sharpness), 0, 1)


def fade(value: Array, start: float, end: float) -> Array:
    """Smooth step from 0 at ``start`` to 1 at ``end``."""
    u = np.clip((value - np.float32(start)) / np.float32(end - start), 0, 1)
    return u * u * (3 - 2 * u)


def vertical(y: Array, start: float, end: float, top: Array, bottom: Array) -> Array:
    """A colour (3, H, 1) that changes smoothly from ``top`` at height ``start`` to ``bottom`` at ``end``."""
    return top + fade(y, start, end)[None] * (bottom - top)


def blend(picture: Array, mask: Array, colour: Array) -> None:
    """Paint ``colour`` (broadcastable to the picture) over it where ``mask`` (H, W) is 1."""
    rows = np.flatnonzero(mask.max(axis=1) > 0)
    if rows.size == 0:
        return
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    mask = mask[part] if mask.shape[0] > 1 else mask
    if colour.shape[1] > 1:
        colour = colour[:, part]
    picture[:, part] += mask * (colour - picture[:, part])
