"""Configuration of the 1.3 autoencoder."""

from dataclasses import dataclass
from typing import Literal

from opensora.models.vae_v13.normalization import STATISTICS, PerChannel


@dataclass(frozen=True)
class VAEv13Config:
    """What an :class:`OpenSoraVAE_V1_3` is built from; the defaults are those of the published checkpoint."""

    z_channels: int = 16
    """Channels of a latent."""
    ch: int = 128
    """Channels at the size of the pixels."""
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    """Channels of each level, in multiples of `ch`; every level but the last halves rows and columns."""
    num_res_blocks: int = 2
    """Residual blocks of an encoder level; a decoder level has one more."""
    down_sampling_layer: tuple[int, ...] = (1, 2)
    """Levels that halve the number of frames, too."""
    in_channels: int = 3
    """Channels of a pixel."""
    norm_groups: int = 32
    """Groups of the normalisation layers; every level's channels are a multiple of it."""
    micro_frame_size: int | None = 17
    """Frames encoded at once; longer clips are cut into windows. None takes any clip in one piece."""
    micro_batch_size: int | None = 1
    """Clips coded at once (same result, less memory); None codes a batch in one piece."""
    micro_batch_size_2d: int | None = 4
    """Frames that go through a 2-D resizing layer at once (same result, less memory)."""
    temporal_overlap: bool = True
    """Neighbouring windows share a frame, which decodes to the mean of both."""
    use_tiled_conv3d: bool = True
    """Compute 3-D convolutions a few frames at a time when no gradient is needed (same result, less memory)."""
    tile_size: int = 4
    """Frames of output of such a tile."""
    normalization: str | None = "video"
    """Named latent statistics of the published checkpoint, "video" or "video_5frames", or None for raw latents."""
    normalization_mean: tuple[float, ...] | None = None
    """Mean of each latent channel; with `normalization_std` it replaces `normalization`."""
    normalization_std: tuple[float, ...] | None = None
    """Standard deviation of each latent channel."""
    compat: Literal["right", "published"] = "right"
    """"published" repeats the defects of the published code, for comparison."""

    def __post_init__(self) -> None:
        self._check_levels()
        self._check_windows()
        self._check_normalization()

    def _check_levels(self) -> None:
        for width in self.widths:
            if width % self.norm_groups:
                raise ValueError(
                    f"ch * ch_mult gives {width} channels, expected a multiple of {self.norm_groups} groups."
                )
        levels = range(len(self.ch_mult) - 1)
        if not set(self.down_sampling_layer) <= set(levels):
            raise ValueError(f"down_sampling_layer is {self.down_sampling_layer}, expected levels of {tuple(levels)}.")

    def _check_windows(self) -> None:
        frames, time = self.micro_frame_size, self.patch_size[0]
        if frames is not None and (frames < 2 or (frames - 1) % time):
            raise ValueError(f"micro_frame_size is {frames}, expected 1 + a multiple of {time} (such as 17), or None.")
        for name in ("micro_batch_size", "micro_batch_size_2d", "tile_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1.")
        if self.compat not in ("right", "published"):
            raise ValueError(f'compat is {self.compat!r}, expected "right" or "published".')

    def _check_normalization(self) -> None:
        mean, std = self.normalization_mean, self.normalization_std
        if (mean is None) != (std is None):
            raise ValueError("Give normalization_mean and normalization_std together, or neither.")
        for name, values in (("normalization_mean", mean), ("normalization_std", std)):
            if values is not None and len(values) != self.z_channels:
                raise ValueError(
                    f"{name} has {len(values)} values, expected one per latent channel ({self.z_channels})."
                )
        if std is not None and min(std) <= 0:
            raise ValueError(f"normalization_std holds {min(std)}, expected positive numbers.")
        if self.normalization not in (None, *STATISTICS):
            names = ", ".join(STATISTICS)
            raise ValueError(f"normalization is {self.normalization!r}, expected one of {names}, or None.")

    def statistics(self) -> tuple[PerChannel, PerChannel] | None:
        """Mean and standard deviation of latents per channel (and frame, if they differ); None for raw latents.

        Raises:
            ValueError: the named statistics are of another number of channels.
        """
        if self.normalization_mean is not None and self.normalization_std is not None:
            return tuple((m,) for m in self.normalization_mean), tuple((s,) for s in self.normalization_std)
        if self.normalization is None:
            return None
        mean, std = STATISTICS[self.normalization]
        if len(mean) != self.z_channels:
            raise ValueError(
                f"The statistics {self.normalization!r} are of {len(mean)} latent channels, this network has "
                f"{self.z_channels}: set normalization_mean and normalization_std, or normalization=None."
            )
        return mean, std

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.ch * m for m in self.ch_mult)

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels per latent."""
        space = 2 ** (len(self.ch_mult) - 1)
        return 2 ** len(self.down_sampling_layer), space, space

    @property
    def conv_tile(self) -> int | None:
        """Frames of a convolution tile, None for whole clips."""
        return self.tile_size if self.use_tiled_conv3d else None
