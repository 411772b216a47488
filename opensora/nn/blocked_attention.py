"""Attention for bfloat16 on a CPU, from plain matrix products on blocks of scores that stay in the cache.

torch's fused CPU kernel multiplies bfloat16 matrices no faster than float32 ones, and its backward is slower still.
Library matrix products are several times faster there, as long as the scores never leave the cache.

Legend: B batch, N queries, M keys, A heads, K width of a head, G = B * A.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK = 256 * 1024
"""Scores held at a time: half a megabyte of bfloat16, a share of one core's second-level cache."""
SHORT = 256
"""Up to so many keys torch's bfloat16 softmax is slower than a float32 one and a conversion; both round alike."""


def blocked_attention(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None = None) -> Tensor:
    """``softmax(q k^T / sqrt(K)) v``.

    Args:
        q: queries (B, N, A, K) of any floating dtype.
        k: keys (B, M, A, K).
        v: values (B, M, A, K).
        key_mask: (B, M) bool, True for the keys that exist; ``None`` for all.

    Returns:
        (B, N, A, K). The softmax is in float32; scores and probabilities are stored in the dtype of ``q``.
    """
    heads = q.shape[2]
    absent = None if key_mask is None else ~key_mask[:, None, None].expand(-1, heads, 1, -1).flatten(0, 1)
    q, k, v = (x.transpose(1, 2).flatten(0, 1).contiguous() for x in (q * q.shape[-1] ** -0.5, k, v))  # (G, N | M, K)
    out: Tensor = _Blocked.apply(q, k, v, absent)
    return out.unflatten(0, (-1, heads)).transpose(1, 2)


def _blocks(q: Tensor, k: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of G and N; several heads are taken together when their queries fit into one block."""
    (g, n, _), m = q.shape, k.shape[1]
    rows = min(n, max(1, BLOCK // m))
    heads = max(1, BLOCK // (n * m)) if rows == n else 1
    for i in range(0, g, heads):
        for j in range(0, n, rows):
            yield slice(i, i + heads), slice(j, j + rows)


def _probabilities(q: Tensor, k: Tensor, absent: Tensor | None) -> Tensor:
    scores = torch.bmm(q, k.transpose(1, 2))
    if absent is not None:
        scores.masked_fill_(absent, -torch.inf)
    if scores.shape[-1] <= SHORT:
        return scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    return scores.softmax(-1)


class _Blocked(torch.autograd.Function):
    """Blocks of scores, made again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, absent: Tensor | None) -> Tensor:
        out = torch.empty_like(q)
        for g, n in _blocks(q, k):
            p = _probabilities(q[g, n], k[g], None if absent is None else absent[g])
            out[g, n] = torch.bmm(p, v[g])
        ctx.save_for_backward(q, k, v, absent)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, absent = ctx.saved_tensors
        grad = grad.contiguous()
        dq = torch.empty_like(q)
        dk, dv = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)
        for g, n in _blocks(q, k):
            p = _probabilities(q[g, n], k[g], None if absent is None else absent[g])
            dv[g] += torch.bmm(p.transpose(1, 2), grad[g, n])
            dp = torch.bmm(grad[g, n], v[g].transpose(1, 2))
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            dq[g, n] = torch.bmm(ds, k[g])
            dk[g] += torch.bmm(ds.transpose(1, 2), q[g, n])
        return dq, dk.to(k.dtype), dv.to(v.dtype), None
