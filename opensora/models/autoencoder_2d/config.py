"""Configuration of the image autoencoder."""

from dataclasses import dataclass

from opensora.models.autoencoder_2d.blocks import GROUPS


@dataclass(frozen=True)
class AutoEncoderConfig:
    """What an :class:`AutoEncoder` is built from; the defaults are the published checkpoint of FLUX.1."""

    from_pretrained: str | None = None
    """Weights that :meth:`AutoEncoder.from_config` loads: a file, a folder or a hub id. None: freshly drawn ones."""
    cache_dir: str | None = None
    """Folder of the downloads; None reads HF_HUB_CACHE and HF_HOME."""
    resolution: int = 256
    """Side in pixels of the pictures it was trained on; it takes any."""
    in_channels: int = 3
    """Channels of a pixel going in."""
    ch: int = 128
    """Channels at the size of the pixels."""
    out_ch: int = 3
    """Channels of a pixel coming out."""
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    """Channels of each level, in multiples of `ch`; every level but the last halves rows and columns."""
    num_res_blocks: int = 2
    """Residual blocks of an encoder level; a decoder level has one more."""
    z_channels: int = 16
    """Channels of a latent."""
    scale_factor: float = 0.3611
    """What raw latents are multiplied by, so that a denoiser sees a standard deviation of 1."""
    shift_factor: float = 0.1159
    """What is subtracted from raw latents before that."""
    sample: bool = True
    """`encode` draws a latent when it is given a generator and is not told otherwise; the likeliest one if False."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ch_mult", tuple(self.ch_mult))
        for name in ("resolution", "in_channels", "ch", "out_ch", "num_res_blocks", "z_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1.")
        for width in self.widths:
            if width % GROUPS:
                raise ValueError(f"ch * ch_mult gives {width} channels, expected a multiple of {GROUPS} groups.")
        if self.scale_factor == 0:
            raise ValueError("scale_factor is 0, expected another number: latents are divided by it.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.ch * m for m in self.ch_mult)

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels per latent."""
        space = 2 ** (len(self.ch_mult) - 1)
        return 1, space, space
