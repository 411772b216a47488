"""What the autoencoders of generations 1.2 and 2.0 share: loading, the interface, checks of sizes.

Legend: B batch, C channels, T frames, H, W rows and columns; T', H', W' those of latents. Pixels are in [-1, 1].
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from opensora.checkpoint.layout import SINGLE, read_object
from opensora.checkpoint.locate import resolve
from opensora.checkpoint.safetensors_io import load_strict
from opensora.config import from_dict
from opensora.models.distribution import DiagonalGaussianDistribution
from opensora.nn.tiling import EachTile

FOREIGN = ("architectures", "model_type", "_class_name")
"""Entries that only other libraries write into a config.json."""


class Autoencoder(nn.Module, ABC):
    """Pixels to normalised latents and back, for clips; a picture is a clip of one frame.

    Latents are normalised: about mean 0 and standard deviation 1 over the data of the published training.
    """

    config_type: ClassVar[type]
    """The configuration's class; its defaults are the published network."""
    family: ClassVar[str]
    """What our own exports of it say they are."""
    patch_size: tuple[int, int, int]
    """Frames, rows and columns of pixels per latent."""
    in_channels: int
    """Channels of a pixel."""
    latent_channels: int
    """Channels of a latent."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.in_channels = config.in_channels
        self.each_tile: EachTile = map
        """How tiles and windows are coded."""

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        filename: str | None = None,
        cache_dir: str | Path | None = None,
        **overrides: Any,
    ) -> Self:
        """The network of a checkpoint, on the CPU in float32, in evaluation mode.

        Args:
            source: a folder with safetensors weights, such a file itself, or the id of a repository on the hub.
            filename: which file of a folder or repository that holds several networks.
            cache_dir: folder of the downloads; None reads HF_HUB_CACHE and HF_HOME.
            overrides: fields of the configuration to replace. It is the config.json beside the weights if we wrote it
                and the weights are the folder's only ones (a folder, or a file of the usual name); else the published
                one.

        Raises:
            CheckpointError: the weights are not exactly those of this network; or another ValueError where there are
                none, or they are marked as something else.
        """
        path = resolve(source, filename, cache=None if cache_dir is None else Path(cache_dir))
        own = path.is_dir() or path.name in SINGLE
        beside = (path if path.is_dir() else path.parent) / "config.json"
        config = replace(read_config(cls.config_type, beside) if own else cls.config_type(), **overrides)
        return cls.load(config, path)

    @classmethod
    def load(cls, config: Any, path: Path) -> Self:
        """The network of a configuration with the weights of a file or folder, in evaluation mode.

        Raises:
            CheckpointError: the weights are not exactly those of this network; or another ValueError where they are
                marked as something else.
        """
        with torch.device("meta"):
            model = cls(config)
        load_strict(model, path, expect={"role": "vae", "family": cls.family})
        return model.eval()

    def encode(self, x: Tensor, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Pixels (B, C, T, H, W) -> normalised latents (B, C', T', H', W'): the likeliest, or a random `sample`.

        Raises:
            ValueError: a wrong shape; a sample without the `generator` that it is drawn from.
        """
        if sample and generator is None:
            raise ValueError("A sample of the latents needs the generator it is drawn from; give generator=.")
        posterior = self.posterior(x)
        return self.normalize(posterior.sample(generator) if sample else posterior.mode())

    def decode(self, z: Tensor, num_frames: int | None = None) -> Tensor:
        """Normalised latents (B, C', T', H', W') -> pixels (B, C, T, H, W), cut to `num_frames` where given.

        Raises:
            ValueError: a wrong shape; the latents hold fewer frames.
        """
        return self.decode_raw(self.denormalize(z), num_frames)

    @abstractmethod
    def posterior(self, x: Tensor) -> DiagonalGaussianDistribution:
        """Pixels (B, C, T, H, W) -> the distribution of raw latents (B, C', T', H', W')."""

    @abstractmethod
    def decode_raw(self, z: Tensor, num_frames: int | None = None) -> Tensor:
        """Raw latents (B, C', T', H', W') -> pixels (B, C, T, H, W), cut to `num_frames` where given."""

    @abstractmethod
    def normalize(self, z: Tensor) -> Tensor:
        """Raw latents as a denoiser sees them."""

    @abstractmethod
    def denormalize(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`normalize`."""

    @abstractmethod
    def get_latent_size(self, size: Sequence[int | None]) -> tuple[int | None, int | None, int | None]:
        """(T, H, W) of pixels -> (T', H', W') that :meth:`encode` makes of them; None stays None."""

    def check_pixels(self, x: Tensor) -> None:
        """Raise ValueError unless `x` is (B, C, T, H, W) and at least a latent large."""
        _check(x, self.in_channels, "pixels (B, C, T, H, W)")
        self.get_latent_size(x.shape[2:])

    def check_latents(self, z: Tensor) -> None:
        """Raise ValueError unless `z` is (B, C', T', H', W')."""
        _check(z, self.latent_channels, "latents (B, C', T', H', W')")


def _check(x: Tensor, channels: int, expected: str) -> None:
    if x.ndim != 5 or x.shape[1] != channels:
        raise ValueError(f"Got a tensor of shape {tuple(x.shape)}; expected {expected} with {channels} channels.")


def check_size(size: Sequence[int | None]) -> tuple[int | None, int | None, int | None]:
    """(T, H, W) as a tuple.

    Raises:
        ValueError: not three positive numbers or None.
    """
    if len(size) != 3 or any(side is not None and side < 1 for side in size):
        raise ValueError(f"Got (frames, height, width) {tuple(size)}; expected three positive numbers.")
    frames, height, width = size
    return frames, height, width


def fill_up(x: Tensor, frames: int) -> Tensor:
    """(B, C, T, H, W) with its last frame repeated until there are `frames`."""
    missing = frames - x.shape[2]
    return torch.cat([x, x[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2) if missing else x


def cut_frames(x: Tensor, num_frames: int | None) -> Tensor:
    """The first `num_frames` of pixels (B, C, T, H, W), all without a number.

    Raises:
        ValueError: there are fewer.
    """
    if num_frames is None:
        return x
    if x.shape[2] < num_frames:
        raise ValueError(f"Asked for {num_frames} frames, but the latents decode to {x.shape[2]}.")
    return x[:, :, :num_frames]


def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, size: int | None, each_tile: EachTile = map) -> Tensor:
    """``function(x)`` for `size` samples at a time where no gradient is needed; all at once with None."""
    size = x.shape[0] if torch.is_grad_enabled() else size or x.shape[0]
    return torch.cat(list(each_tile(function, x.split(size)))) if size < x.shape[0] else function(x)


def read_config(config_type: type, path: Path) -> Any:
    """The configuration in a config.json of ours; the published one where there is none, or one of another library.

    Raises:
        ValueError: no JSON object, or not of this network; names the file.
    """
    values: Mapping[str, Any] = read_object(path) if path.is_file() else {}
    if any(entry in values for entry in FOREIGN):
        values = {}
    try:
        return from_dict(config_type, values)
    except ValueError as error:
        raise ValueError(f"{path.parent.name}/{path.name}: {error}") from error
