"""What is told apart from a picture: one flat colour, and noise in which no pixel tells of the next."""

import numpy as np
import pytest

from opensora.pipelines.pixels import check_picture, likeness
from opensora.pipelines.result import GenerationError


def noise(frames: int = 17, height: int = 32, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)


def test_noise_is_named_and_a_picture_under_much_noise_is_not() -> None:
    with pytest.raises(GenerationError, match="pure noise"):
        check_picture(noise())
    ramp = np.linspace(0, 255, 48)[None, None, :, None] * 0.4 + noise() * 0.6
    check_picture(ramp.astype(np.uint8))
    assert likeness(noise()) < 0.02 and 0.3 < likeness(ramp.astype(np.uint8)) < 0.9


def test_likeness_of_stripes_is_that_of_their_direction() -> None:
    rows = np.broadcast_to(noise(1, 64, 1), (1, 64, 64, 3))
    assert likeness(rows) > 0.9 and likeness(rows.swapaxes(1, 2)) > 0.9
    check_picture(rows)


def test_a_few_pixels_or_one_colour_are_not_called_noise() -> None:
    assert likeness(noise(1, 16, 16)) == 1 and likeness(np.full((17, 32, 48, 3), 9, np.uint8)) == 1
    with pytest.raises(GenerationError, match="one flat colour"):
        check_picture(np.full((17, 32, 48, 3), 9, np.uint8))
