"""STDiT3 of Open-Sora 1.3: a transformer over a latent video whose blocks alternate between space and time.

Legend: B batch, C latent channels, (Ft, Y, X) latent frames, rows and columns, T, H, W the same in tokens, S = H * W,
D width, L text tokens, E width of the text features, F = T or 1: frames for which the modulation differs.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from opensora.models.stdit.blocks import FinalLayer, STDiT3Block, TextContext, TimeContext
from opensora.models.stdit.config import STDiT3Config
from opensora.models.stdit.init import initialize_weights
from opensora.nn.attention import Grid, Ragged
from opensora.nn.embed import (
    CaptionEmbedder,
    SizeEmbedder,
    TimestepEmbedder,
    position_embedding_2d,
    repeat_rows,
)
from opensora.nn.patch import PatchEmbed3D, token_grid, unpatchify
from opensora.nn.rope import RotaryEmbedding

__all__ = ["STDiT3", "STDiT3Config"]


class STDiT3(nn.Module):
    """Predicts the velocity ``data - noise`` of a latent video at a timestep from 0 (data) to 1000 (noise)."""

    config_type: ClassVar[type[STDiT3Config]] = STDiT3Config
    """What ``config.json`` beside a checkpoint is read as."""

    def __init__(self, config: STDiT3Config) -> None:
        super().__init__()
        self.config = config
        c, dim = config, config.hidden_size
        self.gradient_checkpointing = False
        """Recompute every block in the backward pass: less memory, a third more time."""
        self.rope = RotaryEmbedding(c.head_dim, axial=c.kernel_size is not None, compat=c.compat)
        self.x_embedder = PatchEmbed3D(c.patch_size, c.in_channels, dim)
        if c.embeds_given_frames:
            self.x_embedder_cond = PatchEmbed3D(c.patch_size, c.in_channels, dim)
            self.x_embedder_cond_mask = PatchEmbed3D(c.patch_size, c.in_channels, dim)
        self.t_embedder = TimestepEmbedder(dim)
        self.fps_embedder = SizeEmbedder(dim)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.y_embedder = CaptionEmbedder(c.caption_channels, dim, c.class_dropout_prob, c.model_max_length)
        drops = [c.drop_path * i / max(1, c.depth - 1) for i in range(c.depth)]
        args = (dim, c.num_heads, c.mlp_ratio, c.qk_norm)
        self.spatial_blocks = nn.ModuleList(STDiT3Block(*args, drop) for drop in drops)
        self.temporal_blocks = nn.ModuleList(STDiT3Block(*args, drop) for drop in drops if not c.skip_temporal)
        self.final_layer = FinalLayer(dim, c.patch_size[0] * c.patch_size[1] * c.patch_size[2], c.out_channels)
        initialize_weights(self)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        dtype: torch.dtype = torch.float32,
        expect: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> Self:
        """The network of a checkpoint, on the CPU, in evaluation mode.

        Args:
            source: a folder with weights and ``config.json``, a safetensors file beside one, or a hub id. Without a
                ``config.json`` the published configuration is taken.
            dtype: of the weights.
            expect: ``mode`` or ``resolution`` that it is needed for; a checkpoint that says otherwise is refused.
            overrides: fields of the configuration to replace.

        Raises:
            CheckpointError: the weights are not exactly those of this network.
            ValueError: nothing by that name, or a configuration of another network.
        """
        from opensora.checkpoint.locate import resolve
        from opensora.checkpoint.safetensors_io import load_strict

        path = resolve(source)
        folder: Path = path if path.is_dir() else path.parent
        config = replace(cls.config_type.from_file(folder / "config.json"), **overrides)
        with torch.device("meta"):
            model = cls(config).to(dtype)
        load_strict(model, path, expect={"role": "stdit", "family": config.family, **(expect or {})})
        model.rope.check()
        return model.eval()

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        y: Tensor,
        mask: Tensor | None = None,
        x_mask: Tensor | None = None,
        fps: Tensor | None = None,
        height: Tensor | None = None,
        width: Tensor | None = None,
        cond: Tensor | None = None,
        cond_mask: Tensor | None = None,
        mask_index: Sequence[int] | None = None,
        y_null: Tensor | None = None,
    ) -> Tensor:
        """Velocity of a batch of latent videos of one size.

        Where an argument may have fewer rows than the batch, its rows are repeated in order, as guidance batches need.

        Args:
            x: latents (B, C, Ft, Y, X); any size, padded with zeros to whole patches inside.
            timestep: (B,) in [0, 1000], kept in float32.
            y: text features (B, 1, L, E).
            mask: (R, L), nonzero where there is a text token; ``None`` for everywhere. Other tokens change nothing.
            x_mask: (B, T) bool, False for frames that are at timestep 0; ``None`` when none is.
            fps: frames per second (R,). Required.
            height: of the video in pixels (R,), the same for the whole batch. Required.
            width: as ``height``. Required.
            cond: latents of given frames, zero elsewhere, like ``x``. Required with ``mask_index``.
            cond_mask: 1 where ``cond`` is given, like ``x``. Required with ``mask_index``.
            mask_index: token frames that are given, which attend to ``y_null``; ``[]`` applies ``cond`` alone, ``None``
                ignores ``cond``, ``cond_mask`` and ``y_null``.
            y_null: features of the null text (at least B, 1, L, E), masked like the prompt. Required with given frames.

        Returns:
            (B, out channels, Ft, Y, X) float32.

        Raises:
            ValueError: a required argument is missing or has the wrong number of rows.
        """
        size = (x.shape[2], x.shape[3], x.shape[4])
        grid = token_grid(size, self.config.patch_size)
        scale = self.position_scale(height, width)
        tokens = self.embed_video(x, grid, scale, cond, cond_mask, mask_index)  # (B, T, S, D)
        time = self.embed_time(timestep, fps, x_mask, grid[0])
        text = self.encode_text(y, mask, mask_index, y_null, grid[0])
        window_s, window_t = self.windows(grid)
        rotation_s = self.rope(grid, window_s, scale) if self.config.use_spatial_rope else None
        rotation_t = self.rope(grid, window_t, scale)
        for i, spatial in enumerate(self.spatial_blocks):
            tokens = self.run(spatial, tokens, time.modulation, text, grid, window_s, rotation_s)
            if not self.config.skip_temporal:
                tokens = self.run(self.temporal_blocks[i], tokens, time.modulation, text, grid, window_t, rotation_t)
        out = self.final_layer(tokens, time).unflatten(2, grid[1:])  # (B, T, H, W, patch volume * out channels)
        return unpatchify(out, size, self.config.patch_size).float()

    def run(self, block: nn.Module, *args: Any) -> Tensor:
        """Call a block, recomputing it in the backward pass if ``gradient_checkpointing`` is on."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def position_scale(self, height: Tensor | None, width: Tensor | None) -> float:
        """Side of a square picture of this area, relative to the one for which positions are unscaled.

        Raises:
            ValueError: no size, or several. (The public code takes the first of the batch.)
        """
        if height is None or width is None:
            raise ValueError("height and width are missing; give the size of the video in pixels.")
        sizes = list(zip(height.flatten().tolist(), width.flatten().tolist(), strict=True))
        if self.config.compat == "right" and len(set(sizes)) != 1:
            raise ValueError(f"one batch has the sizes {sorted(set(sizes))}; batch videos of one size.")
        return (sizes[0][0] * sizes[0][1]) ** 0.5 / self.config.input_sq_size

    def windows(self, grid: Grid) -> tuple[Grid, Grid]:
        """Windows (T, H, W) of the spatial and of the temporal blocks."""
        if self.config.kernel_size is None:
            return (1, *grid[1:]), (grid[0], 1, 1)
        h, w, t = self.config.kernel_size
        return (1, *grid[1:]), (grid[0] if t == -1 else t, h, w)

    def embed_video(
        self,
        x: Tensor,
        grid: Grid,
        scale: float,
        cond: Tensor | None,
        cond_mask: Tensor | None,
        mask_index: Sequence[int] | None,
    ) -> Tensor:
        """Tokens (B, T, S, D) with their place in the frame, and what is known of given frames added to all of them."""
        weight, (_, h, w) = self.x_embedder.proj.weight, grid
        tokens = self.x_embedder(x.to(weight.dtype))  # (B, T, H, W, D)
        if mask_index is not None:
            if cond is None or cond_mask is None:
                raise ValueError("mask_index is given without cond and cond_mask; give all three or none.")
            known = self.x_embedder_cond(cond.to(weight.dtype)) + self.x_embedder_cond_mask(cond_mask.to(weight.dtype))
            tokens = tokens + known
        place = (self.config.hidden_size, h, w, scale, round((h * w) ** 0.5))
        return tokens.flatten(2, 3) + position_embedding_2d(*place, x.device, weight.dtype, self.config.compat)

    def embed_time(self, timestep: Tensor, fps: Tensor | None, x_mask: Tensor | None, frames: int) -> TimeContext:
        """Embed timestep and frame rate; of ``frames`` token frames those not in ``x_mask`` are at timestep 0."""
        if fps is None:
            raise ValueError("fps is missing; give the frames per second of every video.")
        rate = self.fps_embedder(fps.flatten(), len(timestep))
        t = self.t_embedder(timestep) + rate
        modulation = self.t_block(t).unflatten(1, (1, 6, -1))  # (B, 1, 6, D)
        if x_mask is None:
            return TimeContext(t, modulation)
        if x_mask.shape != (len(timestep), frames):
            raise ValueError(
                f"x_mask is {tuple(x_mask.shape)}; expected {(len(timestep), frames)} (batch, token frames)."
            )
        noisy, t0 = x_mask.bool(), self.t_embedder(torch.zeros_like(timestep)) + rate
        clean = self.t_block(t0).unflatten(1, (1, 6, -1))
        return TimeContext(t, torch.where(noisy[..., None, None], modulation, clean), t0, noisy)

    def encode_text(
        self,
        y: Tensor,
        mask: Tensor | None,
        mask_index: Sequence[int] | None,
        y_null: Tensor | None,
        frames: int,
    ) -> TextContext:
        """Project the text and say which of ``frames`` token frames attend to the null text."""
        if self.training and self.y_embedder.dropout > 0:
            y = self.y_embedder.token_drop(y)
        kept = None if mask is None else text_order(repeat_rows(mask, len(y), "mask"))
        prompt = self.project_text(y, kept)
        given = sorted(set(mask_index or ()))
        if not given:
            return TextContext(prompt)
        if y_null is None:
            raise ValueError("mask_index names given frames without y_null; give the features of the null text.")
        if given[0] < 0 or given[-1] >= frames:
            raise ValueError(f"mask_index is {list(mask_index or ())}; expected frames from 0 to {frames - 1}.")
        if len(y_null) < len(y):
            y_null = repeat_rows(y_null, len(y), "y_null")
        rest = [i for i in range(frames) if i not in given]
        order = sorted(range(frames), key=(rest + given).__getitem__)
        indices = [torch.tensor(i, dtype=torch.int64, device=y.device) for i in (rest, given, order)]
        return TextContext(prompt, self.project_text(y_null[: len(y)], kept), (indices[0], indices[1], indices[2]))

    def project_text(self, y: Tensor, kept: tuple[Tensor, Tensor | None] | None) -> Ragged:
        """Features (B, 1, L, E) to the tokens that count, in front, with width D."""
        y, project = y.squeeze(1), self.y_embedder.y_proj
        y = y.to(project.fc1.weight.dtype)
        if kept is None:
            return Ragged(project(y), None)
        order, mask = kept
        return Ragged(project(y.gather(1, order[..., None].expand(-1, -1, y.shape[2]))), mask)


def text_order(mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Where the tokens of every text are.

    Args:
        mask: (B, L), nonzero where there is a token.

    Returns:
        Indices (B, M) of the tokens, in order and in front, M the most that any text has; and (B, M) bool, True where
        an index counts, or ``None`` if all texts have M tokens.

    Raises:
        ValueError: a text has no token.
    """
    mask = mask != 0
    counts = mask.sum(1)
    lengths = counts.tolist()
    if min(lengths) == 0:
        raise ValueError("mask has a row without tokens; a text has at least its end-of-sequence token.")
    longest = max(lengths)
    order = mask.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
    if min(lengths) == longest:
        return order, None
    return order, torch.arange(longest, device=mask.device) < counts[:, None]
