"""Encoder and decoder of the Hunyuan video autoencoder.

Legend: B batch, C channels, T frames, H, W rows and columns; T', H', W' those of latents.
"""

from itertools import pairwise

from torch import Tensor, nn

from opensora.models.vae_hunyuan.blocks import Downsample, FrameCausalAttention, ResnetBlock, Upsample
from opensora.models.vae_hunyuan.config import HunyuanVAEConfig
from opensora.nn.causal_conv import EdgeCausalConv3d
from opensora.nn.streaming import norm_silu_conv


class DownBlock(nn.Module):
    """Residual blocks of one size, with a change of size behind them where there is one."""

    def __init__(self, resnets: list[ResnetBlock], downsample: Downsample | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.downsamplers = nn.ModuleList([] if downsample is None else [downsample])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class UpBlock(nn.Module):
    """Residual blocks of one size, with a change of size behind them where there is one."""

    def __init__(self, resnets: list[ResnetBlock], upsample: Upsample | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        self.upsamplers = nn.ModuleList([] if upsample is None else [upsample])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T', H', W') -> (B, C', T, H, W)."""
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class MidBlock(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, groups: int, add_attention: bool, conv_tile: int | None) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([FrameCausalAttention(channels, groups)] if add_attention else [])
        self.resnets = nn.ModuleList([ResnetBlock(channels, channels, groups, conv_tile) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        first, second = self.resnets
        for layer in (first, *self.attentions, second):
            x = layer(x)
        return x


class Encoder(nn.Module):
    """Pixels to the mean and log-variance of latents, before `quant_conv`."""

    def __init__(self, config: HunyuanVAEConfig) -> None:
        super().__init__()
        widths = config.block_out_channels
        self.conv_in = EdgeCausalConv3d(config.in_channels, widths[0], tile_size=config.conv_tile)
        blocks = []
        for level, width in enumerate(widths):
            sizes = [widths[max(level - 1, 0)]] + [width] * config.layers_per_block
            factors = factors_behind(config, level)
            blocks.append(DownBlock(resnets(sizes, config), None if max(factors) == 1 else Downsample(width, factors)))
        self.down_blocks = nn.ModuleList(blocks)
        self.mid_block = mid_block(config)
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[-1], eps=1e-6)
        self.conv_out = EdgeCausalConv3d(widths[-1], 2 * config.latent_channels, tile_size=config.conv_tile)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, 2 latent_channels, T', H', W')."""
        h = self.conv_in(x)
        for block in self.down_blocks:
            h = block(h)
        h = self.mid_block(h)
        return norm_silu_conv(self.conv_norm_out, self.conv_out, h)


class Decoder(nn.Module):
    """Latents behind `post_quant_conv` to pixels."""

    def __init__(self, config: HunyuanVAEConfig) -> None:
        super().__init__()
        widths = config.block_out_channels[::-1]
        self.conv_in = EdgeCausalConv3d(config.latent_channels, widths[0], tile_size=config.conv_tile)
        blocks = []
        for level, width in enumerate(widths):
            sizes = [widths[max(level - 1, 0)]] + [width] * (config.layers_per_block + 1)
            factors = factors_behind(config, level)
            up = None if max(factors) == 1 else Upsample(width, factors, config.conv_tile)
            blocks.append(UpBlock(resnets(sizes, config), up))
        self.up_blocks = nn.ModuleList(blocks)
        self.mid_block = mid_block(config)
        self.conv_norm_out = nn.GroupNorm(config.norm_num_groups, widths[-1], eps=1e-6)
        self.conv_out = EdgeCausalConv3d(widths[-1], config.out_channels, tile_size=config.conv_tile)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_channels, T', H', W') -> (B, C, T, H, W); the first latent frame stands for a single frame."""
        h = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            h = block(h)
        return norm_silu_conv(self.conv_norm_out, self.conv_out, h)


def factors_behind(config: HunyuanVAEConfig, level: int) -> tuple[int, int, int]:
    """By how much T, H and W change behind a level."""
    space = 2 if config.changes_space(level) else 1
    return 2 if config.changes_time(level) else 1, space, space


def resnets(sizes: list[int], config: HunyuanVAEConfig) -> list[ResnetBlock]:
    """Residual blocks from each width of `sizes` to the next."""
    return [ResnetBlock(a, b, config.norm_num_groups, config.conv_tile) for a, b in pairwise(sizes)]


def mid_block(config: HunyuanVAEConfig) -> MidBlock:
    """The blocks at the smallest size."""
    width, attends = config.block_out_channels[-1], config.mid_block_add_attention
    return MidBlock(width, config.norm_num_groups, attends, config.conv_tile)
