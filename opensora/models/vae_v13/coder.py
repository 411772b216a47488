"""Encoder and decoder of the 1.3 autoencoder.

Legend: B batch, C channels, T frames, H, W rows and columns; level 0 has the pixels' size, each next one half of it.
"""

from itertools import pairwise

from torch import Tensor, nn

from opensora.models.vae_v13.blocks import (
    CausalAttention,
    Downsample2D,
    Downsample3D,
    ResBlock,
    Upsample2D,
    Upsample3D,
)
from opensora.models.vae_v13.config import VAEv13Config
from opensora.nn.causal_conv import BareCausalConv3d, CausalConv3d
from opensora.nn.streaming import norm_silu_conv


class Level(nn.Module):
    """Residual blocks of one size, with a change of size behind them where there is one."""

    def __init__(self, blocks: list[ResBlock], downsample: nn.Module | None, upsample: nn.Module | None) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.downsample, self.upsample = downsample, upsample

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        for layer in (*self.block, self.downsample, self.upsample):
            x = x if layer is None else layer(x)
        return x


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, config: VAEv13Config) -> None:
        super().__init__()
        self.block_1 = ResBlock(channels, channels, config.norm_groups, config.conv_tile)
        self.attn_1 = CausalAttention(channels, config.norm_groups)
        self.block_2 = ResBlock(channels, channels, config.norm_groups, config.conv_tile)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Encoder(nn.Module):
    """Pixels to the mean and log-variance of latents."""

    def __init__(self, config: VAEv13Config) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = CausalConv3d(config.in_channels, config.ch)
        levels = []
        for level, width in enumerate(widths):
            previous = widths[max(level - 1, 0)] if level else config.ch
            sizes = [previous] + [width] * config.num_res_blocks
            down: nn.Module | None = None
            if level < len(widths) - 1:
                halves_time = level in config.down_sampling_layer
                down = Downsample3D(width) if halves_time else Downsample2D(width, config.micro_batch_size_2d)
            levels.append(Level(res_blocks(sizes, config), down, None))
        self.down = nn.ModuleList(levels)
        self.mid = Middle(widths[-1], config)
        self.norm_out = nn.GroupNorm(config.norm_groups, widths[-1], eps=1e-6)
        self.conv_out = CausalConv3d(widths[-1], 2 * config.z_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 2 z_channels, T', H', W')."""
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        h = self.mid(h)
        return norm_silu_conv(self.norm_out, self.conv_out, h)


class Decoder(nn.Module):
    """Latents to pixels."""

    def __init__(self, config: VAEv13Config) -> None:
        super().__init__()
        widths = config.widths
        self.extra_frames = config.patch_size[0] - 1
        self.conv_in = CausalConv3d(config.z_channels, widths[-1])
        self.mid = Middle(widths[-1], config)
        levels = []
        for level, width in enumerate(widths):
            previous = widths[min(level + 1, len(widths) - 1)]
            sizes = [previous] + [width] * (config.num_res_blocks + 1)
            up: nn.Module | None = None
            if level > 0:
                doubles_time = level - 1 in config.down_sampling_layer
                tiles, frames = config.conv_tile, config.micro_batch_size_2d
                up = Upsample3D(width, config.norm_groups, tiles) if doubles_time else Upsample2D(width, frames)
            levels.append(Level(res_blocks(sizes, config), None, up))
        self.up = nn.ModuleList(levels)
        self.norm_out = nn.GroupNorm(config.norm_groups, widths[0], eps=1e-6)
        self.conv_out = BareCausalConv3d(widths[0], config.in_channels, config.conv_tile)

    def forward(self, z: Tensor) -> Tensor:
        """(B, z_channels, T', H', W') -> (B, 3, T, H, W); the first latent frame stands for a single frame."""
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return norm_silu_conv(self.norm_out, self.conv_out, h)[:, :, self.extra_frames :]


def res_blocks(sizes: list[int], config: VAEv13Config) -> list[ResBlock]:
    """Residual blocks from each width of `sizes` to the next."""
    return [ResBlock(a, b, config.norm_groups, config.conv_tile) for a, b in pairwise(sizes)]
