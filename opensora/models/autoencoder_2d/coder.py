"""Encoder and decoder of the image autoencoder.

Legend: B batch, C channels, H, W rows and columns; H', W' those of latents. Level 0 has the pixels' size, each next one
half of it.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from opensora.models.autoencoder_2d.blocks import AttnBlock, Downsample, ResnetBlock, Upsample, group_norm
from opensora.models.autoencoder_2d.config import AutoEncoderConfig


class Level(nn.Module):
    """Residual blocks of one size, with a change of size behind them where there is one."""

    def __init__(
        self, sizes: list[int], downsample: nn.Module | None = None, upsample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList([ResnetBlock(a, b) for a, b in pairwise(sizes)])
        self.downsample, self.upsample = downsample, upsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        for layer in (*self.block, self.downsample, self.upsample):
            x = x if layer is None else layer(x)
        return x


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.attn_1 = AttnBlock(channels)
        self.block_2 = ResnetBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Pictures to the mean and log-variance of latents."""

    def __init__(self, config: AutoEncoderConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.in_channels, config.ch, 3, padding=1)
        levels = []
        for level, width in enumerate(widths):
            sizes = [widths[level - 1] if level else config.ch] + [width] * config.num_res_blocks
            levels.append(Level(sizes, downsample=Downsample(width) if level < len(widths) - 1 else None))
        self.down = nn.ModuleList(levels)
        self.mid = Middle(widths[-1])
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2 z_channels, H', W')."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """Latents to pictures."""

    def __init__(self, config: AutoEncoderConfig) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        levels = []
        for level, width in enumerate(widths):
            sizes = [widths[min(level + 1, len(widths) - 1)]] + [width] * (config.num_res_blocks + 1)
            levels.append(Level(sizes, upsample=Upsample(width) if level else None))
        self.up = nn.ModuleList(levels)
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.out_ch, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, z_channels, H', W') -> (B, C, H, W)."""
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))
