"""The camera's motion, from how the background moves: least squares on brightness changes outside the subjects."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.judge import pixels

Array: TypeAlias = NDArray[np.floating[Any]]
STILL_FLOW, STILL_ZOOM = 0.035, 0.06
"""Below this flow (short sides per second) or change of size (per second) the camera is at rest."""


@dataclass(frozen=True)
class CameraMotion:
    """What the camera does, and the background's mean velocity (short sides per second) and growth (per second)."""

    word: str
    dx: float
    dy: float
    growth: float


def _flow(first: Array, second: Array, weight: Array) -> Array:
    """Motion (dx, dy, growth) in pixels and shares that explains the change between two Lab frames (H, W, 3)."""
    height, width = weight.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - width / 2, y - height / 2
    total = np.zeros(3)
    moved = first
    for _ in range(4):
        mean = (moved + second) / 2
        gx = cv2.Sobel(mean, cv2.CV_32F, 1, 0, ksize=3) / 8
        gy = cv2.Sobel(mean, cv2.CV_32F, 0, 1, ksize=3) / 8
        change = second - moved
        design = np.stack([-gx, -gy, -(gx * x[..., None] + gy * y[..., None])], axis=-1).reshape(-1, 3)
        residual = change.reshape(-1)
        robust = np.repeat(weight.ravel(), 3) / (np.abs(residual) + 0.006)
        matrix = design.T @ (design * robust[:, None]) + np.diag([1e-3, 1e-3, 1e-3 * height**2])
        total += np.linalg.solve(matrix, design.T @ (residual * robust))
        scale = 1 + total[2]
        warp = np.array(
            [
                [scale, 0, total[0] + (1 - scale) * width / 2],
                [0, scale, total[1] + (1 - scale) * height / 2],
            ],
            np.float32,
        )
        moved = cv2.warpAffine(first, warp, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return total


def judge_camera(lab: Array, foreground: Array, fps: float) -> CameraMotion:
    """The camera's motion from frames (T, H, W, 3) and the subjects' probability (T, H, W)."""
    count, height, width, _ = lab.shape
    lag = max(1, round(fps / 6))
    if count <= lag:
        return CameraMotion("static", 0.0, 0.0, 0.0)
    kernel = np.ones((11, 11), np.uint8)
    soft = [cv2.GaussianBlur(pixels.without_drops(frame, 7), (0, 0), 1.6) for frame in lab]
    hidden = [cv2.dilate((f > 0.3).astype(np.uint8), kernel) for f in foreground]
    hidden = [np.maximum.accumulate(h, axis=0) for h in hidden]  # and the shadow below
    margin = np.zeros((height, width), np.float32)
    margin[5:-5, 5:-5] = 1
    flows = []
    for frame in range(0, count - lag, max(1, lag // 2)):
        weight = margin * (1 - np.maximum(hidden[frame], hidden[frame + lag]))
        flows.append(_flow(soft[frame], soft[frame + lag], weight))
    dx, dy, growth = np.median(np.array(flows), axis=0) * fps / lag / np.array([min(height, width)] * 2 + [1])
    scores = {
        "pan left": dx / STILL_FLOW,
        "pan right": -dx / STILL_FLOW,
        "tilt up": dy / STILL_FLOW,
        "tilt down": -dy / STILL_FLOW,
        "zoom in": growth / STILL_ZOOM,
        "zoom out": -growth / STILL_ZOOM,
    }
    best = max(scores, key=lambda word: scores[word])
    return CameraMotion(best if scores[best] >= 1 else "static", float(dx), float(dy), float(growth))
