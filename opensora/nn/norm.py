"""Normalisation: RMS norm with a gain, and layer norm modulated by the timestep."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """``weight * x / sqrt(mean(x^2) + eps)`` over the last axis, computed in float32."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Any shape (..., dim); the dtype of ``x`` is kept."""
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """``gain * x / sqrt(mean(x^2) + eps)`` over the last axis, computed in float32; the dtype of ``x`` is kept."""
    return functional.rms_norm(x, gain.shape, gain.to(x.dtype), eps)


def modulated_layer_norm(x: Tensor, shift: Tensor, scale: Tensor, eps: float = 1e-6) -> Tensor:
    """``layer_norm(x) * (1 + scale) + shift``: the norm has no gain of its own, the timestep gives it.

    Args:
        x: tokens (..., D).
        shift: broadcastable to ``x``.
        scale: broadcastable to ``x``; 0 leaves the norm as it is.
        eps: added to the variance.

    Returns:
        The shape of ``x``.
    """
    return torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:], eps=eps), 1 + scale)
