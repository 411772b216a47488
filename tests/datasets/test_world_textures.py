"""Random textures."""

import numpy as np

from opensora.datasets.textures import random_clip, random_image


def test_textures_are_repeatable_varied_and_of_any_size() -> None:
    for size in ((16, 16), (64, 112), (97, 33)):
        image = random_image(np.random.default_rng(1), *size)
        assert image.shape == (*size, 3) and image.dtype == np.uint8
        np.testing.assert_array_equal(image, random_image(np.random.default_rng(1), *size))
    rng = np.random.default_rng(2)
    means = np.array([random_image(rng, 32, 32).mean((0, 1)) for _ in range(40)])
    assert means.std(axis=0).min() > 20


def test_clips_move() -> None:
    rng = np.random.default_rng(3)
    clips = [random_clip(rng, 17, 48, 64) for _ in range(20)]
    assert all(c.shape == (17, 48, 64, 3) and c.dtype == np.uint8 for c in clips)
    moving = [np.abs(c[0].astype(int) - c[-1]).mean() > 1 for c in clips]
    assert sum(moving) >= 10
    assert random_clip(rng, 1, 32, 32).shape == (1, 32, 32, 3)
