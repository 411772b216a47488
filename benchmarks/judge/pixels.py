"""Which pixels of a clip show a subject, and of which colour: a small network over hand-made pixel features.

Everything is judged from decoded pixels alone. A clip is brought to ``WORKING`` pixels on its short side.

Legend: T frames, H and W working size, F features, C classes (background, then the eight colours).
"""

from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.judge.network import Network
from opensora.datasets.world.spec import COLOURS

Array: TypeAlias = NDArray[np.floating[Any]]
WORKING = 80
CLASSES = ("background", *COLOURS)


def working_lab(clip: NDArray[np.uint8]) -> Array:
    """uint8 (T, h, w, 3) -> CIELAB / 100 at working size, float32 (T, H, W, 3)."""
    scale = WORKING / min(clip.shape[1:3])
    size = (round(clip.shape[2] * scale), round(clip.shape[1] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    frames = [cv2.resize(frame, size, interpolation=method).astype(np.float32) / 255 for frame in clip]
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2LAB) for frame in frames]) / np.float32(100)


def without_drops(frame: Array, window: int) -> Array:
    """A Lab frame (H, W, 3) without details smaller than half the window, such as rain or snow: a median filter."""
    coded = np.clip(frame * np.float32(100) + np.array([0, 128, 128], np.float32), 0, 255).astype(np.uint8)
    calm = cv2.medianBlur(coded, window).astype(np.float32) - np.array([0, 128, 128], np.float32)
    return calm / np.float32(100)


def features(lab: Array) -> Array:
    """Pixel features (T, H, W, F): the colour, and how it differs from its surroundings in space and time."""
    count, height, width, _ = lab.shape
    short = min(height, width)
    row = np.median(lab, axis=2, keepdims=True)
    over_time = np.median(lab, axis=0, keepdims=True)
    parts = [lab, lab - row, lab - over_time]
    for share in (0.06, 0.22, 0.6):
        window = 2 * round(share * short / 2) + 1
        near = [cv2.blur(frame, (window, window), borderType=cv2.BORDER_REFLECT) for frame in lab]
        parts.append(lab - np.stack(near))
    corners = np.median(lab[:, :: height - 1], axis=2)  # upper and lower edge of each frame, (T, 2, 3)
    parts.append(np.broadcast_to(corners.reshape(count, 1, 1, 6), (count, height, width, 6)))
    y = (np.arange(height, dtype=np.float32) + 0.5) / height - 0.5
    parts.append(np.broadcast_to(y[None, :, None, None], (count, height, width, 1)))
    chroma = np.hypot(lab[..., 1:2], lab[..., 2:3])
    parts.append(chroma)
    return np.concatenate(parts, axis=-1).astype(np.float32)


def probabilities(lab: Array, network: Network) -> Array:
    """Probability of each class at every pixel, (T, H, W, C)."""
    shape = lab.shape[:3]
    given = features(lab)
    return np.stack([network.probabilities(frame.reshape(-1, frame.shape[-1])) for frame in given]).reshape(*shape, -1)
