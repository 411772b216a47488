"""Signed distances of the subjects' outlines.

Coordinates are in units of the subject's radius, x to the right and y *down*; distances are negative inside.
"""

import numpy as np

from opensora.datasets.world.canvas import Array

_STAR = np.array(
    [
        (r * np.sin(np.pi * k / 5), 0.06 - r * np.cos(np.pi * k / 5))
        for k, r in enumerate((1.1, 0.48) * 5)  # outer and inner corners in turn
    ],
    np.float32,
)
TRIANGLE = np.array([(0.0, -0.92), (0.93, 0.72), (-0.93, 0.72)], np.float32)
HULL = np.array([(-0.98, 0.36), (0.98, 0.36), (0.58, 0.84), (-0.62, 0.84)], np.float32)
MAIN_SAIL = np.array([(-0.1, -0.98), (-0.1, 0.2), (-0.82, 0.2)], np.float32)
JIB = np.array([(0.06, -0.82), (0.74, 0.2), (0.06, 0.2)], np.float32)
TAIL = np.array([(-0.35, 0.08), (-1.12, -0.22), (-0.98, 0.26), (-0.4, 0.34)], np.float32)
BEAK = np.array([(0.74, -0.36), (1.12, -0.2), (0.74, -0.1)], np.float32)


def polygon(x: Array, y: Array, corners: Array) -> Array:
    """Distance to a simple polygon with ``corners`` (N, 2)."""
    square = np.full(x.shape, np.inf, np.float32)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, 1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        wx, wy = x - ax, y - ay
        along = np.clip((wx * ex + wy * ey) / (ex * ex + ey * ey), 0, 1)
        np.minimum(square, (wx - ex * along) ** 2 + (wy - ey * along) ** 2, out=square)
        if ey != 0:
            inside ^= ((ay <= y) != (by <= y)) & (wx < ex * (wy / ey))
    distance = np.sqrt(square)
    return np.where(inside, -distance, distance)


def ellipse(x: Array, y: Array, cx: float, cy: float, rx: float, ry: float) -> Array:
    """Approximate distance to an ellipse, exact at its rim."""
    return (np.hypot((x - cx) / rx, (y - cy) / ry) - 1) * min(rx, ry)


def box(x: Array, y: Array, half: float, rounding: float) -> Array:
    """Distance to a square with rounded corners."""
    qx, qy = np.abs(x) - (half - rounding), np.abs(y) - (half - rounding)
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    return outside + np.minimum(np.maximum(qx, qy), 0) - rounding


def wing(x: Array, y: Array, lift: float) -> Array:
    """Distance to the bird's wing; ``lift`` in [0, 1] raises its tip."""
    tip = 0.25 - 1.2 * lift
    corners = np.array([(-0.42, 0.02), (0.26, 0.0), (0.02, 0.55 * tip), (-0.46, tip)], np.float32)
    return polygon(x, y, corners) - 0.05


def outline(kind: str, x: Array, y: Array, lift: float = 0.8) -> Array:
    """Distance to the outline of a subject of this kind, upright and looking to the right."""
    match kind:
        case "ball":
            return np.hypot(x, y) - 0.96
        case "square":
            return box(x, y, 0.84, 0.1)
        case "triangle":
            return polygon(x, y, TRIANGLE) - 0.07
        case "star":
            return polygon(x, y, _STAR) - 0.04
        case "boat":
            sails = np.minimum(polygon(x, y, MAIN_SAIL), polygon(x, y, JIB))
            mast = np.maximum(np.abs(x + 0.02) - 0.045, np.abs(y + 0.3) - 0.7)
            return np.minimum(np.minimum(polygon(x, y, HULL) - 0.03, sails - 0.02), mast)
        case "bird":
            body = np.minimum(ellipse(x, y, 0.0, 0.16, 0.68, 0.44), ellipse(x, y, 0.52, -0.22, 0.34, 0.32))
            limbs = np.minimum(polygon(x, y, TAIL) - 0.03, wing(x, y, lift))
            return np.minimum(body, np.minimum(limbs, polygon(x, y, BEAK) - 0.02))
    raise AssertionError(kind)
