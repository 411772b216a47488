"""Changes of size in the deep-compression autoencoder, each beside a shortcut without parameters.

A shortcut moves pixels into channels (or back) and averages (or repeats) channels to the width it needs. Legend: B
batch, C channels, T frames, H, W rows and columns, (t, h, w) by how much these change. A single frame stays one.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from opensora.models.dc_ae.blocks import ConvLayer, ResidualBlock, Triple


def pixel_unshuffle_3d(x: Tensor, factors: Triple) -> Tensor:
    """(B, C, T, H, W) -> (B, C t h w, T / t, H / h, W / w), channels slowest, then t, h, w."""
    t, h, w = factors
    x = x.unflatten(4, (-1, w)).unflatten(3, (-1, h)).unflatten(2, (-1, t))  # B C T/t t H/h h W/w w
    return x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def pixel_shuffle_3d(x: Tensor, factors: Triple) -> Tensor:
    """The inverse: (B, C t h w, T, H, W) -> (B, C, T t, H h, W w)."""
    x = x.unflatten(1, (-1, *factors)).permute(0, 1, 5, 2, 6, 3, 7, 4)  # B C T t H h W w
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def of_clip(factors: Triple, frames: int) -> Triple:
    """`factors` for a clip of that many frames: a single one is a picture, whose time does not change."""
    return (1 if frames == 1 else factors[0], *factors[1:])


class Averaging(nn.Module):
    """Pixels to channels, and the mean of neighbouring channels."""

    def __init__(self, out_channels: int, factors: Triple = (1, 1, 1)) -> None:
        super().__init__()
        self.out_channels, self.factors = out_channels, factors

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T / t, H / h, W / w)."""
        x = pixel_unshuffle_3d(x, of_clip(self.factors, x.shape[2]))
        return x.unflatten(1, (self.out_channels, -1)).mean(2)


class Duplicating(nn.Module):
    """Copies of every channel, and channels to pixels."""

    def __init__(self, out_channels: int, factors: Triple = (1, 1, 1)) -> None:
        super().__init__()
        self.out_channels, self.factors = out_channels, factors

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T t, H h, W w)."""
        t, h, w = of_clip(self.factors, x.shape[2])
        x = x.repeat_interleave(self.out_channels * t * h * w // x.shape[1], dim=1)
        return pixel_shuffle_3d(x, (t, h, w))


class InterpolateConv(nn.Module):
    """Repetition, then a convolution."""

    def __init__(self, in_channels: int, out_channels: int, factors: Triple) -> None:
        super().__init__()
        self.factors = factors
        self.conv = ConvLayer(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T t, H h, W w)."""
        t, h, w = of_clip(self.factors, x.shape[2])
        return self.conv(F.interpolate(x, scale_factor=(float(t), float(h), float(w)), mode="nearest"))


def downsample(in_channels: int, out_channels: int, factors: Triple) -> ResidualBlock:
    """A strided convolution beside the averaging shortcut, (B, C, T, H, W) -> (B, C', T / t, H / h, W / w)."""
    return ResidualBlock(ConvLayer(in_channels, out_channels, stride=factors), Averaging(out_channels, factors))


def upsample(in_channels: int, out_channels: int, factors: Triple) -> ResidualBlock:
    """Repetition and a convolution beside the duplicating shortcut, (B, C, T, H, W) -> (B, C', T t, H h, W w)."""
    return ResidualBlock(InterpolateConv(in_channels, out_channels, factors), Duplicating(out_channels, factors))
