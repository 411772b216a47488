"""Configuration of the 1.2 autoencoder: one network for the pixels of a frame, one for the frames of a clip."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SpatialConfig:
    """Shape of the network of frames, diffusers' ``AutoencoderKL``; the defaults are the published one."""

    in_channels: int = 3
    """Channels of a pixel."""
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    """Channels of each level; every level but the last halves rows and columns."""
    layers_per_block: int = 2
    """Residual blocks of an encoder level; a decoder level has one more."""
    latent_channels: int = 4
    """Channels of a frame's latent."""
    norm_num_groups: int = 32
    """Groups of the normalisation layers; every level's channels are a multiple of it."""
    micro_batch_size: int | None = 4
    """Frames coded at once when no gradient is needed (same result, less memory); None codes all in one piece."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))
        _check_groups("block_out_channels", self.block_out_channels, "norm_num_groups", self.norm_num_groups)
        _check_counts(self, ("in_channels", "layers_per_block", "latent_channels"))
        if self.micro_batch_size is not None:
            _check_counts(self, ("micro_batch_size",))

    @property
    def patch_size(self) -> int:
        """Rows and columns of pixels per latent."""
        return 2 ** (len(self.block_out_channels) - 1)


@dataclass(frozen=True)
class TemporalConfig:
    """Shape of the network of clips, whose input are the latents of frames; the defaults are the published one."""

    in_out_channels: int = 4
    """Channels of a frame's latent."""
    latent_embed_dim: int = 4
    """Channels between encoder and decoder."""
    embed_dim: int = 4
    """Channels of a clip's latent."""
    filters: int = 128
    """Channels of the first level."""
    num_res_blocks: int = 4
    """Residual blocks of a level."""
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 4)
    """Channels of each level, in multiples of `filters`."""
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    """Whether each level but the last halves the number of frames."""
    num_groups: int = 32
    """Groups of the normalisation layers; every level's channels are a multiple of it."""

    def __post_init__(self) -> None:
        for name in ("channel_multipliers", "temporal_downsample"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_counts(self, ("in_out_channels", "latent_embed_dim", "embed_dim", "num_res_blocks"))
        _check_groups("filters * channel_multipliers", self.widths, "num_groups", self.num_groups)
        if len(self.temporal_downsample) != len(self.channel_multipliers) - 1:
            raise ValueError(
                f"temporal_downsample has {len(self.temporal_downsample)} entries for {len(self.channel_multipliers)} "
                "levels; expected one for each level but the last."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.filters * m for m in self.channel_multipliers)

    @property
    def patch_size(self) -> int:
        """Frames per latent frame."""
        return 2 ** sum(self.temporal_downsample)


@dataclass(frozen=True)
class VAEv12Config:
    """What an :class:`OpenSoraVAE_V1_2` is built from; the defaults are those of the published checkpoint."""

    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    """The network of frames."""
    temporal: TemporalConfig = field(default_factory=TemporalConfig)
    """The network of clips."""
    micro_frame_size: int | None = 17
    """Frames that the network of clips codes together; longer clips are cut. None takes any clip in one piece."""
    shift: tuple[float, ...] = (-0.1, 0.34, 0.27, 0.98)
    """Mean of each latent channel, which is taken off so that a denoiser sees 0."""
    scale: tuple[float, ...] = (3.85, 2.32, 2.33, 3.06)
    """Standard deviation of each latent channel, by which they are divided."""

    def __post_init__(self) -> None:
        if self.spatial.latent_channels != self.temporal.in_out_channels:
            raise ValueError(
                f"spatial.latent_channels is {self.spatial.latent_channels}, temporal.in_out_channels is "
                f"{self.temporal.in_out_channels}; expected the same."
            )
        if self.micro_frame_size is not None:
            _check_counts(self, ("micro_frame_size",))
        for name in ("shift", "scale"):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) != self.temporal.embed_dim:
                raise ValueError(
                    f"{name} has {len(values)} values, expected one of {self.temporal.embed_dim} channels."
                )
        if min(self.scale) <= 0:
            raise ValueError(f"scale holds {min(self.scale)}, expected positive numbers.")

    @property
    def in_channels(self) -> int:
        """Channels of a pixel."""
        return self.spatial.in_channels

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels per latent."""
        return self.temporal.patch_size, self.spatial.patch_size, self.spatial.patch_size


def _check_counts(config: object, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}, expected at least 1.")


def _check_groups(name: str, widths: tuple[int, ...], what: str, groups: int) -> None:
    for width in widths:
        if width < 1 or width % groups:
            raise ValueError(f"{name} gives {width} channels, expected a multiple of {what} ({groups}).")
