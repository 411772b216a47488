"""Embeddings of timesteps, sizes, captions and places.

Legend: B batch, D width of the network, L text tokens, E width of the text encoder.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from opensora.nn.compat import Compat
from opensora.nn.mlp import Mlp

MAX_PERIOD = 10000.0


def sinusoid(t: Tensor, dim: int, frequencies: Tensor | None = None) -> Tensor:
    """``[cos(t f), sin(t f)]`` with f falling geometrically from 1 to nearly 1 / 10000; (B,) to (B, dim) float32.

    ``frequencies`` (dim // 2,) are f in another rounding. A zero follows where ``dim`` is odd.
    """
    half = dim // 2
    if frequencies is None:
        steps = torch.arange(half, dtype=torch.float32, device=t.device)
        frequencies = torch.exp(-math.log(MAX_PERIOD) / half * steps)
    angles = t.float()[:, None] * frequencies
    waves = torch.cat((angles.cos(), angles.sin()), dim=-1)
    return functional.pad(waves, (0, 1)) if dim % 2 else waves


class TimestepEmbedder(nn.Module):
    """Sinusoids of a number and a two-layer perceptron with SiLU."""

    def __init__(self, dim: int, frequency_dim: int = 256) -> None:
        super().__init__()
        self.frequency_dim = frequency_dim
        self.mlp = nn.Sequential(nn.Linear(frequency_dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """Numbers (B,), kept in float32 up to the perceptron, to (B, D)."""
        dtype = next(self.mlp.parameters()).dtype
        return self.mlp(sinusoid(t, self.frequency_dim).to(dtype))


class SizeEmbedder(TimestepEmbedder):
    """Embedding of one or more numbers of each sample (frames per second, height, width)."""

    def forward(self, s: Tensor, batch: int | None = None) -> Tensor:
        """Numbers (R,) or (R, n), repeated to ``batch`` rows, to (B, n * D).

        Raises:
            ValueError: ``batch`` is not a multiple of R.
        """
        s = s[:, None] if s.ndim == 1 else s
        s = repeat_rows(s, s.shape[0] if batch is None else batch, "sizes")
        return super().forward(s.flatten()).unflatten(0, s.shape).flatten(1)


def repeat_rows(x: Tensor, batch: int, what: str) -> Tensor:
    """Tile the R rows of ``x`` to ``batch`` rows: row b becomes row b % R, the order of guidance batches.

    Raises:
        ValueError: ``batch`` is not a multiple of R.
    """
    if batch % len(x):
        raise ValueError(f"{what} has {len(x)} rows, the batch has {batch}; give one row, or one for each prompt.")
    return x if len(x) == batch else x.repeat(batch // len(x), *[1] * (x.ndim - 1))


class CaptionEmbedder(nn.Module):
    """Projects text features; in training some captions are replaced by a null text.

    ``y_embedding`` (L, E) is that null text: a buffer, not trained. It also serves guidance at inference.
    """

    def __init__(self, in_dim: int, dim: int, dropout: float, max_length: int) -> None:
        super().__init__()
        self.dropout = dropout
        self.y_proj = Mlp(in_dim, dim, dim)
        self.register_buffer("y_embedding", torch.randn(max_length, in_dim) / in_dim**0.5)
        self.y_embedding: Tensor

    def token_drop(self, caption: Tensor, drop: Tensor | None = None) -> Tensor:
        """Replace captions by the null text, on any device.

        Args:
            caption: (B, 1, L, E); L at most that of the null text.
            drop: (B,) true for the captions to replace; drawn with the module's probability when ``None``.
        """
        if drop is None:
            drop = torch.rand(len(caption), device=caption.device) < self.dropout
        null = self.y_embedding[: caption.shape[2]].to(caption.dtype)
        return torch.where(drop.bool()[:, None, None, None], null, caption)

    def forward(self, caption: Tensor, train: bool = False, drop: Tensor | None = None) -> Tensor:
        """Features (B, 1, L, E) to (B, 1, L, D); captions are dropped if ``train`` or when ``drop`` says which."""
        if drop is not None or (train and self.dropout > 0):
            caption = self.token_drop(caption, drop)
        return self.y_proj(caption)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
@torch.no_grad()
def position_embedding_2d(
    dim: int,
    height: int,
    width: int,
    scale: float,
    base_size: float | None,
    device: torch.device,
    dtype: torch.dtype,
    compat: Compat = "right",
) -> Tensor:
    """Sines and cosines of a token's place in its frame, (1, height * width, dim); the last few tables are kept.

    The first half of the channels encodes the column and the second half the row, as in the published networks.

    Args:
        dim: channels, a multiple of 4.
        height: rows of tokens.
        width: columns of tokens.
        scale: places are divided by it: the size of the picture relative to the one trained on.
        base_size: tokens along an axis of the trained grid; ``None`` for no adjustment.
        device: of the result.
        dtype: of the result; the angles are computed in float32.
        compat: ``published`` rounds the frequencies to ``dtype`` first, as converting the public network does.
    """
    half = dim // 2
    freqs = 1.0 / (MAX_PERIOD ** (torch.arange(0, half, 2, dtype=torch.float32) / half))
    if compat == "published":
        freqs = freqs.to(dtype).float()

    def axis(n: int) -> Tensor:
        places = torch.arange(n, dtype=torch.float32) / scale
        angles = torch.outer(places if base_size is None else places * (base_size / n), freqs)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)  # (n, dim / 2)

    columns = axis(width)[None, :].expand(height, -1, -1)
    rows = axis(height)[:, None].expand(-1, width, -1)
    return torch.cat((columns, rows), dim=-1).flatten(0, 1)[None].to(device, dtype)
