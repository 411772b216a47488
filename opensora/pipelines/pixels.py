"""Between latents and pixels: windows are decoded one by one, so that memory stays small and stopping is quick."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3
from opensora.models.vae_v13.windows import latent_windows
from opensora.pipelines.checks import check_latents
from opensora.pipelines.models import Models
from opensora.pipelines.preview import to_uint8
from opensora.pipelines.result import GenerationError
from opensora.sentences import say

FLAT_LEVELS = 2
"""A clip whose brightest and darkest values are this close shows nothing."""
NOISE = 0.05
"""Correlation of neighbouring pixels below which a clip is noise."""
FEWEST_PIXELS = 4096
"""Pixels below which chance alone can bring that about."""


def to_pixels(frames: np.ndarray) -> Tensor:
    """A clip uint8 (T, H, W, 3) as (1, 3, T, H, W) in [-1, 1]."""
    values = torch.from_numpy(np.array(frames))
    return (values.float() / 127.5 - 1).permute(3, 0, 1, 2)[None]


def encode_frames(models: Models, frames: np.ndarray) -> Tensor:
    """Latents (1, C, T', H', W'), float32, of a given clip or picture, uint8 (T, H, W, 3).

    Raises:
        GenerationError: the autoencoder made no numbers of it.
    """
    pixels = to_pixels(frames).to(torch.device(models.config.plan.device), next(models.vae.parameters()).dtype)
    latents: Tensor = models.vae.encode(pixels).float()
    check_latents(latents, "reference", say("what.reference"))
    return latents


def count_windows(vae: OpenSoraVAE_V1_3, latents: int) -> int:
    """How many pieces :func:`decode` yields after."""
    return len(latent_windows(latents, vae.config))


def decode(vae: OpenSoraVAE_V1_3, latents: Tensor, num_frames: int) -> Iterator[np.ndarray]:
    """Normalised latents (1, C, T', H', W') -> pieces of the clip, uint8 (t, H, W, 3), one after every window.

    Together the pieces have ``num_frames`` frames; late ones may be empty. A frame of two windows is their mean.

    Raises:
        GenerationError: the autoencoder made no numbers.
    """
    windows = latent_windows(latents.shape[2], vae.config)
    shared = int(vae.config.temporal_overlap)
    dtype, missing = next(vae.parameters()).dtype, num_frames
    held: Tensor | None = None
    for index, (start, stop) in enumerate(windows):
        pixels = vae.decode(latents[:, :, start:stop].to(dtype))  # (1, 3, t, H, W)
        if held is not None:
            pixels = torch.cat([(held + pixels[:, :, :1].float()) * 0.5, pixels[:, :, 1:].float()], dim=2)
        if shared and index < len(windows) - 1:
            held, pixels = pixels[:, :, -1:].float(), pixels[:, :, :-1]
        pixels = pixels[:, :, :missing]
        missing -= pixels.shape[2]
        yield to_frames(pixels)
    assert missing == 0, f"{latents.shape[2]} latent frames decode to {num_frames - missing}, not {num_frames} frames"


def to_frames(pixels: Tensor) -> np.ndarray:
    """Decoded pixels (1, 3, T, H, W) in [-1, 1] as frames, uint8 (T, H, W, 3).

    Raises:
        GenerationError: they are no numbers.
    """
    if not bool(torch.isfinite(pixels).all()):
        raise GenerationError("decoding", say("failed.pixels"))
    return to_uint8(pixels[0].float().permute(1, 2, 3, 0)).cpu().numpy()


def check_picture(frames: np.ndarray) -> None:
    """Refuse a clip, uint8 (T, H, W, 3), that shows one flat colour, or noise in which no pixel tells of the next.

    Raises:
        GenerationError: it does.
    """
    if all(int(frames[..., c].max()) - int(frames[..., c].min()) <= FLAT_LEVELS for c in range(3)):
        raise GenerationError("decoding", say("failed.colour"))
    if likeness(frames) < NOISE:
        raise GenerationError("decoding", say("failed.noise"))


def likeness(frames: np.ndarray) -> float:
    """Correlation of neighbouring pixels of a clip, uint8 (T, H, W, 3), along rows or columns, whichever is larger.

    It is 0 of independent pixels and close to 1 of pictures; 1 where there are too few pixels to tell, or no contrast.
    """
    step = max(1, len(frames) // 8)
    grey = frames[::step].astype(np.float32).mean(axis=3)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    power = float((grey**2).mean())
    if grey.size < FEWEST_PIXELS or power == 0:
        return 1.0
    rows, columns = grey[:, 1:] * grey[:, :-1], grey[:, :, 1:] * grey[:, :, :-1]
    return max(float(pairs.mean()) if pairs.size else 0.0 for pairs in (rows, columns)) / power
