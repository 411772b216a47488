"""Configuration of STDiT3, and how published ``config.json`` files are read."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from opensora import config
from opensora.checkpoint.layout import read_object
from opensora.nn.compat import Compat, check_compat

# Entries of published files that choose a kernel or a training regime; they do not change the network's function.
_IMPLEMENTATION = {
    "enable_flash_attn",
    "enable_layernorm_kernel",
    "enable_sequence_parallelism",
    "only_train_temporal",
    "freeze_y_embedder",
}
# Entries that transformers writes into every configuration.
_BOILERPLATE = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "chunk_size_feed_forward",
    "dtype",
    "id2label",
    "is_encoder_decoder",
    "label2id",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "torch_dtype",
    "transformers_version",
}


@dataclass(frozen=True)
class STDiT3Config:
    """Shape of a STDiT3; the defaults are the published XL/2 of Open-Sora 1.3."""

    family: ClassVar[str] = "1.3"
    """Generation of the network."""
    embeds_given_frames: ClassVar[bool] = True
    """Whether it has embeddings of given frames and of where they are."""

    input_size: tuple[int | None, int | None, int | None] = (None, None, None)
    """Part of published files; sizes come from every input, so it has to be empty."""
    input_sq_size: int = 512
    """Side in pixels of the square pictures for which positions are unscaled."""
    in_channels: int = 16
    """Latent channels."""
    patch_size: tuple[int, int, int] = (1, 2, 2)
    """Latent frames, rows and columns of one token."""
    hidden_size: int = 1152
    """Width of the tokens, a multiple of ``num_heads`` and of 4."""
    depth: int = 28
    """Pairs of a spatial and a temporal block."""
    num_heads: int = 16
    """Attention heads."""
    mlp_ratio: float = 4.0
    """Hidden width of a block's perceptron as a multiple of ``hidden_size``."""
    class_dropout_prob: float = 0.1
    """Probability in training that a caption is replaced by the null text."""
    pred_sigma: bool = True
    """Whether there are twice as many output channels; the second half is not used by rectified flow."""
    drop_path: float = 0.0
    """Probability in training that a sample skips the last block's residual; it grows linearly with depth."""
    caption_channels: int = 4096
    """Width of the text features."""
    model_max_length: int = 300
    """Text tokens of the null text, and the most that a caption may have in training."""
    qk_norm: bool = True
    """Whether queries and keys are RMS-normalised in every head."""
    skip_temporal: bool = False
    """Leave the temporal blocks out: a network for pictures."""
    kernel_size: tuple[int, int, int] | None = (8, 8, -1)
    """Window of the temporal blocks in tokens along H, W, T; T may be -1 for all frames. None attends along T only."""
    use_spatial_rope: bool = True
    """Rotary embedding in the spatial blocks too; needs ``kernel_size``."""
    compat: Compat = "right"
    """``published`` reproduces the rounding of position tables in half precision; see docs/differences.md."""

    def __post_init__(self) -> None:
        for name in ("input_size", "patch_size", "kernel_size"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        check_compat(self.compat)
        self._check_sizes()
        self._check_window()
        for name in ("class_dropout_prob", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a probability from 0 to below 1.")

    def _check_sizes(self) -> None:
        if self.input_size != (None, None, None):
            raise ValueError(f"input_size is {self.input_size}; leave it empty, sizes are taken from every input.")
        counts = ("input_sq_size", "in_channels", "hidden_size", "depth", "num_heads", "caption_channels")
        for name in (*counts, "model_max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if len(self.patch_size) != 3 or min(self.patch_size) < 1:
            raise ValueError(f"patch_size is {self.patch_size}; expected three numbers of at least 1.")
        if self.hidden_size % self.num_heads or self.hidden_size % 4:
            raise ValueError(
                f"hidden_size is {self.hidden_size} with {self.num_heads} heads; expected a multiple of both that "
                "number and 4."
            )
        if self.mlp_ratio <= 0:
            raise ValueError(f"mlp_ratio is {self.mlp_ratio}; expected more than 0.")

    def _check_window(self) -> None:
        window = self.kernel_size
        if window is None:
            if self.use_spatial_rope:
                raise ValueError("use_spatial_rope needs kernel_size, because both share one three-axis rotary table.")
        elif len(window) != 3 or min(window[:2]) < 1 or (window[2] < 1 and window[2] != -1):
            raise ValueError(f"kernel_size is {window}; expected rows and columns of at least 1, and frames or -1.")

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.in_channels * (2 if self.pred_sigma else 1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Configuration from a published or own ``config.json``.

        Entries that only choose kernels, and those that transformers adds, are left out.

        Raises:
            ValueError: an entry that this network does not have, or a value it refuses.
        """
        known = {field.name for field in fields(cls)}
        if values.get("skip_y_embedder") and "skip_y_embedder" not in known:
            raise ValueError("skip_y_embedder is set; networks without a text projection are not supported.")
        ignored = _IMPLEMENTATION | _BOILERPLATE | {"skip_y_embedder"}
        for name in values.keys() - known - ignored:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(known))}."
            raise ValueError(f"STDiT3 has no configuration entry {name!r}; {hint}")
        return config.from_dict(cls, {name: value for name, value in values.items() if name in known})

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Configuration from a JSON file; the published defaults when there is none.

        Raises:
            ValueError: no JSON object, or as :meth:`from_dict`; names the file.
        """
        if not path.is_file():
            return cls()
        values = read_object(path)
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path.parent.name}/{path.name}: {error}") from error
