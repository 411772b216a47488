"""Configuration of the deep-compression video autoencoder."""

from dataclasses import dataclass
from typing import Literal

from opensora.nn.compat import Compat, check_compat
from opensora.nn.tiling import Tiles

BlockType = Literal["ResBlock", "EViT_GLU", "EViTS5_GLU"]
"""Convolutions; linear attention and a gated convolution; the same with a second scale of 5x5x5 in the attention."""


@dataclass(frozen=True)
class DCAEConfig:
    """What a :class:`DCAE` is built from; the defaults are the published dc-ae-f32t4c128 as Open-Sora 2.0 uses it.

    Tuples have one entry per level, from the size of the pixels downwards.
    """

    in_channels: int = 3
    """Channels of a pixel."""
    latent_channels: int = 128
    """Channels of a latent."""
    width_list: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    """Channels of a level; every level but the last halves rows and columns."""
    block_type: tuple[BlockType, ...] = ("ResBlock",) * 3 + ("EViTS5_GLU",) * 3
    """Blocks of a level."""
    encoder_depth_list: tuple[int, ...] = (2, 2, 2, 3, 3, 3)
    """How many blocks of it the encoder has."""
    decoder_depth_list: tuple[int, ...] = (3, 3, 3, 3, 3, 3)
    """How many the decoder has."""
    temporal_downsample: tuple[bool, ...] = (False, False, False, True, True, False)
    """Whether frames are halved behind a level, too; never behind the last."""
    attention_dim: int = 32
    """Width of an attention head; the channels of a level with attention are a multiple of it."""
    scaling_factor: float | None = None
    """What raw latents are divided by; None for 1, as published."""
    use_spatial_tiling: bool = True
    """Code pictures larger than `spatial_tile_size` in tiles of rows and columns. Less memory, close to the whole."""
    use_temporal_tiling: bool = True
    """Code clips longer than `temporal_tile_size` in tiles of frames. Less memory, close to the whole."""
    spatial_tile_size: int = 256
    """Rows and columns of pixels of a tile."""
    temporal_tile_size: int = 32
    """Frames of a tile."""
    tile_overlap_factor: float = 0.25
    """Part of a tile that it shares with the next one."""
    micro_batch_size: int | None = 1
    """Clips coded at once (same result, less memory); None codes a batch in one piece."""
    compat: Compat = "right"
    """``published`` codes lengths as the public code does, which loses frames; see docs/differences.md."""

    def __post_init__(self) -> None:
        lists = ("width_list", "block_type", "encoder_depth_list", "decoder_depth_list", "temporal_downsample")
        for name in lists:
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if len(getattr(self, name)) != self.levels:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, width_list has {self.levels}.")
        check_compat(self.compat)
        self._check_levels()
        self._check_tiles()

    def _check_levels(self) -> None:
        if self.temporal_downsample[-1]:
            raise ValueError("temporal_downsample ends with True, expected False: nothing changes size there.")
        for name in ("encoder_depth_list", "decoder_depth_list"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least one block a level.")
        for width, block in zip(self.width_list, self.block_type, strict=True):
            if block not in ("ResBlock", "EViT_GLU", "EViTS5_GLU"):
                raise ValueError(f"block_type holds {block!r}, expected ResBlock, EViT_GLU or EViTS5_GLU.")
            if block != "ResBlock" and width % self.attention_dim:
                raise ValueError(f"width_list has {width} for {block}, expected a multiple of {self.attention_dim}.")
        last = self.width_list[-1]
        if last % self.latent_channels:
            raise ValueError(f"latent_channels is {self.latent_channels}, expected a divisor of the last width {last}.")

    def _check_tiles(self) -> None:
        time, space, _ = self.patch_size
        for name, ratio in (("spatial_tile_size", space), ("temporal_tile_size", time)):
            if getattr(self, name) < ratio or getattr(self, name) % ratio:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a multiple of {ratio}.")
        if not 0 <= self.tile_overlap_factor < 1:
            raise ValueError(f"tile_overlap_factor is {self.tile_overlap_factor}, expected 0 to below 1.")
        if self.scaling_factor == 0:
            raise ValueError("scaling_factor is 0, expected another number: latents are divided by it.")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size is {self.micro_batch_size}, expected at least 1.")
        for encode in (True, False):
            self.space_tiles(encode)
            self.time_tiles(encode)

    @property
    def levels(self) -> int:
        """How many sizes there are."""
        return len(self.width_list)

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """Frames, rows and columns of pixels per latent."""
        space = 2 ** (self.levels - 1)
        return 2 ** sum(self.temporal_downsample), space, space

    def factors_behind(self, level: int) -> tuple[int, int, int]:
        """By how much T, H and W change between a level and the next."""
        return 2 if self.temporal_downsample[level] else 1, 2, 2

    def space_tiles(self, encode: bool) -> Tiles:
        """Tiles of rows and of columns."""
        return self._tiles(self.spatial_tile_size, self.patch_size[1], encode)

    def time_tiles(self, encode: bool) -> Tiles:
        """Tiles of frames."""
        return self._tiles(self.temporal_tile_size, self.patch_size[0], encode)

    def _tiles(self, pixels: int, ratio: int, encode: bool) -> Tiles:
        sizes = (pixels, pixels // ratio) if encode else (pixels // ratio, pixels)
        return Tiles.overlapping(*sizes, self.tile_overlap_factor)
