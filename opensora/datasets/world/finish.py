"""How clean the rendering is: the aesthetic words dull, blur and stain a picture."""

import numpy as np

from opensora.datasets.world.canvas import Array


def _blur(picture: Array, sigma: float) -> Array:
    """Gaussian blur of (3, H, W) with a standard deviation in pixels, by shifted sums along both axes."""
    reach = int(np.ceil(2.5 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        size = picture.shape[axis]
        pad = [(0, 0)] * 3
        pad[axis] = (reach, reach)
        padded = np.pad(picture, pad, mode="edge")
        parts = (padded.take(range(k, k + size), axis=axis) * np.float32(w) for k, w in enumerate(weights))
        picture = np.sum(list(parts), axis=0, dtype=np.float32)
    return picture


def blotches(rng: np.random.Generator, height: int, width: int) -> Array:
    """Smooth noise (H, W) of unit size, coarse against the frame."""
    step = min(height, width) / 20
    rows, columns = np.arange(height) / step, np.arange(width) / step
    coarse = rng.standard_normal((int(rows[-1]) + 2, int(columns[-1]) + 2)).astype(np.float32)
    r, c = rows.astype(int), columns.astype(int)
    fr, fc = (rows - r)[:, None].astype(np.float32), (columns - c)[None, :].astype(np.float32)
    above = coarse[r][:, c] * (1 - fc) + coarse[r][:, c + 1] * fc
    below = coarse[r + 1][:, c] * (1 - fc) + coarse[r + 1][:, c + 1] * fc
    return above * (1 - fr) + below * fr


def wear(picture: Array, flaw: float, stains: Array, pixels: float) -> Array:
    """Dull, blur and stain a picture; ``flaw`` in (0, 1] is how bad it is."""
    grey = picture.mean(axis=0, keepdims=True)
    picture = picture + np.float32(0.5 * flaw) * (grey - picture)
    picture = 0.5 + (picture - 0.5) * np.float32(1 - 0.3 * flaw) - np.float32(0.03 * flaw)
    if flaw * pixels > 20:
        picture = _blur(picture, max(0.012 * flaw * pixels, 0.4))
    return picture + np.float32(0.04 * flaw**1.6) * stains
