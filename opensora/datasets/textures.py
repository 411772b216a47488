"""Random pictures and moving clips, so that an autoencoder also survives photographs and not only the world."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.floating[Any]]


def _smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int, channels: int) -> Array:
    """Bilinearly interpolated noise (C, H, W) with about ``cells`` random values along the longer side."""
    step = max(height, width) / cells
    rows = np.arange(height, dtype=np.float32) / step
    columns = np.arange(width, dtype=np.float32) / step
    r, c = rows.astype(int), columns.astype(int)
    grid = rng.standard_normal((channels, int(r[-1]) + 2, int(c[-1]) + 2)).astype(np.float32)
    fr, fc = (rows - r)[:, None], (columns - c)[None, :]
    above = grid[:, r][:, :, c] * (1 - fc) + grid[:, r][:, :, c + 1] * fc
    below = grid[:, r + 1][:, :, c] * (1 - fc) + grid[:, r + 1][:, :, c + 1] * fc
    return (above * (1 - fr) + below * fr).astype(np.float32)


def _octaves(rng: np.random.Generator, height: int, width: int) -> Array:
    """Noise (3, H, W) whose spectrum falls like that of photographs, in [0, 1]."""
    falloff, colourful = rng.uniform(0.4, 0.65), rng.uniform(0.15, 0.8)
    total = np.zeros((3, height, width), np.float32)
    for octave in range(6):
        cells = 2 * 2**octave
        if cells > max(height, width) / 1.5:
            break
        grey = _smooth_noise(rng, height, width, cells, 1)
        total += np.float32(falloff**octave) * (
            grey + np.float32(colourful) * _smooth_noise(rng, height, width, cells, 3)
        )
    tint = rng.uniform(0.15, 0.85, (3, 1, 1)).astype(np.float32)
    return tint + total * np.float32(rng.uniform(0.08, 0.22))


def _colour(rng: np.random.Generator) -> Array:
    """A random colour (3, 1, 1), sometimes grey, sometimes black or white."""
    value = rng.random(3) if rng.random() < 0.8 else np.full(3, rng.random())
    if rng.random() < 0.1:
        value = np.full(3, float(rng.random() < 0.5))
    return value.astype(np.float32).reshape(3, 1, 1)


def _gradient(rng: np.random.Generator, height: int, width: int) -> Array:
    """A linear gradient (3, H, W) between two colours at a random angle."""
    angle = rng.uniform(0, 2 * np.pi)
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :]
    share = np.clip(0.5 + x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)), 0, 1)
    first, second = _colour(rng), _colour(rng)
    return first + share * (second - first)


def _shape(rng: np.random.Generator, height: int, width: int) -> Array:
    """Opacity (H, W) of a random ellipse, box, polygon half-planes or stripe set with an edge of random softness."""
    scale = float(min(height, width))
    cy, cx, angle = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0, np.pi)
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(cy)
    x = np.arange(width, dtype=np.float32)[None, :] - np.float32(cx)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = x * cos + y * sin, y * cos - x * sin
    a, b = (rng.uniform(0.04, 0.45, 2) * scale).astype(np.float32)
    match rng.integers(4):
        case 0:
            distance = (np.hypot(u / a, v / b) - 1) * min(a, b)
        case 1:
            distance = np.maximum(np.abs(u) - a, np.abs(v) - b)
        case 2:
            distance = np.maximum(np.maximum(-v - 0.5 * b, np.abs(u) * 0.87 + 0.5 * v - 0.5 * a), -u - 2 * a)
        case _:
            period = np.float32(rng.uniform(0.06, 0.3) * scale)
            distance = np.maximum(np.abs((u / period) % 1 - 0.5) * period - period / 4, np.hypot(u, v) - 1.6 * a)
    softness = 1.0 if rng.random() < 0.7 else rng.uniform(1, 0.1 * scale + 1)
    return np.clip(0.5 - distance / np.float32(softness), 0, 1)


def _compose(rng: np.random.Generator, height: int, width: int, shapes: int) -> Array:
    """A picture (3, H, W): a ground, shapes filled with colours, gradients or noise, and a little overall noise."""
    picture = _octaves(rng, height, width) if rng.random() < 0.6 else _gradient(rng, height, width)
    for _ in range(shapes):
        kind = rng.random()
        if kind < 0.5:
            fill = _colour(rng)
        else:
            fill = _gradient(rng, height, width) if kind < 0.8 else _octaves(rng, height, width)
        picture = picture + np.float32(rng.uniform(0.5, 1)) * _shape(rng, height, width) * (fill - picture)
    if rng.random() < 0.3:
        picture = picture + np.float32(rng.uniform(0, 0.03)) * rng.standard_normal(picture.shape).astype(np.float32)
    return picture


def _bytes(picture: Array) -> NDArray[np.uint8]:
    """(3, H, W) in [0, 1] -> uint8 (H, W, 3)."""
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)


def random_image(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Random overlapping shapes, gradients and photograph-like noise, uint8 (H, W, 3)."""
    return _bytes(_compose(rng, height, width, int(rng.integers(0, 12))))


def _window(picture: Array, top: float, left: float, height: int, width: int) -> Array:
    """Part of a picture (3, ·, ·) whose corner lies between pixels, bilinear."""
    t, s = int(top), int(left)
    ft, fs = np.float32(top - t), np.float32(left - s)
    part = picture[:, t : t + height + 1, s : s + width + 1]
    rows = part[:, :-1] * (1 - ft) + part[:, 1:] * ft
    return rows[:, :, :-1] * (1 - fs) + rows[:, :, 1:] * fs


def random_clip(rng: np.random.Generator, frames: int, height: int, width: int) -> NDArray[np.uint8]:
    """A random picture that drifts, with up to three shapes that move over it, uint8 (T, H, W, 3)."""
    margin = max(4, min(height, width) // 4)
    ground = _compose(rng, height + 2 * margin + 1, width + 2 * margin + 1, int(rng.integers(0, 8)))
    drift = rng.uniform(-1, 1, 2) * margin * (rng.random() < 0.6) * min(1.0, frames / 17)
    light = rng.uniform(-0.15, 0.15) * (rng.random() < 0.2)
    movers = []
    for _ in range(int(rng.integers(0, 4))):
        mask = _shape(rng, height + 2 * margin + 1, width + 2 * margin + 1)
        fill = _colour(rng) if rng.random() < 0.6 else _gradient(rng, height, width)
        movers.append((mask[None], fill, rng.uniform(-1, 1, 2) * margin * min(1.0, frames / 17)))
    clip = np.empty((frames, height, width, 3), np.uint8)
    for frame in range(frames):
        share = frame / (frames - 1) - 0.5 if frames > 1 else 0.0
        picture = _window(ground, margin + drift[0] * share, margin + drift[1] * share, height, width)
        for mask, fill, way in movers:
            moved = _window(mask, margin + way[0] * share, margin + way[1] * share, height, width)
            picture = picture + moved * (fill - picture)
        clip[frame] = _bytes(picture + np.float32(light * share))
    return clip
