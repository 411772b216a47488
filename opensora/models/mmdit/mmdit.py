"""MMDiT of Open-Sora 2.0: a transformer over the tokens of a text and of a latent video.

Legend: B batch, N video tokens, C numbers of a video token, L text tokens, E width of the text features, V width of the
pooled text feature, D width.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from opensora.models.mmdit.blocks import DoubleStreamBlock, SingleStreamBlock
from opensora.models.mmdit.config import OPEN_SORA_2, MMDiTConfig
from opensora.models.mmdit.layers import FREQUENCY_DIM, LastLayer, MLPEmbedder, time_sinusoid
from opensora.nn.rope import place_rotation

__all__ = ["MMDiT", "MMDiTConfig"]


class MMDiT(nn.Module):
    """Predicts the velocity ``noise - data`` of a latent video at a time from 0 (data) to 1 (noise)."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        self.config = config
        c, dim = config, config.hidden_size
        self.gradient_checkpointing = False
        """Recompute every block in the backward pass: less memory, a third more time."""
        self.img_in = nn.Linear(c.in_channels, dim)
        self.time_in = MLPEmbedder(FREQUENCY_DIM, dim)
        self.vector_in = MLPEmbedder(c.vec_in_dim, dim)
        self.guidance_in = MLPEmbedder(FREQUENCY_DIM, dim) if c.guidance_embed else None
        self.cond_in = nn.Linear(c.cond_channels, dim) if c.cond_embed else None
        self.txt_in = nn.Linear(c.context_in_dim, dim)
        self.double_blocks = nn.ModuleList(DoubleStreamBlock(c) for _ in range(c.depth))
        self.single_blocks = nn.ModuleList(SingleStreamBlock(c) for _ in range(c.depth_single_blocks))
        self.final_layer = LastLayer(dim, c.in_channels)
        self.initialize_weights()

    def initialize_weights(self) -> None:
        """Start with closed gates, no output, and without regard to given frames; the rest as torch does."""
        zero = [
            self.final_layer,
            *(module for name, module in self.named_modules() if name.endswith(("mod", "modulation"))),
        ]
        zero += [] if self.cond_in is None else [self.cond_in]
        for parameter in (p for module in zero for p in module.parameters()):
            nn.init.zeros_(parameter)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        *,
        dtype: torch.dtype = torch.float32,
        expect: Mapping[str, str] | None = None,
        default: MMDiTConfig = OPEN_SORA_2,
        **overrides: Any,
    ) -> Self:
        """The network of a checkpoint, on the CPU, in evaluation mode.

        Args:
            source: a folder with weights and ``config.json``, a safetensors file with or without one, or a hub id.
            dtype: of the weights.
            expect: ``mode`` or ``resolution`` that it is needed for; a checkpoint that says otherwise is refused.
            default: configuration where there is no ``config.json``, as beside the published files: see
                :mod:`opensora.models.mmdit.config`.
            overrides: fields of :class:`MMDiTConfig` to replace.

        Raises:
            CheckpointError: the weights are not exactly those of this network.
            ValueError: nothing by that name, or a configuration of another network.
        """
        from opensora.checkpoint.locate import resolve
        from opensora.checkpoint.safetensors_io import load_strict

        path = resolve(source)
        companion: Path = (path if path.is_dir() else path.parent) / "config.json"
        config = replace(MMDiTConfig.from_file(companion) if companion.is_file() else default, **overrides)
        with torch.device("meta"):
            model = cls(config).to(dtype)
        load_strict(model, path, expect={"role": "stdit", "family": config.family, **(expect or {})})
        return model.eval()

    def forward(
        self,
        img: Tensor,
        img_ids: Tensor,
        txt: Tensor,
        txt_ids: Tensor,
        timesteps: Tensor,
        y_vec: Tensor,
        cond: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """Velocity of a batch of latent videos as tokens.

        Args:
            img: video tokens (B, N, C).
            img_ids: frame, row and column of every video token (B, N, axes).
            txt: text features (B, L, E); padding is attended to, as the published network was trained.
            txt_ids: places of the text tokens (B, L, axes), all 0 in published networks.
            timesteps: times (B,) from 0 to 1.
            y_vec: pooled text feature (B, V).
            cond: mask and given latents of every token (B, N, C + patch_size^2), zero where nothing is given. Required
                by networks that take given frames.
            guidance: guidance scale (B,). Required by networks that are told one.

        Returns:
            (B, N, C) float32.

        Raises:
            ValueError: an argument is missing, superfluous or of another shape.
        """
        self._check(img, img_ids, txt, txt_ids, cond, guidance)
        dtype = self.img_in.weight.dtype
        img, txt = self.img_in(img.to(dtype)), self.txt_in(txt.to(dtype))  # (B, N, D), (B, L, D)
        if self.cond_in is not None and cond is not None:
            img = img + self.cond_in(cond.to(dtype))
        vec = self.embed_vector(timesteps, y_vec, guidance)  # (B, D)
        places = torch.cat((txt_ids, img_ids), dim=1)
        rotation = place_rotation(places, self.config.axes_dim, self.config.theta, self.config.use_liger_rope)
        for block in self.double_blocks:
            img, txt = self.run(block, img, txt, vec, rotation)
        x = torch.cat((txt, img), dim=1)  # (B, L + N, D)
        for block in self.single_blocks:
            x = self.run(block, x, vec, rotation)
        return self.final_layer(x[:, txt.shape[1] :], vec).float()

    def run(self, block: nn.Module, *args: Any) -> Any:
        """Call a block, recomputing it in the backward pass if ``gradient_checkpointing`` is on."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def embed_vector(self, timesteps: Tensor, y_vec: Tensor, guidance: Tensor | None) -> Tensor:
        """Embedding (B, D) of time, pooled text and, where the network is told one, guidance."""
        vec = self.time_in(time_sinusoid(timesteps))
        if self.guidance_in is not None and guidance is not None:
            vec = vec + self.guidance_in(time_sinusoid(guidance))
        return vec + self.vector_in(y_vec)

    def _check(
        self, img: Tensor, img_ids: Tensor, txt: Tensor, txt_ids: Tensor, cond: Tensor | None, guidance: Tensor | None
    ) -> None:
        c = self.config
        for name, value, wanted in (("cond", cond, c.cond_embed), ("guidance", guidance, c.guidance_embed)):
            if wanted and value is None:
                raise ValueError(f"{name} is missing; this network needs it.")
            if not wanted and value is not None:
                raise ValueError(f"{name} is given, but this network has no embedding of it; leave it out.")
        axes = len(c.axes_dim)
        expected = {
            "img": (img, (*img.shape[:2], c.in_channels)),
            "img_ids": (img_ids, (*img.shape[:2], axes)),
            "txt": (txt, (img.shape[0], txt.shape[1], c.context_in_dim)),
            "txt_ids": (txt_ids, (*txt.shape[:2], axes)),
        }
        if cond is not None:
            expected["cond"] = (cond, (*img.shape[:2], c.cond_channels))
        for name, (value, shape) in expected.items():
            if tuple(value.shape) != shape:
                raise ValueError(f"{name} is {tuple(value.shape)}; expected {shape} (batch, tokens, numbers of one).")
