"""A denoiser whose calls are divided among processes: first the rows of the batch, then the tokens.

Every process calls the network with the whole batch and gets the whole result; the network's own ``forward`` runs on
this process's part.

Legend: B rows of a batch, T, S token frames and tokens of a frame (STDiT3), L, N tokens of text
and video (MMDiT).
"""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from opensora.acceleration.parallel.heads import TokenSplit
from opensora.distributed.group import Group, shares
from opensora.models.mmdit.mmdit import MMDiT
from opensora.models.stdit.stdit3 import STDiT3
from opensora.nn.embed import repeat_rows

Denoiser = TypeVar("Denoiser", MMDiT, STDiT3)

VIDEO_TOKENS, TEXT_TOKENS = ("img", "img_ids", "cond"), ("txt", "txt_ids")
"""Arguments of MMDiT with a token axis, (B, N or L, ...)."""


def parallelize(network: Denoiser, group: Group) -> Denoiser:
    """Divide every later call of a network among the processes of a group; it is changed in place, for inference only.

    Rows come first, because they need not hear of each other: see :func:`row_parts`. What processes are left for one
    part share its tokens, and attention exchanges tokens for heads; see :mod:`opensora.acceleration.parallel.heads`.

    Args:
        network: the same on all processes, with the same weights, on this process's device. All of them call it with
            the same arguments, and all get the result.
        group: the processes; with one nothing is changed.

    Returns:
        The network.

    Raises:
        ValueError: another network, more processes than heads, packed text (``skip_y_embedder``), or a network that is
            parallel already. A call while gradients are recorded is refused as well.
    """
    if group.size == 1:
        return network
    if not isinstance(network, MMDiT | STDiT3):
        raise ValueError(f"got a {type(network).__name__}; expected MMDiT or STDiT3.")
    heads = network.config.num_heads
    if heads < group.size:
        raise ValueError(f"got {group.size} processes for {heads} attention heads; start at most {heads}.")
    if getattr(network.config, "skip_y_embedder", False):
        raise ValueError("got skip_y_embedder, with texts of a batch in one row; set it to False to divide rows.")
    division = Division(network, group)
    attending: list[Any] = [module for module in network.modules() if hasattr(module, "core")]
    for module in attending:
        module.core = division.tokens.around(module.core)
    network.register_forward_pre_hook(division.enter, with_kwargs=True)
    if isinstance(network, STDiT3):
        network.spatial_blocks[0].register_forward_pre_hook(division.enter_blocks)
    network.final_layer.register_forward_hook(division.leave)
    return network


def row_parts(rows: int, processes: int) -> int:
    """Into how many parts the rows of a batch are divided: the largest number that divides both.

    2 rows on 4 processes are 2 parts of one row, each by 2 processes that share its tokens; 3 rows on 4 stay together,
    and 4 processes share their tokens. Parts of different sizes would leave processes waiting.
    """
    return math.gcd(rows, processes)


class Division:
    """How the current call of a network is divided; its methods are hooks of the network."""

    def __init__(self, network: nn.Module, group: Group) -> None:
        self.group = group
        self.parameters = inspect.signature(network.forward)
        self.tokens = TokenSplit()
        self.parts = 1
        self.axis = 2 if isinstance(network, STDiT3) else 1
        """The axis of tokens that is split: S in (B, T, S, D) or N in (B, N, D)."""
        self.counts: Sequence[int] = ()
        """Tokens along it on each process of a part, at the end of the network."""

    def enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[()], dict[str, Any]]:
        """The arguments of this process's rows; for MMDiT, of its tokens."""
        if torch.is_grad_enabled():
            raise ValueError("a parallel network was called while gradients are recorded; use torch.inference_mode().")
        told = self.parameters.bind(*args, **kwargs).arguments
        batch = len(next(iter(told.values())))
        self.parts = row_parts(batch, self.group.size)
        self.tokens.group = self.group.split(self.parts)
        told = self._rows(told, batch)
        return (), told if self.axis == 2 else self._mmdit_tokens(told)

    def _rows(self, told: Mapping[str, Any], batch: int) -> dict[str, Any]:
        """Tensors (R, ...) of which row b of the batch has row b % R, to those of this part."""
        size = batch // self.parts
        start = size * (self.group.rank * self.parts // self.group.size)
        mine = {}
        for name, value in told.items():
            if isinstance(value, Tensor):
                rows = value[:batch] if name == "y_null" else value  # of which there may be more than needed
                value = repeat_rows(rows, batch, name)[start : start + size]
            mine[name] = value
        return mine

    def _mmdit_tokens(self, told: dict[str, Any]) -> dict[str, Any]:
        group = self.tokens.group
        self.counts, texts = (shares(told[name].shape[1], group.size) for name in ("img", "txt"))
        self.tokens.counts = [video + text for video, text in zip(self.counts, texts, strict=True)]
        for names, counts in ((VIDEO_TOKENS, self.counts), (TEXT_TOKENS, texts)):
            for name in names:
                if isinstance(told.get(name), Tensor):
                    told[name] = told[name].split(list(counts), dim=1)[group.rank]
        return told

    def enter_blocks(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Of the arguments of STDiT3's first block, the tokens (B, T, S, D) to those of this process."""
        x, *rest = args
        self.counts = self.tokens.counts = shares(x.shape[2], self.tokens.group.size)
        return x.split(list(self.counts), dim=2)[self.tokens.group.rank], *rest

    def leave(self, _: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        """What the last layer made of the tokens of this process, to that of all rows and tokens."""
        shapes = [[*out.shape[: self.axis], count, *out.shape[self.axis + 1 :]] for count in self.counts] * self.parts
        every = self.group.gather(out, shapes)
        size = len(self.counts)
        parts = [torch.cat(every[i : i + size], dim=self.axis) for i in range(0, len(every), size)]
        return torch.cat(parts)
