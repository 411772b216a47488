"""The network of frames in the 1.2 autoencoder: 8x8 pixels of a frame become one latent of 4 channels.

Legend: B batch, C channels, T frames, H, W rows and columns; H', W' those of latents.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from opensora.models.autoencoder import in_batches
from opensora.models.autoencoder_2d.autoencoder import by_frame
from opensora.models.vae_v12.config import SpatialConfig
from opensora.nn.tiling import EachTile

SCALE = 0.18215
"""Raw latents of frames are multiplied by it: the factor of Stable Diffusion 1. The weights are those of its successor,
whose factor is 0.13025, but the network of clips was trained with this one."""


class SpatialVAE(nn.Module):
    """diffusers' ``AutoencoderKL``, for every frame of a clip on its own; it is imported when one is built."""

    def __init__(self, config: SpatialConfig) -> None:
        super().__init__()
        from diffusers import AutoencoderKL

        levels = len(config.block_out_channels)
        self.micro_batch_size = config.micro_batch_size
        self.each_tile: EachTile = map
        """How batches of frames are coded."""
        self.module: Any = AutoencoderKL(
            in_channels=config.in_channels,
            out_channels=config.in_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            latent_channels=config.latent_channels,
            norm_num_groups=config.norm_num_groups,
        )

    def encode_moments(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) -> means and log-variances of raw latents (B, 2 C, T, H', W')."""
        return self._by_frame(lambda frames: self.module.encode(frames).latent_dist.parameters, x)

    def decode(self, z: Tensor) -> Tensor:
        """Raw latents (B, C, T, H', W') -> pixels (B, 3, T, H, W)."""
        return self._by_frame(lambda frames: self.module.decode(frames).sample, z)

    def _by_frame(self, coder: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return by_frame(lambda frames: in_batches(coder, frames, self.micro_batch_size, self.each_tile), x)
