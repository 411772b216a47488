"""Configuration of the Hunyuan video autoencoder."""

from dataclasses import dataclass

from opensora.nn.compat import Compat, check_compat
from opensora.nn.tiling import Tiles


@dataclass(frozen=True)
class HunyuanVAEConfig:
    """What an :class:`AutoencoderKLCausal3D` is built from; the defaults are the published checkpoint as Open-Sora 2.0
    uses it."""

    in_channels: int = 3
    """Channels of a pixel going in."""
    out_channels: int = 3
    """Channels of a pixel coming out."""
    latent_channels: int = 16
    """Channels of a latent."""
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    """Channels of each level, from the size of the pixels downwards."""
    layers_per_block: int = 2
    """Residual blocks of an encoder level; a decoder level has one more."""
    norm_num_groups: int = 32
    """Groups of the normalisation layers; every level's channels are a multiple of it."""
    mid_block_add_attention: bool = True
    """Attention at the smallest size, over all frames up to a position's own."""
    time_compression_ratio: int = 4
    """Frames per latent frame, a power of 2; the last levels that change size change time as well."""
    spatial_compression_ratio: int = 8
    """Rows and columns per latent, a power of 2; the first levels change it."""
    scale_factor: float = 0.476986
    """What raw latents are multiplied by, so that a denoiser sees a standard deviation of 1."""
    shift_factor: float = 0.0
    """What is subtracted from raw latents before that."""
    use_spatial_tiling: bool = True
    """Code pictures larger than `sample_size` in tiles of rows and columns. Less memory, close to the whole."""
    use_temporal_tiling: bool = False
    """Code clips longer than `sample_tsize` in tiles of frames. Less memory, close to the whole."""
    sample_size: int = 256
    """Rows and columns of pixels of a tile."""
    sample_tsize: int = 64
    """Frames of a tile."""
    tile_overlap_factor: float = 0.25
    """Part of a tile that it shares with the next one."""
    micro_batch_size: int | None = 1
    """Clips coded at once (same result, less memory); None codes a batch in one piece."""
    conv_tile: int | None = 4
    """Frames of output of a convolution of a large activation at a time, when no gradient is needed (same result, less
    memory); None convolves it whole."""
    compat: Compat = "right"
    """``published`` does not fill up the last latent frame, and so loses frames; see docs/differences.md."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "block_out_channels", tuple(self.block_out_channels))
        for width in self.block_out_channels:
            if width % self.norm_num_groups:
                raise ValueError(
                    f"block_out_channels holds {width}, expected multiples of norm_num_groups ({self.norm_num_groups})."
                )
        for name in ("time_compression_ratio", "spatial_compression_ratio"):
            ratio = getattr(self, name)
            if ratio not in [2**n for n in range(self.levels)]:
                raise ValueError(
                    f"{name} is {ratio}, expected a power of 2 up to {2 ** (self.levels - 1)}: "
                    f"{self.levels} levels change size {self.levels - 1} times."
                )
        for name in ("layers_per_block", "micro_batch_size", "conv_tile"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1.")
        if self.scale_factor == 0:
            raise ValueError("scale_factor is 0, expected another number: latents are divided by it.")
        check_compat(self.compat)
        self._check_tiles()

    def _check_tiles(self) -> None:
        for name, ratio in (("sample_size", self.spatial_compression_ratio), ("sample_tsize", self.patch_size[0])):
            if getattr(self, name) < ratio or getattr(self, name) % ratio:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a multiple of {ratio}.")
        if not 0 <= self.tile_overlap_factor < 1:
            raise ValueError(f"tile_overlap_factor is {self.tile_overlap_factor}, expected 0 to below 1.")
        for encode in (True, False):
            self.space_tiles(encode)
            self.time_tiles(encode)

    @property
    def levels(self) -> int:
        """How many sizes there are."""
        return len(self.block_out_channels)

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels per latent."""
        return self.time_compression_ratio, self.spatial_compression_ratio, self.spatial_compression_ratio

    def changes_space(self, level: int) -> bool:
        """Whether rows and columns change behind that level, counted from the input of a coder."""
        return level < self.spatial_compression_ratio.bit_length() - 1

    def changes_time(self, level: int) -> bool:
        """Whether frames change behind that level, counted from the input of a coder."""
        last = self.levels - 1
        return last - (self.time_compression_ratio.bit_length() - 1) <= level < last

    def space_tiles(self, encode: bool) -> Tiles:
        """Tiles of rows and of columns."""
        return _tiles(self.sample_size, self.spatial_compression_ratio, self.tile_overlap_factor, encode)

    def time_tiles(self, encode: bool) -> Tiles:
        """Tiles of frames behind the first frame of each."""
        return _tiles(self.sample_tsize, self.time_compression_ratio, self.tile_overlap_factor, encode)


def _tiles(pixels: int, ratio: int, overlap: float, encode: bool) -> Tiles:
    sizes = (pixels, pixels // ratio) if encode else (pixels // ratio, pixels)
    return Tiles.overlapping(*sizes, overlap)
