"""Building blocks of the 1.3 autoencoder. Names of children are those of published checkpoints.

Legend: B batch, C channels, T frames, H, W rows and columns. Activations are (B, C, T, H, W).
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora.nn import causal_conv
from opensora.nn.causal_conv import CausalConv3d
from opensora.nn.streaming import norm_silu_conv


def silu(x: Tensor) -> Tensor:
    """SiLU of a fresh tensor that nobody else holds: in place where no gradient needs it."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def add(fresh: Tensor, x: Tensor) -> Tensor:
    """The sum, in place of a `fresh` tensor that nobody else holds where no gradient needs it."""
    return fresh + x if torch.is_grad_enabled() else fresh.add_(x)


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1x1 convolution on the skip where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, tile_size: int | None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=1e-6)
        self.conv1 = CausalConv3d(in_channels, out_channels, tile_size=tile_size)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps=1e-6)
        self.conv2 = CausalConv3d(out_channels, out_channels, tile_size=tile_size)
        self.nin_shortcut = CausalConv3d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        h = norm_silu_conv(self.norm1, self.conv1, x)
        h = norm_silu_conv(self.norm2, self.conv2, h)
        return add(h, x if self.nin_shortcut is None else self.nin_shortcut(x))


class CausalAttention(nn.Module):
    """x + attention(norm(x)), one head over all positions of the clip.

    A position sees those before it in raster order (frames, then rows, then columns), so inside a frame as well.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.q = CausalConv3d(channels, channels, 1)
        self.k = CausalConv3d(channels, channels, 1)
        self.v = CausalConv3d(channels, channels, 1)
        self.proj_out = CausalConv3d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        h = self.norm(x)
        q, k, v = (to_tokens(layer(h)) for layer in (self.q, self.k, self.v))  # B 1 THW C
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h.squeeze(1).unflatten(1, x.shape[2:]).permute(0, 4, 1, 2, 3)  # B C T H W
        return add(self.proj_out(h), x)


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, 1, T H W, C), one attention head."""
    return x.permute(0, 2, 3, 4, 1).flatten(1, 3).unsqueeze(1)


class FrameConv(nn.Module, ABC):
    """A 3x3 convolution of every frame on its own."""

    def __init__(self, channels: int, stride: int, padding: int, frames_at_once: int | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding)
        self.frames_at_once = frames_at_once

    @abstractmethod
    def prepare(self, frames: Tensor) -> Tensor:
        """What happens to (N, C, H, W) frames before the convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H', W')."""
        batch = x.shape[0]
        frames = x.transpose(1, 2).flatten(0, 1)  # BT C H W
        size = frames.shape[0] if torch.is_grad_enabled() else self.frames_at_once or frames.shape[0]
        parts = [self.conv(self.prepare(part)) for part in frames.split(size)]
        frames = torch.cat(parts) if len(parts) > 1 else parts[0]
        return frames.unflatten(0, (batch, -1)).transpose(1, 2)


class Downsample2D(FrameConv):
    """Halves rows and columns (rounded down), with zeros added below and to the right."""

    def __init__(self, channels: int, frames_at_once: int | None) -> None:
        super().__init__(channels, 2, 0, frames_at_once)

    def prepare(self, frames: Tensor) -> Tensor:
        """Add a row below and a column to the right."""
        return F.pad(frames, (0, 1, 0, 1))


class Upsample2D(FrameConv):
    """Doubles rows and columns by repetition, then convolves."""

    def __init__(self, channels: int, frames_at_once: int | None) -> None:
        super().__init__(channels, 1, 1, frames_at_once)

    def prepare(self, frames: Tensor) -> Tensor:
        """Repeat rows and columns."""
        return F.interpolate(frames, scale_factor=2.0, mode="nearest")


class Downsample3D(nn.Module):
    """Halves frames, rows and columns (each rounded up)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, 3, stride=(2, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T / 2, H / 2, W / 2)."""
        return self.conv(x)


class Upsample3D(nn.Module):
    """Doubles frames, rows and columns by repetition, then a residual block."""

    def __init__(self, channels: int, groups: int, tile_size: int | None) -> None:
        super().__init__()
        self.conv3d = UpsampleResBlock(channels, groups, tile_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, 2 T, 2 H, 2 W)."""
        return self.conv3d(doubled(x))


def doubled(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, C, 2 T, 2 H, 2 W) by repetition; frame by frame where that is large."""
    if torch.is_grad_enabled() or 8 * x.numel() <= causal_conv.TILE_ELEMENTS:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    frames = (F.interpolate(part, scale_factor=2.0, mode="nearest") for part in x.split(1, dim=2))
    return causal_conv.join_frames(frames, 2 * x.shape[2])


class UpsampleResBlock(nn.Module):
    """x + silu(norm(conv(silu(norm(conv(x)))) + x); its norms have eps 1e-5, all others of the network 1e-6."""

    def __init__(self, channels: int, groups: int, tile_size: int | None) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(channels, channels, tile_size=tile_size)
        self.norm1 = nn.GroupNorm(groups, channels, eps=1e-5)
        self.conv2 = CausalConv3d(channels, channels, tile_size=tile_size)
        self.norm2 = nn.GroupNorm(groups, channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        h = norm_silu_conv(self.norm1, self.conv2, self.conv1(x))
        return add(silu(add(self.norm2(h), x)), x)
