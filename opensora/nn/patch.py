"""Latent video to patch tokens and back.

Legend: B batch, C channels, F, Y, X latent frames, rows and columns, T, H, W the same in tokens, D width.
"""

import math

from torch import Tensor, nn
from torch.nn import functional

Patch = tuple[int, int, int]
"""Latent frames, rows and columns of one token."""


def token_grid(size: tuple[int, int, int], patch: Patch) -> tuple[int, int, int]:
    """Tokens (T, H, W) of a latent video of ``size`` (F, Y, X), incomplete patches included."""
    t, h, w = (math.ceil(n / p) for n, p in zip(size, patch, strict=True))
    return t, h, w


def patchify(x: Tensor, patch: Patch) -> Tensor:
    """(B, C, F, Y, X) to (B, T, H, W, C * pt * ph * pw), zeros added at the far end of each axis where needed."""
    missing = [-n % p for n, p in zip(x.shape[2:], patch, strict=True)]
    if any(missing):
        x = functional.pad(x, (0, missing[2], 0, missing[1], 0, missing[0]))
    pt, ph, pw = patch
    x = x.unflatten(4, (-1, pw)).unflatten(3, (-1, ph)).unflatten(2, (-1, pt))  # (B, C, T, pt, H, ph, W, pw)
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


def unpatchify(x: Tensor, size: tuple[int, int, int], patch: Patch) -> Tensor:
    """Tokens (B, T, H, W, pt * ph * pw * C), channels fastest, to (B, C, F, Y, X), cropped to ``size``."""
    pt, ph, pw = patch
    x = x.unflatten(4, (pt, ph, pw, -1)).permute(0, 7, 1, 4, 2, 5, 3, 6)  # (B, C, T, pt, H, ph, W, pw)
    x = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
    return x[:, :, : size[0], : size[1], : size[2]]


class PatchEmbed3D(nn.Module):
    """A convolution whose stride is its kernel: one linear map of every patch."""

    def __init__(self, patch: Patch, in_channels: int, dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(in_channels, dim, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Latents (B, C, F, Y, X) to tokens (B, T, H, W, D). Computed as a matrix product, which is faster."""
        return functional.linear(patchify(x, self.patch), self.proj.weight.flatten(1), self.proj.bias)
