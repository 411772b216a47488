"""Scaled dot-product attention: the one attention call of all networks, and the layers around it.

Legend: B batch, T, H, W token frames, rows and columns, N = T * H * W tokens, M keys, A heads, K width of a head,
D = A * K width of the network.

A layer projects queries, keys and values and calls a core: :func:`attention`, :func:`sequence_attention` for tokens
that know their places, or :func:`grid_attention` for tokens on a grid. The cores own windows, rotary embedding, masks
and softmax, and see all heads of all tokens, so sequence parallelism can wrap them without a second forward: every
module that calls one of the last two holds it as ``core``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from opensora.nn.blocked_attention import blocked_attention
from opensora.nn.norm import RMSNorm
from opensora.nn.rope import Rotation, rotate

Grid = tuple[int, int, int]
"""Tokens along T, H and W."""
Core = Callable[..., Tensor]
"""Attention with the arguments of :func:`sequence_attention` or of :func:`grid_attention`."""


def attention(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None = None) -> Tensor:
    """``softmax(q k^T / sqrt(K)) v`` for every head; the back end follows from the device and the dtype.

    On a CPU in bfloat16 it is :func:`opensora.nn.blocked_attention.blocked_attention`: torch's own kernel has no
    fast bfloat16 matrix product there; everywhere else it is ``torch.nn.functional.scaled_dot_product_attention``.

    Args:
        q: queries (B, N, A, K). Under autocast all three are converted to its dtype.
        k: keys (B, M, A, K).
        v: values (B, M, A, K).
        key_mask: (B, M) bool, True for the keys that exist; ``None`` for all. Every row needs at least one.

    Returns:
        (B, N, A, K).
    """
    if not q.is_meta and torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    if q.device.type == "cpu" and q.dtype is torch.bfloat16:
        return blocked_attention(q, k, v, key_mask)
    mask = None if key_mask is None else key_mask[:, None, None, :]
    out = functional.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask)
    return out.transpose(1, 2)


def sequence_attention(q: Tensor, k: Tensor, v: Tensor, rotation: Rotation | None = None) -> Tensor:
    """Attention of all tokens of a sequence to all.

    Args:
        q: queries (B, N, A, K).
        k: keys, same shape.
        v: values, same shape.
        rotation: rotary table (B, N, P) for the places of the tokens; ``None`` for no rotary embedding.

    Returns:
        (B, N, A, K).
    """
    if rotation is not None:
        q, k = rotate(q, rotation), rotate(k, rotation)
    return attention(q, k, v)


def grid_attention(
    q: Tensor, k: Tensor, v: Tensor, grid: Grid, window: Grid, rotation: Rotation | None = None
) -> Tensor:
    """Attention among the tokens of each window of a grid, T slowest and W fastest.

    The grid is cut from its origin; what is left at the far end of an axis forms smaller windows. That equals padding
    to whole windows with masked keys, without the padding.

    Args:
        q: queries (B, N, A, K), N = T * H * W.
        k: keys, same shape.
        v: values, same shape.
        grid: tokens along T, H, W.
        window: largest window along T, H, W.
        rotation: rotary table for this grid and window; ``None`` for no rotary embedding.

    Returns:
        (B, N, A, K).
    """
    q, k, v = (x.unflatten(1, grid) for x in (q, k, v))
    if rotation is not None:
        q, k = rotate(q, rotation), rotate(k, rotation)
    return _windowed(q, k, v, window).flatten(1, 3)


def _windowed(q: Tensor, k: Tensor, v: Tensor, window: Grid) -> Tensor:
    """(B, T, H, W, A, K) for each: cut off the remainder of an axis, or attend when there is none."""
    for axis, size in enumerate(window, start=1):
        length = q.shape[axis]
        rest = length % size
        if rest and length > size:
            near, far = ([x.split((length - rest, rest), dim=axis)[i] for x in (q, k, v)] for i in (0, 1))
            parts = [_windowed(x[0], x[1], x[2], window) for x in (near, far)]
            return torch.cat(parts, dim=axis)
    (b, t, h, w, a, width), (wt, wh, ww) = q.shape, (min(s, n) for s, n in zip(window, q.shape[1:4], strict=True))
    counts = (t // wt, h // wh, w // ww)

    def gather(x: Tensor) -> Tensor:  # (B, T, H, W, A, K) -> (B * windows, tokens of a window, A, K)
        x = x.reshape(b, counts[0], wt, counts[1], wh, counts[2], ww, a, width)
        return x.permute(0, 1, 3, 5, 2, 4, 6, 7, 8).reshape(-1, wt * wh * ww, a, width)

    out = attention(gather(q), gather(k), gather(v))
    out = out.reshape(b, *counts, wt, wh, ww, a, width).permute(0, 1, 4, 2, 5, 3, 6, 7, 8)
    return out.reshape(b, t, h, w, a, width)


class SelfAttention(nn.Module):
    """Attention of grid tokens among themselves, with per-head RMS norm of queries and keys."""

    def __init__(self, dim: int, num_heads: int, qk_norm: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.core: Core = grid_attention
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = RMSNorm(dim // num_heads) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(dim // num_heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, grid: Grid, window: Grid, rotation: Rotation | None = None) -> Tensor:
        """Tokens (B, N, D) to (B, N, D); see :func:`grid_attention` for ``grid``, ``window`` and ``rotation``."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)  # (B, N, A, K)
        out = self.core(self.q_norm(q), self.k_norm(k), v, grid, window, rotation)
        return self.proj(out.flatten(2))


@dataclass(frozen=True)
class Ragged:
    """Sequences of a batch, their tokens at the front."""

    tokens: Tensor
    """(B, M, D); what stands behind a sequence's end is never read."""
    mask: Tensor | None
    """(B, M) bool, True where there is a token; ``None`` when all sequences have M tokens."""


class CrossAttention(nn.Module):
    """Attention of tokens to the text of their own sample."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_linear = nn.Linear(dim, dim)
        self.kv_linear = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, text: Ragged) -> Tensor:
        """Tokens (B, N, D), to which ``text`` of the same batch size and width belongs, to (B, N, D)."""
        q = self.q_linear(x).unflatten(-1, (self.num_heads, -1))  # (B, N, A, K)
        k, v = self.kv_linear(text.tokens).unflatten(-1, (2, self.num_heads, -1)).unbind(2)  # (B, M, A, K)
        return self.proj(attention(q, k, v, text.mask).flatten(2))
