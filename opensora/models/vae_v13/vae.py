"""The Open-Sora 1.3 video autoencoder: 4x8x8 pixels become one latent of 16 channels.

Legend: B batch, C channels, T frames, H, W rows and columns; T', H', W' those of latents. Pixels are in [-1, 1].
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from opensora.checkpoint.layout import read_object
from opensora.checkpoint.locate import resolve
from opensora.checkpoint.safetensors_io import load_strict
from opensora.config import from_dict
from opensora.models.distribution import DiagonalGaussianDistribution
from opensora.models.vae_v13.coder import Decoder, Encoder
from opensora.models.vae_v13.config import VAEv13Config
from opensora.models.vae_v13.normalization import over_frames
from opensora.models.vae_v13.windows import fill_up, frame_windows, join_windows, latent_frames, latent_windows
from opensora.nn.memory_format import convert
from opensora.nn.tiling import EachTile


class OpenSoraVAE_V1_3(nn.Module):
    """Encodes clips of any length (a single image is a clip of one frame) to latents, and decodes them."""

    def __init__(self, config: VAEv13Config) -> None:
        super().__init__()
        self.config = config
        self.patch_size = config.patch_size
        self.latent_channels = config.z_channels
        self.each_tile: EachTile = map
        """How windows are coded."""
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @classmethod
    def from_pretrained(cls, source: str | Path, **overrides: Any) -> Self:
        """The network of a checkpoint, on the CPU in float32, in evaluation mode.

        `source` is a folder with safetensors weights, such a file itself, or the id of a repository on the hub. The
        configuration is the config.json beside the weights if we wrote it, else the published one; `overrides` replace
        fields of :class:`VAEv13Config`.

        Raises:
            CheckpointError: the weights are not exactly those of this network; or another ValueError where there are
                none, or they are marked as something else.
        """
        path = resolve(source)
        folder = path if path.is_dir() else path.parent
        config = replace(read_config(folder / "config.json"), **overrides)
        with torch.device("meta"):
            model = cls(config)
        load_strict(model, path, expect={"role": "vae", "family": "1.3"})
        return model.eval()

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As ``nn.Module.to``; ``memory_format=torch.channels_last_3d`` also works beside the 2-D convolutions here."""
        layout = kwargs.pop("memory_format", None)
        super().to(*args, **kwargs)
        if layout is not None:
            convert(self, layout)
        return self

    def encode(self, x: Tensor, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Pixels (B, 3, T, H, W) -> normalised latents (B, C, T', H', W'): the likeliest, or a random `sample`."""
        posterior = self.posterior(x)
        return self.normalize(posterior.sample(generator) if sample else posterior.mode())

    def decode(self, z: Tensor, num_frames: int | None = None) -> Tensor:
        """Normalised latents (B, C, T', H', W') -> pixels (B, 3, T, H, W), cut to `num_frames` where given."""
        return self.decode_raw(self.denormalize(z), num_frames)

    def posterior(self, x: Tensor) -> DiagonalGaussianDistribution:
        """Pixels (B, 3, T, H, W) -> the distribution of raw latents (B, C, T', H', W')."""
        return DiagonalGaussianDistribution(self.encode_moments(x))

    def encode_moments(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) -> means and log-variances of raw latents (B, 2 C, T', H', W')."""
        self._check(x, self.config.in_channels, "pixels (B, 3, T, H, W)")
        if 0 in self.get_latent_size(x.shape[2:])[1:]:
            raise ValueError(
                f"Got pixels of shape {tuple(x.shape)}; they are smaller than a latent, {self.patch_size[1:]}."
            )
        return self._in_batches(x, self._encode_windows)

    def decode_raw(self, z: Tensor, num_frames: int | None = None) -> Tensor:
        """Raw latents (B, C, T', H', W') -> pixels (B, 3, T, H, W), cut to `num_frames` where given.

        Raises:
            ValueError: the latents hold fewer frames; with compat="published" those there are come back.
        """
        self._check(z, self.config.z_channels, "latents (B, C, T', H', W')")
        x = self._in_batches(z, self._decode_windows)
        if num_frames is None:
            return x
        if x.shape[2] < num_frames and self.config.compat == "right":
            raise ValueError(f"Asked for {num_frames} frames, but {z.shape[2]} latent frames decode to {x.shape[2]}.")
        return x[:, :, :num_frames]

    def normalize(self, z: Tensor) -> Tensor:
        """Raw latents (B, C, T', H', W') to mean 0 and standard deviation 1 per channel."""
        statistics = self._statistics(z)
        return z if statistics is None else ((z - statistics[0]) / statistics[1]).to(z.dtype)

    def denormalize(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`."""
        statistics = self._statistics(z)
        return z if statistics is None else (z * statistics[1] + statistics[0]).to(z.dtype)

    def _statistics(self, z: Tensor) -> tuple[Tensor, Tensor] | None:
        """float32 mean and standard deviation that broadcast against latents."""
        self._check(z, self.config.z_channels, "latents (B, C, T', H', W')")
        statistics = self.config.statistics()
        if statistics is None:
            return None
        mean, std = (torch.tensor(values, dtype=torch.float32, device=z.device) for values in statistics)
        return over_frames(mean, z.shape[2]), over_frames(std, z.shape[2])

    def _encode_windows(self, x: Tensor) -> Tensor:
        windows = [x[:, :, start:stop] for start, stop in frame_windows(x.shape[2], self.config)]
        if self.config.compat == "right":
            windows = [fill_up(window, self.patch_size[0]) for window in windows]
        return join_windows(self.each_tile(self.encoder, windows), overlap=False)

    def _decode_windows(self, z: Tensor) -> Tensor:
        windows = [z[:, :, a:b] for a, b in latent_windows(z.shape[2], self.config)]
        return join_windows(self.each_tile(self.decoder, windows), self.config.temporal_overlap)

    def _in_batches(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        size = x.shape[0] if torch.is_grad_enabled() else self.config.micro_batch_size or x.shape[0]
        return torch.cat([function(part) for part in x.split(size)]) if size < x.shape[0] else function(x)

    def get_latent_size(self, size: Sequence[int | None]) -> tuple[int | None, int | None, int | None]:
        """(T, H, W) of pixels -> (T', H', W') that :meth:`encode` makes of them; None stays None."""
        frames, height, width = size
        if any(side is not None and side < 1 for side in size):
            raise ValueError(f"Got (frames, height, width) {tuple(size)}; expected positive numbers.")
        time = None if frames is None else latent_frames(frames, self.config)
        return time, self._latent_side(height), self._latent_side(width)

    def _latent_side(self, pixels: int | None) -> int | None:
        if pixels is None:
            return None
        if self.config.compat == "published":
            return -(-pixels // self.patch_size[1])
        for level in range(len(self.config.ch_mult) - 1):
            pixels = -(-pixels // 2) if level in self.config.down_sampling_layer else pixels // 2
        return pixels

    def _check(self, x: Tensor, channels: int, expected: str) -> None:
        if x.ndim != 5 or x.shape[1] != channels:
            raise ValueError(f"Got a tensor of shape {tuple(x.shape)}; expected {expected} with {channels} channels.")


def read_config(path: Path) -> VAEv13Config:
    """The configuration in a config.json of ours; the published one where there is none, or one in the hub's format.

    Raises:
        ValueError: no JSON object, or not of this network; names the file.
    """
    values = read_object(path) if path.is_file() else {}
    if "architectures" in values or "model_type" in values:
        values = {}
    try:
        return from_dict(VAEv13Config, values)
    except ValueError as error:
        raise ValueError(f"{path.parent.name}/{path.name}: {error}") from error


__all__ = ["OpenSoraVAE_V1_3", "VAEv13Config"]
