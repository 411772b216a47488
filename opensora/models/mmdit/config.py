"""Configuration of MMDiT, the published ones, and how published files are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from opensora import config
from opensora.checkpoint.layout import read_object

# Entries of published files that name a file, choose a kernel or a training regime; the function is the same.
_IMPLEMENTATION = {"from_pretrained", "cache_dir", "grad_ckpt_settings"}
_COUNTS = ("in_channels", "vec_in_dim", "context_in_dim", "hidden_size", "num_heads", "patch_size")


@dataclass(frozen=True)
class MMDiTConfig:
    """Shape of an MMDiT; the defaults are those of the network for 256px and 768px."""

    family: ClassVar[str] = "2.0"
    """Generation of the network."""

    in_channels: int = 64
    """Numbers of one video token: latent channels times ``patch_size`` squared."""
    vec_in_dim: int = 768
    """Width of the pooled text feature (CLIP)."""
    context_in_dim: int = 4096
    """Width of the text features (T5)."""
    hidden_size: int = 3072
    """Width of the tokens, a multiple of ``num_heads``."""
    mlp_ratio: float = 4.0
    """Hidden width of a block's perceptron as a multiple of ``hidden_size``."""
    num_heads: int = 24
    """Attention heads."""
    depth: int = 19
    """Blocks with weights of their own for text and video."""
    depth_single_blocks: int = 38
    """Blocks that share their weights."""
    axes_dim: tuple[int, ...] = (16, 56, 56)
    """Channels of a head that turn with frame, row and column; even, and together a whole head."""
    theta: int = 10_000
    """Base of the rotary frequencies."""
    qkv_bias: bool = True
    """Whether the projections to queries, keys and values have biases in blocks with two sets of weights."""
    guidance_embed: bool = False
    """Whether the network is told a guidance scale (distilled networks)."""
    cond_embed: bool = True
    """Whether the network takes given frames."""
    fused_qkv: bool = False
    """Whether queries, keys and values come from one matrix."""
    use_liger_rope: bool = True
    """Rotary pairs are (i, i + K/2) of a head; otherwise (2i, 2i + 1). The same weights work with one of them only; see
    :mod:`opensora.models.mmdit.rotary_layout`."""
    patch_size: int = 2
    """Latent rows and columns of one token."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes_dim", tuple(self.axes_dim))
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1.")
        for name in ("depth", "depth_single_blocks"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more.")
        for name in ("mlp_ratio", "theta"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected more than 0.")
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size is {self.hidden_size} with {self.num_heads} heads; expected a multiple.")
        if self.in_channels % self.patch_size**2:
            raise ValueError(
                f"in_channels is {self.in_channels} with patch_size {self.patch_size}; expected a multiple of "
                f"{self.patch_size**2}."
            )
        if sum(self.axes_dim) != self.head_dim or any(dim < 2 or dim % 2 for dim in self.axes_dim):
            raise ValueError(
                f"axes_dim is {self.axes_dim}; expected even numbers whose sum is the width of a head, {self.head_dim}."
            )

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def mlp_dim(self) -> int:
        """Hidden width of a block's perceptron."""
        return int(self.hidden_size * self.mlp_ratio)

    @property
    def cond_channels(self) -> int:
        """Numbers that one token is told of given frames: a mask beside every latent."""
        return self.in_channels + self.patch_size**2

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Configuration from a published or own mapping.

        Raises:
            ValueError: another type of network, an entry that this one does not have, or a value it refuses.
        """
        if values.get("type", "flux") != "flux":
            raise ValueError(
                f"the configuration is of the type {values['type']!r}; 'flux' is needed, as MMDiT is called."
            )
        return config.from_dict(cls, {k: v for k, v in values.items() if k not in {"type", *_IMPLEMENTATION}})

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Configuration from a JSON file.

        Raises:
            ValueError: no JSON object, or as :meth:`from_dict`; names the file.
        """
        try:
            return cls.from_dict(read_object(path))
        except ValueError as error:
            raise ValueError(f"{path.parent.name}/{path.name}: {error}") from error


OPEN_SORA_2 = MMDiTConfig()
"""Open_Sora_v2.safetensors."""
HIGH_COMPRESSION = MMDiTConfig(in_channels=128, patch_size=1)
"""Open_Sora_v2_Video_DC_AE.safetensors, for the autoencoder that compresses 4 x 32 x 32."""
FLUX = MMDiTConfig(guidance_embed=True, cond_embed=False, fused_qkv=True, use_liger_rope=False)
"""flux1-dev.safetensors, which makes a first picture to be set in motion."""
