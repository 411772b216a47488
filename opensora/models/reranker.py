"""A contrastive network that says how well a picture fits a text, from the picture's latents and the text's features.

Rejection sampling with such a score was published with DALL·E (Ramesh et al., 2021), the objective with CLIP (Radford
et al., 2021). Here each side makes several vectors instead of one, so that two subjects of a text need not share one,
and is told where things are: which of two subjects is named first, and which stands on the left.

Legend: B pictures, N texts, C latent channels, H, W latent rows and columns, L text tokens, E width of text features,
K vectors of each side, D width of a vector.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora.checkpoint.safetensors_io import load_strict
from opensora.config import from_dict

PLACE = 8
"""Sines and cosines of a row, and of a column."""


@dataclass(frozen=True)
class RerankerConfig:
    """Sizes of a :class:`Reranker`."""

    in_channels: int = 12
    """Latent channels of the autoencoder."""
    caption_channels: int = 192
    """Width of the text features."""
    width: int = 96
    """Channels of the picture's side."""
    depth: int = 3
    """Residual blocks of the picture's side."""
    vectors: int = 8
    """Vectors of each side."""
    dim: int = 64
    """Width of a vector."""


class _Block(nn.Module):
    """Two 3 x 3 convolutions and what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv_in = nn.Conv2d(width, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        out: Tensor = x + self.conv_out(F.gelu(self.conv_in(F.gelu(self.norm(x)))))
        return out


def waves(places: Tensor, dim: int, longest: float) -> Tensor:
    """Places (P,) -> sines and cosines (P, dim) of wavelengths from 2 pi to 2 pi times ``longest`` (Vaswani et al.,
    2017)."""
    rates = torch.exp(torch.arange(dim // 2, device=places.device) * (-math.log(longest) / (dim // 2)))
    angles = places[:, None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class _Pool(nn.Module):
    """Learned queries that read positions, one vector each."""

    def __init__(self, width: int, vectors: int, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(vectors, width) * width**-0.5)
        self.expand = nn.Linear(width, 2 * dim)
        self.project = nn.Parameter(torch.randn(vectors, 2 * dim, dim) * (2 * dim) ** -0.5)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Positions (B, P, width), mask (B, P), 0 where nothing is -> unit vectors (B, K, D)."""
        x = self.norm(x)
        scores = torch.einsum("kw,bpw->bkp", self.query, x)
        if mask is not None:
            scores = scores.masked_fill(mask[:, None] == 0, float("-inf"))
        read = torch.einsum("bkp,bpw->bkw", scores.softmax(-1), x)
        return F.normalize(torch.einsum("bkm,kmd->bkd", F.gelu(self.expand(read)), self.project), dim=-1)


class Reranker(nn.Module):
    """How well pictures fit texts."""

    def __init__(self, config: RerankerConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(config.in_channels, config.width // 2, 3, padding=1)
        self.patches = nn.Conv2d(config.width // 2, config.width, 2, stride=2)
        self.place = nn.Linear(2 * PLACE, config.width)
        self.blocks = nn.ModuleList(_Block(config.width) for _ in range(config.depth))
        self.see = _Pool(config.width, config.vectors, config.dim)
        self.read = _Pool(config.caption_channels, config.vectors, config.dim)
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def picture(self, z: Tensor) -> Tensor:
        """Latents (B, C, H, W) -> unit vectors (B, K, D)."""
        x = self.patches(F.gelu(self.stem(z)))
        rows, columns = (waves(torch.linspace(0, 2 * math.pi, n, device=z.device), PLACE, 8.0) for n in x.shape[2:])
        places = torch.cat(torch.broadcast_tensors(rows[:, None], columns[None]), dim=-1)
        x = x + self.place(places).permute(2, 0, 1)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.see(x.flatten(2).transpose(1, 2))
        return out

    def text(self, y: Tensor, mask: Tensor) -> Tensor:
        """Features (N, L, E) and mask (N, L) -> unit vectors (N, K, D)."""
        y = y + waves(torch.arange(y.shape[1], device=y.device), y.shape[2], 1e4).to(y.dtype)
        out: Tensor = self.read(y, mask)
        return out

    def scores(self, read: Tensor, seen: Tensor) -> Tensor:
        """Scores (N, B) of vectors of texts (N, K, D) and of pictures (B, K, D)."""
        return torch.einsum("nkd,bkd->nb", read, seen) / self.config.vectors * self.log_scale.exp()

    def forward(self, z: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        """Scores (N, B) of pictures (B, C, H, W) for texts (N, L, E) with mask (N, L); the larger, the better."""
        return self.scores(self.text(y, mask), self.picture(z))

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """The float32 network of a folder with weights and ``config.json``, in evaluation mode.

        Raises:
            CheckpointError: the weights are not exactly those of this network.
            ValueError: a configuration of another network.
        """
        values: dict[str, Any] = json.loads((Path(folder) / "config.json").read_text())
        with torch.device("meta"):
            model = cls(from_dict(RerankerConfig, values))
        load_strict(model, folder, expect={"role": "reranker"})
        return model.eval()
