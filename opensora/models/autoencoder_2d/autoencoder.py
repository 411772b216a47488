"""The image autoencoder of Flux: 8x8 pixels become one latent of 16 channels, every frame on its own.

Legend: B batch, C channels, T frames, H, W rows and columns; H', W' those of latents. Pixels are in [-1, 1].
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from opensora.checkpoint.locate import resolve
from opensora.models.autoencoder import Autoencoder, check_size, cut_frames
from opensora.models.autoencoder_2d.blocks import AttnBlock
from opensora.models.autoencoder_2d.coder import Decoder, Encoder
from opensora.models.autoencoder_2d.config import AutoEncoderConfig
from opensora.models.distribution import DiagonalGaussianDistribution


class AutoEncoder(Autoencoder):
    """Encodes pictures, or the frames of a clip one by one. Sides that are no multiple of 8 are rounded down."""

    config_type = AutoEncoderConfig
    family = "flux"

    def __init__(self, config: AutoEncoderConfig) -> None:
        super().__init__(config)
        self.config = config
        self.latent_channels = config.z_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @classmethod
    def from_config(cls, config: AutoEncoderConfig) -> Self:
        """The network of a configuration, with the weights that its `from_pretrained` names, in evaluation mode.

        Raises:
            CheckpointError: the weights are not exactly those of this network; or another ValueError where there are
                none.
        """
        if config.from_pretrained is None:
            return cls(config).eval()
        cache = None if config.cache_dir is None else Path(config.cache_dir)
        return cls.load(config, resolve(config.from_pretrained, cache=cache))

    def encode(self, x: Tensor, sample: bool | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Pixels (B, C, T, H, W) -> normalised latents (B, C', T, H', W').

        Args:
            x: pictures have T = 1.
            sample: a random latent of the posterior, or the likeliest one. None draws where there is a generator, if
                the configuration's `sample` is set.
            generator: what a sample is drawn from.

        Raises:
            ValueError: a wrong shape; a sample without a generator.
        """
        if sample is None:
            sample = self.config.sample and generator is not None
        return super().encode(x, sample, generator)

    def posterior(self, x: Tensor) -> DiagonalGaussianDistribution:
        """Pixels (B, C, T, H, W) -> the distribution of raw latents (B, C', T', H', W')."""
        return DiagonalGaussianDistribution(self.encode_moments(x))

    def encode_moments(self, x: Tensor) -> Tensor:
        """Pixels (B, C, T, H, W) -> means and log-variances of raw latents (B, 2 C', T, H', W')."""
        self.check_pixels(x)
        return by_frame(self.encoder, x)

    def decode_raw(self, z: Tensor, num_frames: int | None = None) -> Tensor:
        """Raw latents (B, C', T, H', W') -> pixels (B, C, T, H, W), cut to `num_frames` where given."""
        self.check_latents(z)
        return cut_frames(by_frame(self.decoder, z), num_frames)

    def normalize(self, z: Tensor) -> Tensor:
        """``scale_factor (z - shift_factor)``."""
        return self.config.scale_factor * (z - self.config.shift_factor)

    def denormalize(self, z: Tensor) -> Tensor:
        """``z / scale_factor + shift_factor``."""
        return z / self.config.scale_factor + self.config.shift_factor

    def get_latent_size(self, size: Sequence[int | None]) -> tuple[int | None, int | None, int | None]:
        """(T, H, W) of pixels -> (T, H', W') that :meth:`encode` makes of them; None stays None.

        Raises:
            ValueError: not three positive numbers, or a side smaller than a latent.
        """
        t, h, w = (
            None if pixels is None else pixels // ratio
            for pixels, ratio in zip(check_size(size), self.patch_size, strict=True)
        )
        if 0 in (h, w):
            raise ValueError(f"Got (frames, height, width) {tuple(size)}; smaller than a latent, {self.patch_size}.")
        return t, h, w


def by_frame(coder: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B, C', T, H', W') by a coder of (B, C, H, W)."""
    frames = x.transpose(1, 2).flatten(0, 1)  # BT C H W
    return coder(frames).unflatten(0, (x.shape[0], -1)).transpose(1, 2)


__all__ = ["AttnBlock", "AutoEncoder", "AutoEncoderConfig", "DiagonalGaussianDistribution"]
