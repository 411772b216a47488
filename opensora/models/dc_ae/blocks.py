"""Building blocks of the deep-compression autoencoder. Names of children are those of published checkpoints.

Legend: B batch, C channels, T frames, H, W rows and columns, N = T * H * W positions, G groups of attention channels,
K width of a head. Activations are (B, C, T, H, W). Convolutions are padded with zeros on all sides, time included.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora.models.dc_ae.config import BlockType

Triple = tuple[int, int, int]


class RMSNorm3d(nn.Module):
    """``weight * x / sqrt(mean(x^2) + eps) + bias``, the mean over the channels of a position, in float32."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        size = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        rstd = torch.rsqrt(size.square() / x.shape[1] + self.eps)
        weight, bias = (parameter[:, None, None, None] for parameter in (self.weight, self.bias))
        return torch.addcmul(bias, (x * rstd).to(x.dtype), weight)


class ConvLayer(nn.Module):
    """Convolution, norm, SiLU, of which the last two are optional."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: Triple = (1, 1, 1),
        groups: int = 1,
        bias: bool = True,
        norm: bool = False,
        silu: bool = False,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=bias)
        self.norm = RMSNorm3d(out_channels) if norm else None
        self.silu = silu

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        x = self.conv(x)
        x = x if self.norm is None else self.norm(x)
        return F.silu(x, inplace=not torch.is_grad_enabled()) if self.silu else x


class OpSequential(nn.Module):
    """Layers one after the other."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        for layer in self.op_list:
            x = layer(x)
        return x


class ResidualBlock(nn.Module):
    """``main(x) + shortcut(x)``; the shortcut has no parameters."""

    def __init__(self, main: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.main = main
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        return self.main(x) + self.shortcut(x)


class ResBlock(nn.Module):
    """norm(conv(silu(conv(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(channels, channels, silu=True)
        self.conv2 = ConvLayer(channels, channels, bias=False, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        return self.conv2(self.conv1(x))


class LiteMLA(nn.Module):
    """Linear attention over all positions of the clip: ``relu(q) (relu(k)^T v) / (relu(q) sum(relu(k)))``.

    Where there is a second scale, its queries, keys and values are those of the first, gathered by a convolution around
    every position. Formula: EfficientViT (arXiv 2205.14756), section 3.1.
    """

    def __init__(self, channels: int, head_dim: int = 32, scales: tuple[int, ...] = (5,), eps: float = 1e-15) -> None:
        super().__init__()
        heads = channels // head_dim
        width = 3 * heads * head_dim
        self.head_dim, self.eps = head_dim, eps
        self.qkv = ConvLayer(channels, width, 1, bias=False)
        self.aggreg = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(width, width, scale, padding=scale // 2, groups=width, bias=False),
                nn.Conv3d(width, width, 1, groups=3 * heads, bias=False),
            )
            for scale in scales
        )
        self.proj = ConvLayer((1 + len(scales)) * heads * head_dim, channels, 1, bias=False, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        qkv = self.qkv(x)
        qkv = torch.cat([qkv, *(gather(qkv) for gather in self.aggreg)], dim=1)
        heads = qkv.flatten(2).unflatten(1, (-1, 3 * self.head_dim))  # B G 3K N
        out = self.attend(*heads.to(torch.promote_types(x.dtype, torch.float32)).chunk(3, dim=2)).to(x.dtype)
        return self.proj(out.flatten(1, 2).unflatten(2, x.shape[2:]))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, G, K, N) each -> (B, G, K, N)."""
        q, k = F.relu(q), F.relu(k)
        values = v @ k.transpose(2, 3)  # B G K K
        weights = k.sum(3).unsqueeze(2)  # B G 1 K
        return (values @ q) / (weights @ q + self.eps)


class GLUMBConv(nn.Module):
    """Pointwise to twice four times the width, depthwise, one half gates the other, pointwise back."""

    def __init__(self, channels: int, expand_ratio: int = 4) -> None:
        super().__init__()
        hidden = expand_ratio * channels
        self.inverted_conv = ConvLayer(channels, 2 * hidden, 1, silu=True)
        self.depth_conv = ConvLayer(2 * hidden, 2 * hidden, groups=2 * hidden)
        self.point_conv = ConvLayer(hidden, channels, 1, bias=False, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        value, gate = self.depth_conv(self.inverted_conv(x)).chunk(2, dim=1)
        return self.point_conv(value * F.silu(gate))


class EfficientViTBlock(nn.Module):
    """Attention, then the gated convolution, each beside a skip."""

    def __init__(self, channels: int, head_dim: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.context_module = ResidualBlock(LiteMLA(channels, head_dim, scales))
        self.local_module = ResidualBlock(GLUMBConv(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        return self.local_module(self.context_module(x))


def block(kind: BlockType, channels: int, head_dim: int) -> nn.Module:
    """A block of a level, (B, C, T, H, W) -> (B, C, T, H, W)."""
    if kind == "ResBlock":
        return ResidualBlock(ResBlock(channels))
    return EfficientViTBlock(channels, head_dim, (5,) if kind == "EViTS5_GLU" else ())
