"""Emphasis of the loss on what stands out from its background: small moving subjects are a twentieth of a clip, and a
plain mean lets the background, which is learnt in minutes, dominate the gradient.

Legend: B clips, C latent channels, T latent frames, H, W latent rows and columns.
"""

import torch
from torch import Tensor

FULL_BELOW, NONE_ABOVE = 0.7, 0.9
"""Times in [0, 1] between which the emphasis fades: near the noisy end, where the place of a subject is still open, a
weight that depends on the data would pull the velocity towards subjects everywhere."""
SATURATION = 1.5
"""Mean squared distance from the background, in units of the latents' variance, that counts as fully standing out."""


def standing_out(z: Tensor) -> Tensor:
    """How much each position of latents (B, C, T, H, W) differs from its row's median over width and time, which is
    the background of scenes made of horizontal bands: (B, 1, T, H, W) in [0, 1]."""
    background = z.median(dim=4, keepdim=True).values.median(dim=2, keepdim=True).values
    return ((z - background).square().mean(1, keepdim=True) / SATURATION).clamp(max=1.0)


def loss_weights(z: Tensor, t: Tensor, strength: float, fades: bool = True) -> Tensor:
    """Weights (B, 1, T, H, W) of mean 1 over the batch for the velocity errors of latents (B, C, T, H, W) at times
    ``t`` (B,) in [0, 1]; a position that stands out weighs up to ``1 + strength`` times as much as the background.

    Where a stage is to learn which way things go, which is decided at the noisy end, the weights do not fade there; a
    later stage takes the pull towards subjects back.
    """
    fade = ((NONE_ABOVE - t) / (NONE_ABOVE - FULL_BELOW)).clamp(0.0, 1.0) if fades else torch.ones_like(t)
    fade = fade.reshape(-1, 1, 1, 1, 1)
    weights = 1.0 + strength * fade * standing_out(z)
    return weights / torch.clamp(weights.mean(), min=1.0)
