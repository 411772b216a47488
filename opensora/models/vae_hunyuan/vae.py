"""The Hunyuan video autoencoder: 4x8x8 pixels become one latent of 16 channels, and the first frame stands alone.

Legend: B batch, C channels, T frames, H, W rows and columns; T', H', W' those of latents. Pixels are in [-1, 1].
"""

from collections.abc import Sequence

from torch import Tensor, nn

from opensora.models.autoencoder import Autoencoder, check_size, cut_frames, fill_up, in_batches
from opensora.models.distribution import DiagonalGaussianDistribution
from opensora.models.vae_hunyuan.coder import Decoder, Encoder
from opensora.models.vae_hunyuan.config import HunyuanVAEConfig
from opensora.nn.tiling import Coder, code_in_space, code_in_time


class AutoencoderKLCausal3D(Autoencoder):
    """Encodes clips of 1 + 4 n frames to 1 + n latent frames; other lengths are filled up by repeating the last frame.

    Convolutions look only backwards in time, but the norms run over the whole clip: a latent frame depends a little on
    later ones. Sides that are no multiple of 8 are rounded up to whole latents, and decode to whole latents.
    """

    config_type = HunyuanVAEConfig
    family = "2.0"

    def __init__(self, config: HunyuanVAEConfig) -> None:
        super().__init__(config)
        self.config = config
        self.latent_channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv3d(2 * config.latent_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv3d(config.latent_channels, config.latent_channels, 1)

    def posterior(self, x: Tensor) -> DiagonalGaussianDistribution:
        """Pixels (B, C, T, H, W) -> the distribution of raw latents (B, C', T', H', W')."""
        return DiagonalGaussianDistribution(self.encode_moments(x))

    def encode_moments(self, x: Tensor) -> Tensor:
        """Pixels (B, C, T, H, W) -> means and log-variances of raw latents (B, 2 C', T', H', W')."""
        self.check_pixels(x)
        if self.config.compat == "right":
            x = fill_up(x, 1 + (self.latent_frames(x.shape[2]) - 1) * self.patch_size[0])
        return in_batches(lambda part: self._tiled(self._encode, part, encode=True), x, self.config.micro_batch_size)

    def decode_raw(self, z: Tensor, num_frames: int | None = None) -> Tensor:
        """Raw latents (B, C', T', H', W') -> pixels (B, C, T, H, W), cut to `num_frames` where given.

        Raises:
            ValueError: the latents hold fewer frames; with compat="published" those there are come back.
        """
        self.check_latents(z)
        x = in_batches(lambda part: self._tiled(self._decode, part, encode=False), z, self.config.micro_batch_size)
        return x[:, :, :num_frames] if self.config.compat == "published" else cut_frames(x, num_frames)

    def normalize(self, z: Tensor) -> Tensor:
        """``scale_factor (z - shift_factor)``."""
        return self.config.scale_factor * (z - self.config.shift_factor)

    def denormalize(self, z: Tensor) -> Tensor:
        """``z / scale_factor + shift_factor``."""
        return z / self.config.scale_factor + self.config.shift_factor

    def get_latent_size(self, size: Sequence[int | None]) -> tuple[int | None, int | None, int | None]:
        """(T, H, W) of pixels -> (T', H', W') that :meth:`encode` makes of them; None stays None."""
        frames, *sides = check_size(size)
        height, width = (None if side is None else -(-side // self.patch_size[1]) for side in sides)
        return None if frames is None else self.latent_frames(frames), height, width

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip: one for its first frame, and one for every four that follow or are left over.

        The public code makes no latent frame of one to three frames that are left over, so that of 128 frames 125 come
        back.
        """
        ratio = self.patch_size[0]
        return 1 + (frames - 1) // ratio if self.config.compat == "published" else 1 - (1 - frames) // ratio

    def _encode(self, x: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(x))

    def _decode(self, z: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(z))

    def _tiled(self, coder: Coder, x: Tensor, encode: bool) -> Tensor:
        """``coder(x)``, in tiles along the axes that are longer than one and that the configuration tiles."""
        time, space = self.config.time_tiles(encode), self.config.space_tiles(encode)

        def in_space(part: Tensor) -> Tensor:
            if self.config.use_spatial_tiling and max(part.shape[3:]) > space.size:
                return code_in_space(coder, part, space, self.each_tile)
            return coder(part)

        if self.config.use_temporal_tiling and x.shape[2] > time.size:
            return code_in_time(in_space, x, time, causal=True, each_tile=self.each_tile)
        return in_space(x)


__all__ = ["AutoencoderKLCausal3D", "HunyuanVAEConfig"]
