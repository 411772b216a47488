"""Normalisation followed by a convolution, without a normalised copy of a large activation.

Group normalisation spans the whole clip, so it takes one pass for the statistics; after it, each tile of frames is
normalised where the convolution needs it. Legend: B batch, C channels, G groups, T frames, H, W rows and columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora.nn.causal_conv import CausalConv, join_frames


def norm_silu_conv(norm: nn.GroupNorm, conv: CausalConv, x: Tensor) -> Tensor:
    """``conv(silu(norm(x)))`` of (B, C, T, H, W); in tiles where the convolution of `x` is."""
    if not conv.tiled(x):
        return conv.after_silu(norm(x))
    scale, shift = norm_affine(norm, x, frames_at_once=conv.tile_size or 1)
    tiles = (
        conv.convolve(conv.pad(F.silu(affine(x[:, :, a:b], scale, shift), inplace=True), missing))
        for a, b, missing in conv.tiles(x.shape[2])
    )
    return join_frames(tiles, conv.out_frames(x.shape[2]))


def affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``x * scale + shift`` in float32 and back to the dtype of `x`; a fresh tensor."""
    return torch.addcmul(shift, x.float(), scale).to(x.dtype)


def norm_affine(norm: nn.GroupNorm, x: Tensor, frames_at_once: int) -> tuple[Tensor, Tensor]:
    """float32 (B, C, 1, 1, 1) `scale` and `shift` with ``norm(x) == x * scale + shift``."""
    batch, channels = x.shape[:2]
    mean, square = (m.view(batch, norm.num_groups, -1) for m in channel_moments(x, frames_at_once))  # B G C/G
    group_mean = mean.mean(2, keepdim=True)
    variance = (square + (mean - group_mean).square()).mean(2, keepdim=True)
    rstd = torch.rsqrt(variance + norm.eps)
    scale = norm.weight.float().view(1, norm.num_groups, -1) * rstd
    shift = norm.bias.float().view(1, norm.num_groups, -1) - group_mean * scale
    shape = (batch, channels, 1, 1, 1)
    return scale.reshape(shape), shift.reshape(shape)


def channel_moments(x: Tensor, frames_at_once: int) -> tuple[Tensor, Tensor]:
    """float32 mean and variance (B, C) of every channel of (B, C, T, H, W), a few frames at a time."""
    means, variances, counts = [], [], []
    for tile in x.split(frames_at_once, dim=2):
        rows = tile.permute(0, 2, 3, 4, 1).flatten(1, 3).float()  # B thw C
        mean = rows.mean(1, keepdim=True)
        means.append(mean.squeeze(1))
        variances.append((rows - mean).square_().mean(1))
        counts.append(rows.shape[1])
    shares = torch.tensor(counts, dtype=torch.float32, device=x.device).div_(sum(counts))[:, None, None]
    tile_means, tile_variances = torch.stack(means), torch.stack(variances)  # tiles B C
    mean = (shares * tile_means).sum(0)
    return mean, (shares * (tile_variances + (tile_means - mean).square())).sum(0)
