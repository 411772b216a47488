"""The network of clips in the 1.2 autoencoder: four latents of frames become one. Child names are the published ones.

Legend: B batch, C channels, T frames, H, W rows and columns of a frame's latent; T' latent frames.
"""

from itertools import pairwise

from torch import Tensor, nn

from opensora.models.vae_v12.config import TemporalConfig
from opensora.models.vae_v13.blocks import add
from opensora.nn.causal_conv import CausalConv3d, behind_zeros
from opensora.nn.streaming import norm_silu_conv


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1x1 convolution on the skip where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels)
        self.conv1 = CausalConv3d(in_channels, out_channels, bias=False)
        self.norm2 = nn.GroupNorm(groups, out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels, bias=False)
        self.conv3 = CausalConv3d(in_channels, out_channels, 1, bias=False) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        h = norm_silu_conv(self.norm1, self.conv1, x)
        h = norm_silu_conv(self.norm2, self.conv2, h)
        return add(h, x if self.conv3 is None else self.conv3(x))


class HalveFrames(nn.Module):
    """A convolution that keeps every second frame: frame t of the output sees frames 2 t - 1 to 2 t + 1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 3, stride=(2, 1, 1), padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W), T even -> (B, C', T / 2, H, W)."""
        return self.conv(behind_zeros(x, 1))


class DoubleFrames(CausalConv3d):
    """A causal convolution to the channels of two frames, which then follow each other."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, 2 T, H, W)."""
        pairs = super().forward(x).unflatten(1, (-1, 2))  # (B, C, 2, T, H, W)
        return pairs.transpose(2, 3).flatten(2, 3)


def res_blocks(widths: list[int], groups: int) -> nn.Sequential:
    """Residual blocks from each width to the next."""
    return nn.Sequential(*(ResBlock(a, b, groups) for a, b in pairwise(widths)))


class TemporalEncoder(nn.Module):
    """Latents of frames to the moments of latents of a clip, before the last map."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        widths, count, groups = config.widths, config.num_res_blocks, config.num_groups
        self.frames = config.patch_size
        self.conv_in = CausalConv3d(config.in_out_channels, config.filters, bias=False)
        levels = [res_blocks([a, *[b] * count], groups) for a, b in pairwise((config.filters, *widths))]
        self.block_res_blocks = nn.ModuleList(levels)
        halves = zip(widths, config.temporal_downsample, strict=False)
        self.conv_blocks = nn.ModuleList(HalveFrames(w, w) if half else nn.Identity() for w, half in halves)
        self.res_blocks = res_blocks([widths[-1]] * (count + 1), groups)
        self.norm1 = nn.GroupNorm(groups, widths[-1])
        self.conv2 = CausalConv3d(widths[-1], 2 * config.latent_embed_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W), zeros put before it until the frames fill latent frames -> (B, C', T', H, W)."""
        h = self.conv_in(behind_zeros(x, -x.shape[2] % self.frames))
        for level, halve in zip(self.block_res_blocks, (*self.conv_blocks, nn.Identity()), strict=True):
            h = halve(level(h))
        return norm_silu_conv(self.norm1, self.conv2, self.res_blocks(h))


class TemporalDecoder(nn.Module):
    """Latents of a clip, after the first map, to latents of frames."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        widths, count, groups = config.widths, config.num_res_blocks, config.num_groups
        self.conv1 = CausalConv3d(config.latent_embed_dim, widths[-1])
        self.res_blocks = res_blocks([widths[-1]] * (count + 1), groups)
        levels = [res_blocks([b, *[a] * count], groups) for a, b in pairwise((*widths, widths[-1]))]
        self.block_res_blocks = nn.ModuleList(levels)
        doubles = zip(widths[1:], config.temporal_downsample, strict=True)
        self.conv_blocks = nn.ModuleList(DoubleFrames(w) if double else nn.Identity() for w, double in doubles)
        self.norm1 = nn.GroupNorm(groups, widths[0])
        self.conv_out = CausalConv3d(widths[0], config.in_out_channels)

    def forward(self, z: Tensor) -> Tensor:
        """(B, C', T', H, W) -> (B, C, T, H, W)."""
        h = self.res_blocks(self.conv1(z))
        for level, double in zip(self.block_res_blocks[::-1], (nn.Identity(), *self.conv_blocks[::-1]), strict=True):
            h = level(double(h))
        return norm_silu_conv(self.norm1, self.conv_out, h)


class TemporalVAE(nn.Module):
    """Codes a clip of latents of frames in one piece."""

    def __init__(self, config: TemporalConfig) -> None:
        super().__init__()
        self.encoder = TemporalEncoder(config)
        self.quant_conv = CausalConv3d(2 * config.latent_embed_dim, 2 * config.embed_dim, 1)
        self.post_quant_conv = CausalConv3d(config.embed_dim, config.latent_embed_dim, 1)
        self.decoder = TemporalDecoder(config)

    def encode_moments(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> means and log-variances (B, 2 embed_dim, T', H, W), T' = T / 4 rounded up."""
        return self.quant_conv(self.encoder(x))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        """(B, embed_dim, T', H, W) -> (B, C, num_frames, H, W): the last of the frames that T' hold; before them
        were zeros."""
        x = self.decoder(self.post_quant_conv(z))
        return x[:, :, x.shape[2] - num_frames :]
