"""The Open-Sora 1.2 video autoencoder: 4x8x8 pixels become one latent of 4 channels, first each frame, then the clip.

Legend: B batch, C channels, T frames, H, W rows and columns; T', H', W' those of latents. Pixels are in [-1, 1].
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from opensora.models.autoencoder import Autoencoder, check_size, cut_frames
from opensora.models.distribution import DiagonalGaussianDistribution
from opensora.models.vae_v12.config import SpatialConfig, TemporalConfig, VAEv12Config
from opensora.models.vae_v12.spatial import SCALE, SpatialVAE
from opensora.models.vae_v12.temporal import TemporalVAE
from opensora.models.vae_v12.windows import decoded_frames, frame_windows, latent_frames, latent_windows
from opensora.nn.memory_format import convert


class OpenSoraVAE_V1_2(Autoencoder):
    """Encodes clips of any length to latents, and decodes them; sides that are no multiple of 8 are rounded down."""

    config_type = VAEv12Config
    family = "1.2"
    scale: Tensor
    shift: Tensor

    def __init__(self, config: VAEv12Config) -> None:
        super().__init__(config)
        self.config = config
        self.latent_channels = config.temporal.embed_dim
        self.spatial_vae = SpatialVAE(config.spatial)
        self.temporal_vae = TemporalVAE(config.temporal)
        for name in ("scale", "shift"):  # part of the published file format
            self.register_buffer(name, torch.tensor(getattr(config, name)).view(1, -1, 1, 1, 1))

    @classmethod
    def load(cls, config: Any, path: Path) -> Self:
        """As every autoencoder's; a file whose statistics of latents are not those of the configuration is refused."""
        model = super().load(config, path)
        for name in ("scale", "shift"):
            held, wanted = getattr(model, name).flatten().float(), torch.tensor(getattr(model.config, name))
            if not torch.allclose(held, wanted, rtol=2**-7, atol=0):
                raise ValueError(
                    f"the checkpoint has the {name} {held.tolist()} of latents, the configuration {wanted.tolist()}; "
                    f"set {name} to the checkpoint's."
                )
        return model

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As ``nn.Module.to``; ``memory_format=torch.channels_last_3d`` also works beside the 2-D convolutions here."""
        layout = kwargs.pop("memory_format", None)
        super().to(*args, **kwargs)
        if layout is not None:
            convert(self, layout)
        return self

    def encode(self, x: Tensor, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Pixels (B, 3, T, H, W) -> normalised latents (B, C, T', H', W'): the likeliest, or a random `sample`.

        A sample draws the latents of the frames first, and then those of the clip. (The public code always samples.)

        Raises:
            ValueError: a wrong shape; a sample without the `generator` that it is drawn from.
        """
        if not sample or generator is None:
            return super().encode(x, sample, generator)
        frames = SCALE * self.frame_posterior(x).sample(generator)
        return self.normalize(self.clip_posterior(frames).sample(generator))

    def posterior(self, x: Tensor) -> DiagonalGaussianDistribution:
        """Pixels (B, 3, T, H, W) -> the distribution of raw latents (B, C, T', H', W'), for the likeliest latents of
        the frames."""
        return self.clip_posterior(SCALE * self.frame_posterior(x).mode())

    def frame_posterior(self, x: Tensor) -> DiagonalGaussianDistribution:
        """Pixels (B, 3, T, H, W) -> the distribution of raw latents of frames (B, C, T, H', W')."""
        self.check_pixels(x)
        return DiagonalGaussianDistribution(self.spatial_vae.encode_moments(x))

    def clip_posterior(self, frames: Tensor) -> DiagonalGaussianDistribution:
        """Latents of frames (B, C, T, H', W') -> the distribution of raw latents of the clip (B, C, T', H', W')."""
        windows = frame_windows(frames.shape[2], self.config)
        moments = self.each_tile(self.temporal_vae.encode_moments, [frames[:, :, a:b] for a, b in windows])
        return DiagonalGaussianDistribution(torch.cat(list(moments), dim=2))

    def decode_raw(self, z: Tensor, num_frames: int | None = None) -> Tensor:
        """Raw latents (B, C, T', H', W') -> pixels (B, 3, T, H, W).

        Args:
            z: latents.
            num_frames: length of the clip that was encoded, or a shorter one, to which it is cut. Without it, the first
                latent frame of the last window stands for one frame.

        Raises:
            ValueError: a wrong shape; the latents hold fewer frames.
        """
        self.check_latents(z)
        counts = decoded_frames(z.shape[2], num_frames, self.config)
        windows = [z[:, :, a:b] for a, b in latent_windows(z.shape[2], self.config)]
        decoded = self.each_tile(lambda i: self.temporal_vae.decode(windows[i], counts[i]), range(len(windows)))
        frames = torch.cat(list(decoded), dim=2)
        return self.spatial_vae.decode(cut_frames(frames, num_frames) / SCALE)

    def normalize(self, z: Tensor) -> Tensor:
        """``(z - shift) / scale``, in float32."""
        self.check_latents(z)
        return ((z.float() - self.shift.float()) / self.scale.float()).to(z.dtype)

    def denormalize(self, z: Tensor) -> Tensor:
        """``z * scale + shift``, in float32."""
        self.check_latents(z)
        return (z.float() * self.scale.float() + self.shift.float()).to(z.dtype)

    def get_latent_size(self, size: Sequence[int | None]) -> tuple[int | None, int | None, int | None]:
        """(T, H, W) of pixels -> (T', H', W') that :meth:`encode` makes of them; None stays None.

        Raises:
            ValueError: not three positive numbers, or a side smaller than a latent. (The public code says 0.)
        """
        frames, *sides = check_size(size)
        h, w = (None if side is None else side // self.config.spatial.patch_size for side in sides)
        if 0 in (h, w):
            raise ValueError(f"Got (frames, height, width) {tuple(size)}; smaller than a latent, {self.patch_size}.")
        return None if frames is None else latent_frames(frames, self.config), h, w


__all__ = ["OpenSoraVAE_V1_2", "SpatialConfig", "TemporalConfig", "VAEv12Config"]
