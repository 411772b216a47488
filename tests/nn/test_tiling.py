"""Tiles that fade into each other: where they lie, and that fading alone changes nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from opensora.nn.tiling import Tiles, code_in_space, code_in_time, fade


def same(x: Tensor) -> Tensor:
    return x


def test_a_fade_begins_with_the_tile_before() -> None:
    before, after = torch.zeros(1, 1, 6), torch.ones(1, 1, 5)
    assert fade(before, after, 4, axis=2).flatten().tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert fade(before[:, :, :2], after, 4, axis=2).flatten().tolist() == [0, 0.5, 1, 1, 1]
    assert fade(before, after[:, :, :0], 4, axis=2).numel() == 0


def test_a_fade_in_half_precision_is_rounded_once() -> None:
    before, after = torch.full((3,), 1.0), torch.full((3,), 1.0 + 2**-7)
    half = fade(before.bfloat16(), after.bfloat16(), 3, axis=0)
    assert torch.equal(half, fade(before, after, 3, axis=0).bfloat16())


def test_sizes_of_tiles() -> None:
    assert Tiles.overlapping(256, 32, 0.25) == Tiles(size=256, step=192, keep=24, blend=8)
    assert Tiles.overlapping(4, 16, 0.25) == Tiles(size=4, step=3, keep=12, blend=4)
    with pytest.raises(
        ValueError, match=r"32 positions, coded to 4, cannot overlap by 0.3: that is 9.6 before and 1.2"
    ):
        Tiles.overlapping(32, 4, 0.3)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 0.25, 0.5]))
def test_tiles_of_rows_and_columns_cover_the_picture(height: int, width: int, overlap: float) -> None:
    x = torch.rand(1, 2, 1, height, width)
    torch.testing.assert_close(code_in_space(same, x, Tiles.overlapping(8, 8, overlap)), x)


@settings(deadline=None)
@given(st.integers(1, 40), st.booleans(), st.integers(1, 3), st.sampled_from([0.0, 0.25, 0.5]))
def test_tiles_of_frames_cover_the_clip(frames: int, causal: bool, least: int, overlap: float) -> None:
    x, seen = torch.rand(1, 2, frames, 1, 1), []

    def coder(tile: Tensor) -> Tensor:
        seen.append(tile.shape[2])
        return tile

    torch.testing.assert_close(code_in_time(coder, x, Tiles.overlapping(8, 8, overlap), causal, least), x)
    assert min(seen[1:], default=least) >= least
    assert max(seen) < 8 + least + causal


def test_neighbouring_tiles_are_mixed_in_proportion() -> None:
    """Tiles that are coded to their own number show who is seen where."""
    numbers = iter(range(100))

    def coder(tile: Tensor) -> Tensor:
        return torch.full_like(tile, next(numbers))

    tiles = Tiles.overlapping(4, 4, 0.5)
    assert code_in_time(coder, torch.zeros(1, 1, 6, 1, 1), tiles, causal=False).flatten().tolist() == [
        *(0, 0),
        *(0, 0.5),
        *(1, 1.5),
    ]
