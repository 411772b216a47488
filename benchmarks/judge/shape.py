"""The shape of a subject: a rotation-invariant description of its soft mask.

The mask is centred, scaled to unit area and read in polar coordinates; the magnitudes of the first angular harmonics on
each ring do not change when the subject turns or is mirrored.
"""

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]
RINGS, ANGLES, HARMONICS, REACH = 14, 72, 11, 2.1
"""Rings up to ``REACH`` equivalent radii, angles sampled on each, harmonics kept (0 to 10)."""


def centroid(mask: Array) -> tuple[float, float, float]:
    """Centre x, centre y and area of a soft mask (H, W), in pixels."""
    area = float(mask.sum()) + 1e-6
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    return float((mask * x).sum()) / area, float((mask * y).sum()) / area, area


def polar(picture: Array, cx: float, cy: float, radius: float) -> Array:
    """Samples (RINGS, ANGLES, ...) of a picture (H, W, ...) around a centre, out to ``REACH`` radii; zero outside."""
    rings = (np.arange(RINGS, dtype=np.float32) + 0.5) / RINGS * REACH * radius
    angles = np.arange(ANGLES, dtype=np.float32) * np.float32(2 * np.pi / ANGLES)
    x = (cx + rings[:, None] * np.cos(angles)).astype(np.float32)
    y = (cy + rings[:, None] * np.sin(angles)).astype(np.float32)
    return cv2.remap(picture.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def describe(mask: Array) -> Array:
    """Descriptor (RINGS · HARMONICS,) of a soft mask (H, W)."""
    cx, cy, area = centroid(mask)
    samples = polar(mask, cx, cy, float(np.sqrt(area / np.pi)))
    spectrum = np.abs(np.fft.rfft(samples, axis=1))[:, :HARMONICS] / ANGLES
    return spectrum.astype(np.float32).ravel()
