"""Building blocks of the Hunyuan video autoencoder. Names of children are those of published checkpoints.

Legend: B batch, C channels, T frames, H, W rows and columns, N = H * W positions of a frame. Activations are
(B, C, T, H, W).
"""

import math
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora.nn import causal_conv
from opensora.nn.attention import attention
from opensora.nn.causal_conv import EdgeCausalConv3d
from opensora.nn.streaming import norm_silu_conv


class ResnetBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1x1 convolution on the skip where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, conv_tile: int | None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=1e-6)
        self.conv1 = EdgeCausalConv3d(in_channels, out_channels, tile_size=conv_tile)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=1e-6)
        self.conv2 = EdgeCausalConv3d(out_channels, out_channels, tile_size=conv_tile)
        self.conv_shortcut = EdgeCausalConv3d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        h = norm_silu_conv(self.norm1, self.conv1, x)
        h = norm_silu_conv(self.norm2, self.conv2, h)
        skip = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return h + skip if torch.is_grad_enabled() else h.add_(skip)


class FrameCausalAttention(nn.Module):
    """x + attention(norm(x)), one head; a position sees all of its own frame and of the frames before it.

    Each frame attends to the keys up to its own, so that there is no mask: one of the whole clip would have (T N)^2
    entries, 1.1e9 for 33 latent frames of 32 x 32.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        tokens = self.group_norm(x).permute(0, 2, 3, 4, 1).flatten(1, 3)  # (B, T N, C)
        q, k, v = (layer(tokens).unsqueeze(2) for layer in (self.to_q, self.to_k, self.to_v))  # (B, T N, 1, C)
        n = x.shape[3] * x.shape[4]
        ends = range(n, q.shape[1] + 1, n)
        frames = [attention(q[:, end - n : end], k[:, :end], v[:, :end]) for end in ends]
        h = self.to_out[0](torch.cat(frames, dim=1).squeeze(2))  # (B, T N, C)
        return x + h.unflatten(1, x.shape[2:]).permute(0, 4, 1, 2, 3)


class Downsample(nn.Module):
    """A strided convolution; what it halves is rounded up."""

    def __init__(self, channels: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv = EdgeCausalConv3d(channels, channels, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T', H', W')."""
        return self.conv(x)


class Upsample(nn.Module):
    """Repetition, then a convolution. Along time T frames become 2 T - 1: the first one stands for itself."""

    def __init__(self, channels: int, factors: tuple[int, int, int], conv_tile: int | None) -> None:
        super().__init__()
        self.factors = factors
        self.conv = EdgeCausalConv3d(channels, channels, tile_size=conv_tile)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T', H', W')."""
        return self.conv(repeated(x, self.factors))


def repeated(x: Tensor, factors: tuple[int, int, int]) -> Tensor:
    """(B, C, T, H, W) with every frame but the first, every row and every column repeated; by frames where large."""
    time, height, width = factors
    whole = torch.is_grad_enabled() or math.prod(factors) * x.numel() <= causal_conv.TILE_ELEMENTS
    later = x[:, :, 1:].split(x.shape[2] if whole else 1, dim=2) if x.shape[2] > 1 else ()
    parts = chain([enlarged(x[:, :, :1], (1, height, width))], (enlarged(part, factors) for part in later))
    if torch.is_grad_enabled():
        return torch.cat(list(parts), dim=2)
    return causal_conv.join_frames(parts, 1 + time * (x.shape[2] - 1))


def enlarged(x: Tensor, factors: tuple[int, int, int]) -> Tensor:
    """(B, C, T, H, W) with frames, rows and columns repeated."""
    t, h, w = (float(factor) for factor in factors)
    return F.interpolate(x, scale_factor=(t, h, w), mode="nearest")
