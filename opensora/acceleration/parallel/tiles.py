"""Tiles of an autoencoder, divided among processes. Every tile is coded as in one process: results are the same."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from opensora.distributed.group import Group

VAE = TypeVar("VAE", bound=nn.Module)


def parallelize_tiles(vae: VAE, group: Group) -> VAE:
    """Divide the tiles and windows of every later call of an autoencoder among the processes of a group.

    It is changed in place, for inference only. All processes call it with the same arguments, and all get the result.
    What it does not cut (a small picture, a short clip) is computed by all of them.

    Args:
        vae: the same on all processes, on this process's device.
        group: the processes; with one nothing is changed.

    Returns:
        The autoencoder.

    Raises:
        ValueError: a network that codes nothing in tiles or windows.
    """
    if group.size == 1:
        return vae
    owners: list[Any] = [module for module in vae.modules() if hasattr(module, "each_tile")]
    if not owners:
        raise ValueError(f"got a {type(vae).__name__}; expected an autoencoder that codes tiles with `each_tile`.")
    divided = DividedTiles(group)
    for module in owners:
        module.each_tile = divided
    return vae


class DividedTiles:
    """``map`` over processes: each has some of the tiles, and gets the results of all in order.

    The group is cut into as many parts as there are tiles, or processes; where a part has several processes they
    divide the tiles that its tile is cut into (rows and columns of a piece of time), or all compute it.
    """

    def __init__(self, group: Group) -> None:
        self.group = group

    def __call__(self, coder: Callable[[Any], Tensor], pieces: Sequence[Any]) -> Iterator[Tensor]:
        """``coder`` of every piece.

        Raises:
            RankFailure: another process failed or is gone.
            ValueError: gradients are recorded.
        """
        if torch.is_grad_enabled():
            raise ValueError("parallel tiles were coded while gradients are recorded; use torch.inference_mode().")
        group = self.group
        parts = group.cut(min(len(pieces), group.size))
        own = next(i for i, part in enumerate(parts) if group.rank in part)
        inner = group.split(len(parts))
        tile = torch.empty(0)
        for start in range(0, len(pieces), len(parts)):
            turn = pieces[start : start + len(parts)]
            if own < len(turn):
                self.group = inner
                try:
                    tile = coder(turn[own])
                finally:
                    self.group = group
            speaks = own < len(turn) and group.rank == parts[own][0]
            every = _gathered(group, tile if speaks else tile[:0])
            yield from (every[part[0]] for part in parts[: len(turn)])


def _gathered(group: Group, tile: Tensor) -> list[Tensor]:
    """Tensors of different shapes and as many axes of all processes."""
    told = group.gather(torch.tensor(tile.shape), [(tile.ndim,)] * group.size)
    return group.gather(tile, [shape.tolist() for shape in told])
