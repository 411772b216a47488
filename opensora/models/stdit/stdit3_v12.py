"""STDiT3 of Open-Sora 1.2: the network of 1.3 without windows, without rotation in space and without embeddings of
given frames. What is given stands in the latents themselves, and ``x_mask`` says which frames those are.

Legend: B batch, C latent channels, T, H, W token frames, rows and columns, D width, N text tokens of a whole batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from opensora.models.stdit.blocks import TextContext, TimeContext
from opensora.models.stdit.config import STDiT3Config
from opensora.models.stdit.stdit3 import STDiT3
from opensora.nn.attention import Grid, Ragged
from opensora.nn.compat import Compat

__all__ = ["STDiT3V12", "STDiT3V12Config"]


@dataclass(frozen=True)
class STDiT3V12Config(STDiT3Config):
    """Shape of a STDiT3 of 1.2; the defaults are the published XL/2. Its 3B/2 has ``hidden_size`` 1872 and 26 heads."""

    family: ClassVar[str] = "1.2"
    embeds_given_frames: ClassVar[bool] = False

    in_channels: int = 4
    """Latent channels."""
    kernel_size: tuple[int, int, int] | None = None
    """None: the temporal blocks attend along T only."""
    use_spatial_rope: bool = False
    """False: only the temporal blocks know where a token is from a rotation."""
    skip_y_embedder: bool = False
    """The text is given as ``y_embedder.y_proj`` made it, (1, N, D) with all texts of the batch one behind the other,
    and ``mask`` is the number of tokens of each (B,)."""
    compat: Compat = "right"
    """``published`` reproduces the rounding of timesteps and position tables in half precision; see
    docs/differences.md."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, only in (("kernel_size", None), ("use_spatial_rope", False), ("skip_temporal", False)):
            if getattr(self, name) != only:
                raise ValueError(f"{name} is {getattr(self, name)}; networks of 1.2 have {only} only.")


class STDiT3V12(STDiT3):
    """Predicts the velocity ``data - noise`` of a latent video at a timestep from 0 (data) to 1000 (noise).

    It is called as :class:`STDiT3` is, without the arguments for given frames.
    """

    config: STDiT3V12Config
    config_type: ClassVar[type[STDiT3Config]] = STDiT3V12Config

    def __init__(self, config: STDiT3V12Config) -> None:
        super().__init__(config)

    def embed_video(
        self,
        x: Tensor,
        grid: Grid,
        scale: float,
        cond: Tensor | None = None,
        cond_mask: Tensor | None = None,
        mask_index: Sequence[int] | None = None,
    ) -> Tensor:
        """Tokens (B, T, S, D) with their place in the frame.

        Raises:
            ValueError: frames are given in the way of 1.3.
        """
        if mask_index is not None:
            raise ValueError(
                "mask_index is given to a network of 1.2; put given frames into x and mark them in x_mask."
            )
        return super().embed_video(x, grid, scale, cond, cond_mask, mask_index)

    def embed_time(self, timestep: Tensor, fps: Tensor | None, x_mask: Tensor | None, frames: int) -> TimeContext:
        """As in 1.3. The public code rounds timesteps to the dtype of the weights, in bfloat16 733.25 to 732."""
        if self.config.compat == "published":
            timestep = timestep.to(self.x_embedder.proj.weight.dtype)
        return super().embed_time(timestep, fps, x_mask, frames)

    def encode_text(
        self,
        y: Tensor,
        mask: Tensor | None,
        mask_index: Sequence[int] | None,
        y_null: Tensor | None,
        frames: int,
    ) -> TextContext:
        """Project the text, or take it as it is with ``skip_y_embedder``."""
        if not self.config.skip_y_embedder:
            return super().encode_text(y, mask, mask_index, y_null, frames)
        if mask is None:
            raise ValueError("mask is missing; with skip_y_embedder it is the number of tokens of every text.")
        return TextContext(unpack_text(y.to(self.x_embedder.proj.weight.dtype), mask))


def unpack_text(tokens: Tensor, lengths: Tensor) -> Ragged:
    """Texts that lie one behind the other (1, N, D) as a batch.

    Args:
        tokens: of all texts.
        lengths: (B,) tokens of each, N in all.

    Raises:
        ValueError: an empty text, or other numbers of tokens.
    """
    counts = [int(length) for length in lengths.tolist()]
    if tokens.ndim != 3 or len(tokens) != 1 or sum(counts) != tokens.shape[1] or min(counts) < 1:
        raise ValueError(
            f"packed text is {tuple(tokens.shape)} for texts of {counts} tokens; expected (1, {sum(counts)}, width) "
            "and at least one token each."
        )
    batch = pad_sequence(tokens[0].split(counts), batch_first=True)  # (B, longest, D)
    places = torch.arange(batch.shape[1], device=tokens.device)
    return Ragged(batch, places < lengths.to(tokens.device)[:, None])
