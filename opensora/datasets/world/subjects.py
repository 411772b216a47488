"""Painting one subject: colour, shading, details, outline and shadow."""

import numpy as np

from opensora.datasets.world import shapes
from opensora.datasets.world.canvas import Array, cover, fade, rgb

PAINT = {
    "red": rgb(224, 38, 44),
    "orange": rgb(247, 132, 22),
    "yellow": rgb(252, 214, 38),
    "green": rgb(26, 152, 70),
    "blue": rgb(38, 92, 224),
    "purple": rgb(142, 56, 190),
    "white": rgb(250, 250, 251),
    "black": rgb(30, 30, 35),
}
"""The colour of each colour word, (3, 1, 1)."""
PIVOT = {"triangle": (0.0, 0.17), "star": (0.0, 0.06), "boat": (-0.03, 0.165)}
"""Centre of mass around which a subject turns, where it is not the middle of its frame."""
_RIM = {"white": rgb(128, 134, 146), "black": rgb(206, 209, 216)}


def _tinted(colour: Array, amount: float) -> Array:
    """The colour mixed with white (positive amount) or black (negative)."""
    return colour + np.float32(abs(amount)) * (np.float32(amount > 0) - colour)


def _lay(body: Array, mask: Array, colour: Array) -> Array:
    return body + mask * (colour - body)


def _details(kind: str, name: str, body: Array, x: Array, y: Array, sharpness: float, lift: float) -> Array:
    """Parts in tones of the subject's own colour: a band, sails, a wing, an eye."""
    colour = PAINT[name]
    second = _tinted(colour, 0.24) if name == "black" else _tinted(colour, -0.24 if kind == "ball" else -0.16)
    if kind == "ball":
        return _lay(body, cover(np.abs(x) - 0.2, sharpness), second)
    if kind == "boat":
        hull = cover(shapes.polygon(x, y, shapes.HULL) - 0.03, sharpness)
        return _lay(body, hull, second)
    if kind == "bird":
        body = _lay(body, cover(shapes.polygon(x, y, shapes.BEAK) - 0.02, sharpness), rgb(240, 176, 60))
        body = _lay(body, cover(shapes.wing(x, y, lift), sharpness), second)
        eye = rgb(245, 245, 245) if name == "black" else rgb(30, 30, 34)
        return _lay(body, cover(np.hypot(x - 0.6, y + 0.3) - 0.07, sharpness), eye)
    return body


def paint(
    kind: str, colour: str, x: Array, y: Array, turn: float, radius: float, flip: bool, lift: float
) -> tuple[Array, Array]:
    """Opacity (h, w) and colours (3, h, w) of a subject; ``x`` and ``y`` are pixels from its centre."""
    u, v = np.broadcast_arrays(x / np.float32(radius), y / np.float32(radius))
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    px, py = PIVOT.get(kind, (0.0, 0.0))
    a, b = (u - px) * cos + (v - py) * sin + px, (v - py) * cos - (u - px) * sin + py
    if flip:
        a = -a
    distance = shapes.outline(kind, a, b, lift)
    base = PAINT[colour]
    light = np.float32(0.13) if colour in ("black", "white") else np.float32(0.2)
    tone = (0.5 - fade(u * 0.35 + v, -1.1, 1.1)) * light
    body = base + np.maximum(tone, 0) * (1 - base) + np.minimum(tone, 0) * base
    body = _details(kind, colour, body, a, b, radius, lift)
    if kind == "ball":
        shine = 1 - fade(np.hypot(u + 0.34, v + 0.4), 0.02, 0.42)
        body = _lay(body, np.float32(0.42) * shine, rgb(255, 255, 255))
        body = body * (1 - np.float32(0.2) * fade(np.hypot(u + 0.12, v + 0.16), 0.7, 1.15))
    rim = _RIM.get(colour, _tinted(base, -0.34))
    width = max(0.055, 1.1 / radius)
    body = _lay(body, fade(distance, -width - 0.6 / radius, -width + 0.6 / radius), rim)
    return cover(distance, radius), body.astype(np.float32)


def shadow(x: Array, y: Array, width: float, opacity: float) -> Array:
    """Opacity (H, W) of a soft flat shadow; coordinates from its centre in units of the frame's short side."""
    distance = np.hypot(x / np.float32(width), y / np.float32(0.26 * width))
    return np.float32(opacity) * (1 - fade(distance, 0.35, 1.15))
