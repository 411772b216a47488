"""Transformer block and output layer of STDiT3.

Legend: B batch, T, H, W token frames, rows and columns, S = H * W, D width, M text tokens, F = T or 1: frames for which
the modulation differs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from opensora.nn.attention import CrossAttention, Grid, Ragged, SelfAttention
from opensora.nn.mlp import Mlp
from opensora.nn.norm import modulated_layer_norm
from opensora.nn.rope import Rotation


@dataclass(frozen=True)
class TextContext:
    """The text that every frame attends to."""

    prompt: Ragged
    """Text of frames that are generated."""
    null: Ragged | None = None
    """Text of frames that are given; ``None`` when there are none."""
    frames: tuple[Tensor, Tensor, Tensor] | None = None
    """Indices of the generated frames, of the given ones, and of every frame in the two joined together."""


@dataclass(frozen=True)
class TimeContext:
    """What the tokens are told about the timestep."""

    t: Tensor
    """(B, D) embedding of the timestep and the frame rate."""
    modulation: Tensor
    """(B, F, 6, D) shift, scale and gate of a block's attention, then of its perceptron."""
    t0: Tensor | None = None
    """(B, D) as ``t``, for timestep 0; ``None`` when no frame is clean."""
    noisy: Tensor | None = None
    """(B, T) bool, False for clean frames; ``None`` when there are none."""


class STDiT3Block(nn.Module):
    """Self-attention, attention to the text and a perceptron; the timestep modulates the first and the last."""

    def __init__(
        self, hidden_size: int, num_heads: int, mlp_ratio: float = 4.0, qk_norm: bool = True, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.scale_shift_table = nn.Parameter(torch.randn(6, hidden_size) / hidden_size**0.5)
        self.attn = SelfAttention(hidden_size, num_heads, qk_norm)
        self.cross_attn = CrossAttention(hidden_size, num_heads)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio), hidden_size)

    def forward(
        self, x: Tensor, t: Tensor, text: TextContext, grid: Grid, window: Grid, rotation: Rotation | None = None
    ) -> Tensor:
        """One block.

        Args:
            x: tokens (B, T, S, D).
            t: :attr:`TimeContext.modulation`.
            text: what the tokens attend to.
            grid: (T, H, W).
            window: largest window of the self-attention along T, H, W.
            rotation: rotary table of the self-attention, ``None`` for none.

        Returns:
            (B, T, S, D).
        """
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (self.scale_shift_table + t).unsqueeze(3).unbind(2)
        attended = self.attn(modulated_layer_norm(x, shift_a, scale_a).flatten(1, 2), grid, window, rotation)
        x = x + self.kept(gate_a * attended.view_as(x))  # (B, T, S, D)
        x = x + self.attend_text(x, text)
        return x + self.kept(gate_m * self.mlp(modulated_layer_norm(x, shift_m, scale_m)))

    def attend_text(self, x: Tensor, text: TextContext) -> Tensor:
        """Cross-attention (B, T, S, D), neither normalised nor gated: generated frames to the prompt, given ones to
        the null text."""
        if text.null is None or text.frames is None:
            return self.cross_attn(x.flatten(1, 2), text.prompt).view_as(x)
        generated, given, order = text.frames
        parts = [
            self.cross_attn(x[:, frames].flatten(1, 2), words).unflatten(1, (-1, x.shape[2]))
            for frames, words in ((generated, text.prompt), (given, text.null))
            if len(frames)
        ]
        return torch.cat(parts, dim=1)[:, order]

    def kept(self, residual: Tensor) -> Tensor:
        """Stochastic depth: in training, zero the residual of some samples and scale the others up."""
        if not (self.training and self.drop_path):
            return residual
        keep = torch.rand(len(residual), 1, 1, 1, device=residual.device) >= self.drop_path
        return residual * keep / (1 - self.drop_path)


class FinalLayer(nn.Module):
    """Modulated layer norm and a linear map of every token to its patch."""

    def __init__(self, hidden_size: int, patch_volume: int, out_channels: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.randn(2, hidden_size) / hidden_size**0.5)
        self.linear = nn.Linear(hidden_size, patch_volume * out_channels)

    def forward(self, x: Tensor, time: TimeContext) -> Tensor:
        """Tokens (B, T, S, D) to (B, T, S, patch volume * channels).

        Clean frames pass through the norm twice: with ``t``, and then with ``t0``. Published networks were trained that
        way, so it is kept.
        """
        x = modulated_layer_norm(x, *self.modulation(time.t))
        if time.noisy is not None and time.t0 is not None:
            x = torch.where(time.noisy[..., None, None], x, modulated_layer_norm(x, *self.modulation(time.t0)))
        return self.linear(x)

    def modulation(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale, each (B, 1, 1, D), from the embedding of the timestep (B, D)."""
        shift, scale = (self.scale_shift_table[:, None, None] + t[:, None, None, None]).unbind(1)
        return shift, scale
