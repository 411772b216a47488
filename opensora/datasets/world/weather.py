"""Rain and snow: a change of light, and drops or flakes that fall through the frame."""

from collections.abc import Callable

import numpy as np

from opensora.datasets.world.canvas import Array, View, cover, rgb

Fall = Callable[[View], Array]
"""Opacity (H, W) of drops or flakes in one frame."""

_LIGHT = {"rain": (rgb(128, 140, 156), 0.36), "snow": (rgb(226, 233, 242), 0.34)}
_TINT = {"rain": rgb(232, 240, 250), "snow": rgb(255, 255, 255)}


def light(weather: str, picture: Array, strength: float = 1.0) -> None:
    """Turn the light of a picture (3, H, W) to that of the weather, in place."""
    if weather in _LIGHT:
        colour, share = _LIGHT[weather]
        picture += np.float32(share * strength) * (colour - picture)


def _streaks(rng: np.random.Generator, height: int, width: int, pixels: float) -> Array:
    """A tile (H, W) of slanted drops that repeats downwards."""
    tile = np.zeros((height, width), np.float32)
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / pixels
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / pixels
    tall, wide = height / pixels, width / pixels
    for _ in range(round(26 * wide * tall)):
        cx, cy, length = rng.uniform(-0.1, wide + 0.1), rng.uniform(0, tall), rng.uniform(0.05, 0.085)
        v = (y - np.float32(cy) + tall / 2) % np.float32(tall) - tall / 2
        rows = np.flatnonzero(np.abs(v[:, 0]) < 0.12)
        v = v[rows]
        u = x - np.float32(cx) + v * np.float32(0.22)
        drop = np.maximum(np.abs(u) - 0.006, np.abs(v) - length).astype(np.float32)
        tile[rows] = np.maximum(tile[rows], cover(drop, pixels) * np.float32(rng.uniform(0.3, 0.5)))
    return tile


def _flakes(rng: np.random.Generator, height: int, width: int, pixels: float) -> Array:
    """A tile (H, W) of soft flakes that repeats downwards."""
    tile = np.zeros((height, width), np.float32)
    y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / pixels
    x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / pixels
    tall, wide = height / pixels, width / pixels
    for _ in range(round(24 * wide * tall)):
        cx, cy, radius = rng.uniform(0, wide), rng.uniform(0, tall), rng.uniform(0.011, 0.02)
        v = (y - np.float32(cy) + tall / 2) % np.float32(tall) - tall / 2
        rows = np.flatnonzero(np.abs(v[:, 0]) < 0.04)
        flake = cover(np.hypot(x - np.float32(cx), v[rows]) - np.float32(radius), pixels * 0.6)
        tile[rows] = np.maximum(tile[rows], flake * np.float32(rng.uniform(0.65, 0.95)))
    return tile


def fall(weather: str, rng: np.random.Generator, height: int, width: int) -> Fall | None:
    """What falls, or None in clear weather."""
    pixels = float(min(height, width))
    if weather == "rain":
        tile, speed = _streaks(rng, height, width, pixels), 1.5
    elif weather == "snow":
        tile, speed = _flakes(rng, height, width, pixels), 0.16
    else:
        return None

    def opacity(view: View) -> Array:
        shift = speed * pixels * view.time
        whole, part = int(np.floor(shift)), np.float32(shift % 1)
        rolled = np.roll(tile, whole, axis=0)
        if weather == "rain":
            return rolled
        return rolled * (1 - part) + np.roll(rolled, 1, axis=0) * part

    return opacity


def sprinkle(weather: str, picture: Array, opacity: Array) -> None:
    """Paint what falls over the picture, in place."""
    picture += opacity * (_TINT[weather] - picture)
