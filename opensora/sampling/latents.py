"""The latents of a 2.0 video: how many frames they have, and the noise that they start from."""

import math

import torch
from torch import Tensor

from opensora.sampling.compat import Compat


def latent_frames(num_frames: int, reduction: int = 4, causal: bool = True, compat: Compat = "right") -> int:
    """Latent frames that hold a video.

    Args:
        num_frames: of the video, at least 1.
        reduction: frames of one latent frame.
        causal: whether the first frame has a latent frame of its own, as causal autoencoders need it.
        compat: ``published`` leaves frames out that do not fill a latent frame, even all; only one frame is safe.

    Raises:
        ValueError: no frames.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}; expected at least 1.")
    if num_frames == 1:
        return 1
    alone = int(causal)
    if compat == "published":
        return alone + (num_frames - alone) // reduction
    return alone + math.ceil((num_frames - alone) / reduction)


def draw_noise(
    batch: int,
    channels: int,
    frames: int,
    height: int,
    width: int,
    generator: torch.Generator,
    patch_size: int = 2,
    pixels_per_token: int = 16,
) -> Tensor:
    """Standard normal noise for latents (batch, channels, frames, rows, columns), float32 on the generator's device.

    Args:
        batch: samples.
        channels: of the latents.
        frames: latent frames.
        height: of the video in pixels; rounded up to whole tokens.
        width: as ``height``.
        generator: source of the noise.
        patch_size: latent rows and columns of one token.
        pixels_per_token: pixels along a side of one token: 16, or 32 with the autoencoder of high compression.
    """
    rows, columns = (patch_size * math.ceil(side / pixels_per_token) for side in (height, width))
    return torch.randn(batch, channels, frames, rows, columns, generator=generator, device=generator.device)
