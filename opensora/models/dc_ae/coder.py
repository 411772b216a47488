"""Encoder and decoder of the deep-compression autoencoder.

Legend: B batch, C channels, T frames, H, W rows and columns; T', H', W' those of latents. Level 0 has the pixels' size,
each next one half of its rows and columns.
"""

from torch import Tensor, nn

from opensora.models.dc_ae.blocks import ConvLayer, OpSequential, ResidualBlock, RMSNorm3d, block
from opensora.models.dc_ae.config import DCAEConfig
from opensora.models.dc_ae.resize import Averaging, Duplicating, downsample, upsample


class Encoder(nn.Module):
    """Pixels to latents."""

    def __init__(self, config: DCAEConfig) -> None:
        super().__init__()
        widths = config.width_list
        self.project_in = ConvLayer(config.in_channels, widths[0])
        stages = []
        for level, width in enumerate(widths):
            layers = blocks(config, level, config.encoder_depth_list[level])
            if level < config.levels - 1:
                layers.append(downsample(width, widths[level + 1], config.factors_behind(level)))
            stages.append(OpSequential(layers))
        self.stages = nn.ModuleList(stages)
        main = OpSequential([ConvLayer(widths[-1], config.latent_channels)])
        self.project_out = ResidualBlock(main, Averaging(config.latent_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, latent_channels, T', H', W')."""
        h = self.project_in(x)
        for stage in self.stages:
            h = stage(h)
        return self.project_out(h)


class Decoder(nn.Module):
    """Latents to pixels."""

    def __init__(self, config: DCAEConfig) -> None:
        super().__init__()
        widths = config.width_list
        self.project_in = ResidualBlock(ConvLayer(config.latent_channels, widths[-1]), Duplicating(widths[-1]))
        stages = []
        for level, width in enumerate(widths):
            layers = blocks(config, level, config.decoder_depth_list[level])
            if level < config.levels - 1:
                layers.insert(0, upsample(widths[level + 1], width, config.factors_behind(level)))
            stages.append(OpSequential(layers))
        self.stages = nn.ModuleList(stages)
        self.project_out = OpSequential([RMSNorm3d(widths[0]), nn.ReLU(), ConvLayer(widths[0], config.in_channels)])

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_channels, T', H', W') -> (B, C, T, H, W); one latent frame gives one frame."""
        h = self.project_in(z)
        for stage in reversed(self.stages):
            h = stage(h)
        return self.project_out(h)


def blocks(config: DCAEConfig, level: int, depth: int) -> list[nn.Module]:
    """The blocks of a level."""
    kind, width = config.block_type[level], config.width_list[level]
    return [block(kind, width, config.attention_dim) for _ in range(depth)]
