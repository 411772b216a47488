"""Imperfect pictures: what generators and codecs do to a clip, imitated."""

import cv2
import numpy as np
from numpy.typing import NDArray


def degrade(clip: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Soften, resample, stain and tint a clip (T, H, W, 3) by random amounts, as imperfect generators do."""
    height, width = clip.shape[1:3]
    short = min(height, width)
    sigma, factor = rng.uniform(0, 0.014) * short, rng.uniform(1, 5)
    noise, stain = rng.uniform(0, 6), rng.uniform(0, 7)
    gain, offset = rng.uniform(0.93, 1.07, 3), rng.uniform(-7, 7, 3)
    ghost = rng.uniform(0, 0.3)
    result = []
    for number, frame in enumerate(clip):
        picture = frame.astype(np.float32)
        if number and ghost > 0.15:
            picture = (1 - ghost / 3) * picture + ghost / 3 * clip[number - 1]
        if rng.random() < 0.8 and factor > 1.5:
            small = cv2.resize(picture, (round(width / factor), round(height / factor)), interpolation=cv2.INTER_AREA)
            picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        if sigma > 0.3:
            picture = cv2.GaussianBlur(picture, (0, 0), sigma)
        coarse = rng.normal(0, stain, (height // 8, width // 8, 3)).astype(np.float32)
        picture = picture + cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        picture = picture * gain + offset + rng.normal(0, noise, picture.shape)
        result.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(result)
