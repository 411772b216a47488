"""How much arithmetic and memory a request takes, counted from the networks' shapes.

Legend: T, H, W latent frames, rows and columns; N tokens; D width; L text tokens. One multiply-add is two operations.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from opensora.models.stdit.config import STDiT3Config
from opensora.models.vae_v13.config import VAEv13Config
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3
from opensora.models.vae_v13.windows import latent_frames, latent_windows
from opensora.pipelines.parts import Part
from opensora.sampling.rectified_flow import RFLOW

TEXT_TOKENS = 40
"""Tokens of a usual prompt."""


@dataclass(frozen=True)
class Shape:
    """What is made."""

    height: int
    """Pixels."""
    width: int
    """Pixels."""
    parts: tuple[Part, ...]
    """Runs of the denoiser."""
    videos: int
    """Clips."""
    pictures: int = 1
    """Pictures of a text alone that are made together, of which one is kept."""

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return sum(part.kept for part in self.parts)


Sizes = Callable[[int], tuple[int, int, int]]
"""Frames of a run to its latents (T, H, W)."""


def sampling_flops(config: STDiT3Config, sizes: Sizes, shape: Shape, scheduler: RFLOW, given: bool) -> float:
    """Operations of all denoising steps.

    Args:
        given: whether the first part starts from an image; later parts always start from the one before.
    """
    total = 0.0
    for part in shape.parts:
        size = sizes(part.frames)
        by_image = config.embeds_given_frames and (given or part.condition)
        total += network_rows(scheduler, 1.0 if by_image else None, size[0]) * forward_flops(config, size)
    return total * shape.videos


def network_rows(scheduler: RFLOW, image: float | None, frames: int) -> int:
    """Rows that the denoiser computes in all steps of a run; rows that cancel are not computed."""
    scale = 5.0 if image is not None else None
    oscillate = scheduler.use_oscillation_guidance
    return sum(
        len(scheduler.step_guidance(step, scheduler.cfg_scale, scale, frames, oscillate, oscillate).rows())
        for step in range(scheduler.num_sampling_steps)
    )


def forward_flops(config: STDiT3Config, size: tuple[int, int, int]) -> float:
    """Operations of one row of the denoiser at latents (T, H, W)."""
    grid = [math.ceil(side / patch) for side, patch in zip(size, config.patch_size, strict=True)]
    t, h, w = grid
    n, d, tokens = t * h * w, config.hidden_size, TEXT_TOKENS
    linear = 2 * n * d * d * (4 + 2 * config.mlp_ratio) + 2 * d * d * (2 * n + 2 * tokens) + 4 * n * tokens * d
    window = t
    if config.kernel_size is not None:
        window = min(h, config.kernel_size[0]) * min(w, config.kernel_size[1])
        window *= t if config.kernel_size[2] == -1 else min(t, config.kernel_size[2])
    return config.depth * (2 * linear + 4 * n * d * (h * w + window))


def decoding_flops(vae: VAEv13Config, shape: Shape) -> float:
    """Operations of decoding every clip."""
    latents = latent_frames(shape.frames, vae)
    rows, columns = shape.height // 8, shape.width // 8
    windows = (window_flops(vae, stop - start, rows, columns) for start, stop in latent_windows(latents, vae))
    return sum(windows) * shape.videos


@lru_cache(maxsize=64)
def window_flops(vae: VAEv13Config, frames: int, rows: int, columns: int) -> float:
    """Operations of decoding one window of latents, counted on a network without memory."""
    with torch.device("meta"):
        decoder = OpenSoraVAE_V1_3(vae).eval().decoder
        latents = torch.empty(1, vae.z_channels, frames, rows, columns)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        decoder(latents)
    return float(counter.get_total_flops())


@dataclass(frozen=True)
class Memory:
    """About how many bytes a request takes, by what takes them."""

    text: int
    """Weights of the text encoders."""
    denoiser: int
    """Its weights."""
    autoencoder: int
    """Its weights."""
    sampling: int
    """What the denoiser works with."""
    decoding: int
    """What the decoder works with."""
    clips: int
    """What is made."""

    def peak(self, offload: str = "none") -> int:
        """The most at one time, with networks that lie in main memory until their turn as ``offload`` says."""
        if offload == "all":
            return self.clips + max(self.text, self.denoiser + self.sampling, self.autoencoder + self.decoding)
        working, stay = max(self.sampling, self.decoding), self.denoiser + self.autoencoder + self.clips
        return stay + (max(self.text, working) if offload == "text" else self.text + working)


def sampling_bytes(config: STDiT3Config, sizes: Sizes, shape: Shape, bytes_each: int, rows: int) -> int:
    """About what a STDiT3 works with.

    Args:
        bytes_each: of a number.
        rows: of its batch.
    """
    size = sizes(max(part.frames for part in shape.parts))
    tokens = math.prod(math.ceil(side / patch) for side, patch in zip(size, config.patch_size, strict=True))
    return int(rows * tokens * config.hidden_size * (config.mlp_ratio + 10) * bytes_each)


def clip_bytes(shape: Shape, bytes_each: int) -> int:
    """Bytes of all clips.

    Args:
        bytes_each: of a pixel's colour.
    """
    return shape.frames * shape.height * shape.width * 3 * bytes_each * shape.videos


@lru_cache(maxsize=16)
def parameters(kind: Any, config: Any) -> int:
    """Numbers in the weights of a network ``kind(config)``."""
    with torch.device("meta"):
        return sum(p.numel() for p in kind(config).parameters())


def latent_size(vae: VAEv13Config, frames: int, shape: Shape) -> tuple[int, int, int]:
    """Latents (T, H, W) of a run."""
    return latent_frames(frames, vae), shape.height // 8, shape.width // 8
