"""The map from latents to small pictures: what one clip and several pictures at once look like."""

import numpy as np
import torch

from opensora.pipelines.preview import Preview

PREVIEW = Preview(weight=((1.0, 0.0), (0.0, 1.0), (0.0, 0.0)), bias=(0.0, 0.0, 1.0))


def test_a_clip_is_one_small_picture_for_each_latent_frame() -> None:
    latents = torch.zeros(1, 2, 3, 4, 6)
    latents[:, 0, 1] = -1.0
    frames = PREVIEW.frames(latents)
    assert frames.shape == (3, 4, 6, 3) and frames.dtype == np.uint8
    assert frames[0, 0, 0].tolist() == [128, 128, 255] and frames[1, 0, 0].tolist() == [0, 128, 255]


def test_pictures_that_are_made_together_are_a_sheet_in_rows_from_the_left() -> None:
    latents = torch.linspace(-1, 1, 5)[:, None, None, None, None].expand(5, 2, 1, 4, 6)
    sheet = PREVIEW.frames(latents)
    assert sheet.shape == (1, 8, 18, 3)
    tiles = sheet[0].reshape(2, 4, 3, 6, 3).transpose(0, 2, 1, 3, 4).reshape(6, 24, 3)
    assert [tile[0].tolist() for tile in tiles] == [[v, v, 255] for v in (0, 64, 128, 191, 255)] + [[0, 0, 0]]
    assert all((tile == tile[0]).all() for tile in tiles)
