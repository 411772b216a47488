"""Rotary position embedding (Su et al. 2021) of tokens on a grid, or with places of their own.

Legend: B batch, N tokens, T, H, W token frames, rows and columns, A heads, K width of a head, P its rotated pairs.
Pairs are neighbours: channels (2i, 2i + 1) of an axis turn by ``position * 10000 ** (-2i / dim)`` radians. Some
networks pair channels (i, i + K / 2) of a head instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from opensora.nn.compat import Compat

THETA = 10000.0


@dataclass(frozen=True)
class Rotation:
    """How far every pair of channels turns."""

    turns: Tensor
    """(T, H, W, P), or (B, N, P) without a grid; complex64 of modulus 1. An axis on which nothing changes has length 1.
    """
    channels: Tensor | None
    """(2 * P,) int64, the channels of a head that turn, pair by pair; ``None`` when all K do, in order."""
    halves: bool = False
    """Pair p is the channels (p, p + P) of a head, not (2p, 2p + 1)."""


def frequencies(dim: int, theta: float = THETA, dtype: torch.dtype = torch.float32) -> Tensor:
    """Angle per position of each pair, (dim / 2,)."""
    return 1.0 / (theta ** (torch.arange(0, dim, 2, dtype=dtype) / dim))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn queries or keys (B, T, H, W, A, K) or (B, N, A, K); float32 inside, the dtype of ``x`` is kept."""
    turns = rotation.turns.unsqueeze(-2)  # (T, H, W, 1, P) or (B, N, 1, P)
    if rotation.halves:
        return _turn_halves(x, turns)
    if rotation.channels is None:
        return _Turn.apply(x, turns)
    out = x.clone()
    out[..., rotation.channels] = _Turn.apply(x[..., rotation.channels], turns)
    return out


class _Turn(torch.autograd.Function):
    """Complex product with a constant; its derivative turns back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turns: Tensor) -> Tensor:
        ctx.save_for_backward(turns)
        return _turn(x, turns)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (turns,) = ctx.saved_tensors
        return _turn(grad.contiguous(), turns.conj()), None


def _turn(x: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)


def _turn_halves(x: Tensor, turns: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    cos, sin = turns.real, turns.imag
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def place_rotation(places: Tensor, axes: Sequence[int], theta: float, halves: bool) -> Rotation:
    """Table for tokens that are given with their places on several axes; all channels of a head turn.

    Args:
        places: (B, N, number of axes) of any dtype.
        axes: channels that turn with each axis, in order; even numbers.
        theta: the slowest pair of an axis turns by about ``1 / theta`` per position.
        halves: see :attr:`Rotation.halves`. Published networks of this form compute angles in float32, and those of the
            other in float64; so does this.
    """
    dtype = torch.float32 if halves else torch.float64
    where = device_with(dtype, places.device)
    speeds = [frequencies(dim, theta, dtype).to(where) for dim in axes]
    angles = torch.cat([places[..., i, None].to(where, dtype) * speed for i, speed in enumerate(speeds)], dim=-1)
    cos, sin = (table.float().to(places.device) for table in (angles.cos(), angles.sin()))
    return Rotation(torch.complex(cos, sin), None, halves)


def device_with(dtype: torch.dtype, device: torch.device) -> torch.device:
    """Where a dtype can be computed with: on the device itself, or on the processor for float64 and Apple's GPUs, which
    have none."""
    return torch.device("cpu") if dtype is torch.float64 and device.type == "mps" else device


class RotaryEmbedding(nn.Module):
    """Tables for a network whose heads have ``head_dim`` channels.

    With ``axial`` a head's channels are three chunks that turn with T, H and W, each by ``head_dim // 3`` channels;
    without it all channels turn with T. ``freqs`` is part of the published file format; the angles are always computed
    from the formula, so that a network converted to bfloat16 keeps exact ones.
    """

    def __init__(self, head_dim: int, axial: bool, compat: Compat = "right") -> None:
        super().__init__()
        self.dim = head_dim // 3 if axial else head_dim
        sizes = [len(chunk) for chunk in torch.arange(head_dim).chunk(3)] if axial else [head_dim]
        if self.dim % 2 or min(sizes) < self.dim:
            raise ValueError(
                f"heads of {head_dim} channels cannot be rotated {'on three axes' if axial else 'in pairs'}: "
                f"use a multiple of {6 if axial else 2}."
            )
        self.head_dim, self.axial, self.compat = head_dim, axial, compat
        self.register_buffer("freqs", frequencies(self.dim))
        self.freqs: Tensor

    def check(self) -> None:
        """Raise ValueError if loaded frequencies are not those of the formula, whatever precision they were kept in."""
        if not torch.allclose(self.freqs.float().cpu(), frequencies(self.dim), rtol=2**-7, atol=1e-7):
            raise ValueError(f"the checkpoint has other rotary frequencies than theta = {THETA:g} gives; unsupported.")

    def forward(self, grid: tuple[int, int, int], window: tuple[int, int, int], scale: float) -> Rotation:
        """Table for tokens on ``grid`` (T, H, W) whose positions restart in every ``window`` and, on H and W, are
        divided by ``scale``. The last few tables are kept."""
        dtype = self.freqs.dtype if self.compat == "published" else torch.float32
        return _rotation(grid, window, scale, self.head_dim, self.axial, dtype, self.freqs.device)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
@torch.no_grad()
def _rotation(
    grid: tuple[int, int, int],
    window: tuple[int, int, int],
    scale: float,
    head_dim: int,
    axial: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Rotation:
    dim = head_dim // 3 if axial else head_dim
    turns = [axis_turns(grid[0], min(window[0], grid[0]), 1.0, dim, dtype)]  # (T, dim / 2)
    channels = torch.arange(head_dim)
    if axial:
        turns += [axis_turns(n, min(w, n), scale, dim, dtype) for n, w in zip(grid[1:], window[1:], strict=True)]
        channels = torch.cat([chunk[:dim] for chunk in channels.chunk(3)])
        lengths = [len(t) for t in turns]
        shapes = [(lengths[0], 1, 1), (1, lengths[1], 1), (1, 1, lengths[2])]
        full = [t.view(*s, -1).expand(*lengths, -1) for t, s in zip(turns, shapes, strict=True)]
        table = torch.cat(full, dim=-1)
    else:
        table = turns[0].view(len(turns[0]), 1, 1, -1)
    whole = len(channels) == head_dim
    return Rotation(table.to(device), None if whole else channels.to(device))


def axis_turns(length: int, window: int, scale: float, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Turns of ``length`` positions that restart every ``window``, (length, dim / 2) complex64.

    With one position in a window nothing turns, and one row is returned for all. A ``dtype`` below float32 reproduces
    the published networks converted to it: positions, frequencies, angles, cosines and sines are each rounded to it.
    """
    positions = torch.arange(window).to(dtype) / scale
    angles = torch.outer(positions, frequencies(dim).to(dtype))
    turns = torch.complex(angles.cos().float(), angles.sin().float())
    if window == 1:
        return turns
    return turns.repeat(-(-length // window), 1)[:length]
