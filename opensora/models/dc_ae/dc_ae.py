"""The deep-compression video autoencoder: 4x32x32 pixels become one latent of 128 channels.

Legend: B batch, C channels, T frames, H, W rows and columns; T', H', W' those of latents. Pixels are in [-1, 1].
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from opensora.models.autoencoder import Autoencoder, check_size, cut_frames, fill_up, in_batches
from opensora.models.dc_ae.coder import Decoder, Encoder
from opensora.models.dc_ae.config import DCAEConfig
from opensora.models.dc_ae.lengths import frames_to_encode, latent_frames
from opensora.models.distribution import DiagonalGaussianDistribution
from opensora.nn.tiling import Coder, code_in_space, code_in_time


class DCAE(Autoencoder):
    """Encodes clips of 4 n frames, n > 1, to n latent frames, and a picture to one; other lengths are filled up.

    Every latent sees all frames: nothing is causal. There is no variance, so that a sample is the likeliest latent.
    """

    config_type = DCAEConfig
    family = "2.0"

    def __init__(self, config: DCAEConfig) -> None:
        super().__init__(config)
        self.config = config
        self.latent_channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def posterior(self, x: Tensor) -> DiagonalGaussianDistribution:
        """Pixels (B, C, T, H, W) -> raw latents (B, C', T', H', W') as a distribution without variance."""
        z = self.encode_raw(x)
        return DiagonalGaussianDistribution(torch.cat([z, torch.zeros_like(z)], dim=1), deterministic=True)

    def encode_raw(self, x: Tensor) -> Tensor:
        """Pixels (B, C, T, H, W) -> raw latents (B, C', T', H', W')."""
        self.check_pixels(x)
        x = fill_up(x, frames_to_encode(x.shape[2], self.config))
        return in_batches(self._encode, x, self.config.micro_batch_size)

    def decode_raw(self, z: Tensor, num_frames: int | None = None) -> Tensor:
        """Raw latents (B, C', T', H', W') -> pixels (B, C, T, H, W), cut to `num_frames` where given.

        Raises:
            ValueError: the latents hold fewer frames; with compat="published" those there are come back.
        """
        self.check_latents(z)
        x = in_batches(self._decode, z, self.config.micro_batch_size)
        return x[:, :, :num_frames] if self.config.compat == "published" else cut_frames(x, num_frames)

    def normalize(self, z: Tensor) -> Tensor:
        """``z / scaling_factor``."""
        return z if self.config.scaling_factor is None else z / self.config.scaling_factor

    def denormalize(self, z: Tensor) -> Tensor:
        """``z scaling_factor``."""
        return z if self.config.scaling_factor is None else z * self.config.scaling_factor

    def get_latent_size(self, size: Sequence[int | None]) -> tuple[int | None, int | None, int | None]:
        """(T, H, W) of pixels -> (T', H', W') that :meth:`encode` makes of them; None stays None.

        Raises:
            ValueError: not three positive numbers; sides that are no multiple of a latent's.
        """
        frames, *sides = check_size(size)
        ratio = self.patch_size[1]
        if any(side is not None and side % ratio for side in sides):
            raise ValueError(f"Got {sides[0]} rows and {sides[1]} columns; expected multiples of {ratio}.")
        height, width = (None if side is None else side // ratio for side in sides)
        return None if frames is None else latent_frames(frames, self.config), height, width

    def _encode(self, x: Tensor) -> Tensor:
        time = self.config.time_tiles(encode=True)
        if self.config.use_temporal_tiling and x.shape[2] > time.size:
            return code_in_time(self._encode_in_space, x, time, causal=False, each_tile=self.each_tile)
        return self._encode_in_space(x)

    def _decode(self, z: Tensor) -> Tensor:
        time = self.config.time_tiles(encode=False)
        if self.config.use_temporal_tiling and z.shape[2] > time.size:
            # A tile of one latent frame would decode to one frame, as a picture does, instead of four.
            least = 1 if self.config.compat == "published" else 2
            return code_in_time(self._decode_in_space, z, time, False, least, self.each_tile)
        return self._decode_in_space(z)

    def _encode_in_space(self, x: Tensor) -> Tensor:
        return self._in_space(self.encoder, x, encode=True)

    def _decode_in_space(self, z: Tensor) -> Tensor:
        return self._in_space(self.decoder, z, encode=False)

    def _in_space(self, coder: Coder, x: Tensor, encode: bool) -> Tensor:
        tiles = self.config.space_tiles(encode)
        if self.config.use_spatial_tiling and max(x.shape[3:]) > tiles.size:
            return code_in_space(coder, x, tiles, self.each_tile)
        return coder(x)


__all__ = ["DCAE", "DCAEConfig"]
