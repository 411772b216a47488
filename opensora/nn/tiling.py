"""Large clips through an autoencoder in overlapping tiles that fade into each other.

A tile is coded without its surroundings, so the result is close to that of the whole clip, not equal to it; published
networks are used this way. Legend: B batch, C channels, T frames, H, W rows and columns.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

Coder = Callable[[Tensor], Tensor]
"""(B, C, T, H, W) -> (B, C', T', H', W')."""
EachTile = Callable[[Callable[[Any], Tensor], Sequence[Any]], Iterable[Tensor]]
"""Codes tiles one by one and gives the results in order, as ``map`` does, which is the one of a single process."""


@dataclass(frozen=True)
class Tiles:
    """Tiles along one axis, in positions of the input and of the output."""

    size: int
    """Input positions of a tile."""
    step: int
    """Input positions from the start of a tile to that of the next."""
    keep: int
    """Output positions taken from a tile: those of `step`."""
    blend: int
    """Output positions at the start of a tile that fade over from the tile before."""

    @classmethod
    def overlapping(cls, size: int, out_size: int, overlap: float) -> Self:
        """Tiles of `size` positions, coded to `out_size`, that share the part `overlap` (0 to below 1) of themselves.

        Raises:
            ValueError: the shared part is no whole number of positions both before and after coding.
        """
        step, blend = int(size * (1 - overlap)), int(out_size * overlap)
        keep = out_size - blend
        if step < 1 or keep < 1 or step * out_size != keep * size:
            raise ValueError(
                f"tiles of {size} positions, coded to {out_size}, cannot overlap by {overlap}: that is "
                f"{size * overlap:g} before and {out_size * overlap:g} after coding, expected whole numbers smaller "
                "than the tile."
            )
        return cls(size, step, keep, blend)

    def starts(self, length: int, least: int = 1) -> list[int]:
        """First input position of every tile of an axis; behind the first, tiles of at least `least` positions."""
        return [start for start in range(0, length, self.step) if start == 0 or length - start >= least]


def code_in_space(coder: Coder, x: Tensor, tiles: Tiles, each_tile: EachTile = map) -> Tensor:
    """``coder(x)`` of (B, C, T, H, W), a tile of rows and columns at a time.

    A tile fades over from the one above, then from the one on its left, both already faded.
    """
    tops, lefts = tiles.starts(x.shape[3]), tiles.starts(x.shape[4])
    pieces = [x[:, :, :, top : top + tiles.size, left : left + tiles.size] for top in tops for left in lefts]
    coded = iter(each_tile(coder, pieces))
    above: list[Tensor] = []
    rows = []
    for _ in tops:
        row: list[Tensor] = []
        for _ in lefts:
            tile = next(coded)
            if above:
                tile = fade(above[len(row)], tile, tiles.blend, axis=3)
            if row:
                tile = fade(row[-1], tile, tiles.blend, axis=4)
            row.append(tile)
        rows.append(torch.cat([tile[:, :, :, : tiles.keep, : tiles.keep] for tile in row], dim=4))
        above = row
    return torch.cat(rows, dim=3)


def code_in_time(
    coder: Coder, x: Tensor, tiles: Tiles, causal: bool, least: int = 1, each_tile: EachTile = map
) -> Tensor:
    """``coder(x)`` of (B, C, T, H, W), a tile of frames at a time; the last tile reads and gives all that is left.

    Args:
        coder: of the tiles.
        x: any number of frames.
        tiles: along time.
        causal: whether a tile's first frame is coded on its own, as in networks that take 1 + n k frames. A tile then
            reads a frame more, and of all but the first tile the coded first frame is dropped.
        least: frames of a tile, the first one aside; fewer are left to the tile before.
        each_tile: how the coder is called.

    Returns:
        (B, C', T', H', W').
    """
    alone = int(causal)
    *starts, last = tiles.starts(x.shape[2], least + alone)
    pieces = [x[:, :, start : start + tiles.size + alone] for start in starts] + [x[:, :, last:]]
    before: Tensor | None = None
    parts = []
    for number, tile in enumerate(each_tile(coder, pieces)):
        first = alone
        if before is not None:
            tile, first = fade(before, tile[:, :, alone:], tiles.blend, axis=2), 0
        parts.append(tile if number == len(starts) else tile[:, :, : tiles.keep + first])
        before = tile
    return torch.cat(parts, dim=2)


def fade(before: Tensor, after: Tensor, extent: int, axis: int) -> Tensor:
    """`after`, whose first `extent` positions of `axis` (fewer in a shorter tensor) begin as the last ones of `before`.

    Position i is ``(1 - i / extent) before + (i / extent) after``, computed in float32 at least.
    """
    extent = min(before.shape[axis], after.shape[axis], extent)
    if extent == 0:
        return after
    precise = torch.promote_types(after.dtype, torch.float32)
    shape = [1] * after.ndim
    shape[axis] = extent
    weight = (torch.arange(extent, dtype=precise, device=after.device) / extent).view(shape)
    old = before.narrow(axis, before.shape[axis] - extent, extent)
    new, rest = after.split((extent, after.shape[axis] - extent), dim=axis)
    mixed = old.to(precise) * (1 - weight) + new.to(precise) * weight
    return torch.cat([mixed.to(after.dtype), rest], dim=axis)
