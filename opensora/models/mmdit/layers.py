"""Layers of MMDiT.

Legend: B batch, N tokens, A heads, K width of a head, D = A * K width of the network.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from opensora.nn.embed import MAX_PERIOD, sinusoid
from opensora.nn.norm import modulated_layer_norm, rms_norm

UNITS = 1000.0
"""Times and guidance scales are embedded in units of 1/1000."""
FREQUENCY_DIM = 256
"""Sinusoids of one embedded number."""


def time_sinusoid(t: Tensor, dim: int = FREQUENCY_DIM) -> Tensor:
    """Sinusoids of ``1000 t``; numbers (B,) of any dtype to (B, dim) float32.

    The product is taken in float32 whatever ``t`` comes in, as the compiled published network does; run without
    compilation it rounds ``1000 t`` to bfloat16 again.
    """
    return sinusoid(UNITS * t.float(), dim, _frequencies(dim // 2, t.device))


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _frequencies(half: int, device: torch.device) -> Tensor:
    """In the rounding of the published network, which shows at angles of thousands."""
    steps = torch.arange(half, dtype=torch.float32, device="cpu")
    return torch.exp(-math.log(MAX_PERIOD) * steps / half).to(device)


class MLPEmbedder(nn.Module):
    """Linear, SiLU, linear."""

    def __init__(self, in_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(in_dim, hidden_dim)
        self.out_layer = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_dim) of any dtype to (B, hidden_dim) of the weights' dtype."""
        return self.out_layer(functional.silu(self.in_layer(x.to(self.in_layer.weight.dtype))))


class HeadNorm(nn.Module):
    """RMS norm of every head, whose gain published files call ``scale``."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Any shape (..., dim); the dtype of ``x`` is kept."""
        return rms_norm(x, self.scale, self.eps)


class QKNorm(nn.Module):
    """Norms of queries and keys."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_norm = HeadNorm(dim)
        self.key_norm = HeadNorm(dim)

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """(..., dim) each."""
        return self.query_norm(q), self.key_norm(k)


class StreamAttention(nn.Module):
    """Projections of one stream of tokens, before and after an attention that it shares with another stream."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, fused_qkv: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.fused_qkv = fused_qkv
        if fused_qkv:
            self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        else:
            self.q_proj = nn.Linear(dim, dim, bias=qkv_bias)
            self.k_proj = nn.Linear(dim, dim, bias=qkv_bias)
            self.v_proj = nn.Linear(dim, dim, bias=qkv_bias)
        self.norm = QKNorm(dim // num_heads)
        self.proj = nn.Linear(dim, dim)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, N, A, K) of tokens (B, N, D); the first two normalised."""
        if self.fused_qkv:
            q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        else:
            q, k, v = (p(x).unflatten(-1, (self.num_heads, -1)) for p in (self.q_proj, self.k_proj, self.v_proj))
        return *self.norm(q, k), v


class Modulation(nn.Module):
    """Shift, scale and gate from the embedding of time and pooled text; two of each with ``double``."""

    def __init__(self, dim: int, double: bool) -> None:
        super().__init__()
        self.parts = 6 if double else 3
        self.lin = nn.Linear(dim, self.parts * dim)

    def forward(self, vec: Tensor) -> tuple[Tensor, ...]:
        """(B, D) to three or six tensors (B, 1, D): shift, scale, gate, and the second set."""
        return self.lin(functional.silu(vec))[:, None].chunk(self.parts, dim=-1)


class LastLayer(nn.Module):
    """Modulated layer norm and a linear map of every token to its patch."""

    def __init__(self, dim: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, vec: Tensor) -> Tensor:
        """Tokens (B, N, D) and embedding (B, D) to (B, N, out_channels)."""
        shift, scale = self.adaLN_modulation(vec)[:, None].chunk(2, dim=-1)
        return self.linear(modulated_layer_norm(x, shift, scale))
