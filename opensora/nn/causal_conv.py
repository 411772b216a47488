"""Convolutions over video that look only backwards in time.

Legend: B batch, C channels, T frames, H, W rows and columns. Activations are (B, C, T, H, W); where weights and input
are in ``torch.channels_last_3d`` the output is, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Triple = tuple[int, int, int]

TILE_ELEMENTS = 2**27
"""Activations with more elements than this are convolved in tiles; below, a copy of the whole costs little memory."""


class CausalConv(nn.Module, ABC):
    """3-D convolution, padded in time by k - 1 before the clip and nothing after it, in rows and columns by k // 2; the
    padding is zeros unless a class says otherwise.

    The output has ``ceil(T / stride)`` frames, and frame t depends on input frames up to ``t * stride``.
    """

    tile_size: int | None
    """Frames of output to compute at a time where a large activation is convolved without gradients, or None: the
    numbers are the same, but only one tile of the input is ever copied for padding."""

    @property
    @abstractmethod
    def layer(self) -> nn.Conv3d:
        """Weights and geometry; its own padding is that of rows and columns."""

    @abstractmethod
    def convolve(self, x: Tensor) -> Tensor:
        """The convolution without padding in time; of what :meth:`pad` returns."""

    @property
    def history(self) -> int:
        """Frames before an output's own frame that it depends on."""
        return self.layer.kernel_size[0] - 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        if self.history == 0 and x.is_contiguous(memory_format=torch.channels_last_3d):
            return self._pointwise(x)
        if self.history > 0 and x.shape[2] == 1:
            return self._one_frame(x)
        if self.tiled(x):
            tiles = (self.convolve(self.pad(x[:, :, a:b], missing)) for a, b, missing in self.tiles(x.shape[2]))
            return join_frames(tiles, self.out_frames(x.shape[2]))
        return self.convolve(self.pad(x, self.history))

    def pad(self, x: Tensor, missing: int) -> Tensor:
        """`x` with the `missing` frames before it, as :meth:`convolve` takes it; may be `x` itself."""
        return behind_zeros(x, missing)

    def after_silu(self, x: Tensor) -> Tensor:
        """``self(silu(x))``, with one pass over the activation less; may overwrite `x`, so hand over a fresh one."""
        if x.shape[2] == 1 or self.history == 0 or self.tiled(x):
            return self(F.silu(x, inplace=not torch.is_grad_enabled()))
        return self.convolve(_SiluBehindZeros.apply(x, self.history))

    def _pointwise(self, x: Tensor) -> Tensor:
        """A 1x1x1 kernel is a linear layer of every position (oneDNN's convolution would lose the memory layout)."""
        layer = self.layer
        s, t, u = layer.stride
        positions = x[:, :, ::s, ::t, ::u].permute(0, 2, 3, 4, 1)
        return F.linear(positions, layer.weight.flatten(1), layer.bias).permute(0, 4, 1, 2, 3)

    def _one_frame(self, x: Tensor) -> Tensor:
        """A single frame meets only the last temporal slice of the kernel: a 2-D convolution, three times cheaper."""
        layer = self.layer
        assert not isinstance(layer.padding, str)
        weight = layer.weight[:, :, -1]
        return F.conv2d(x.squeeze(2), weight, layer.bias, layer.stride[1:], layer.padding[1:]).unsqueeze(2)

    def tiled(self, x: Tensor) -> bool:
        """Whether the convolution of `x` is computed in tiles."""
        size = self.tile_size
        return size is not None and x.shape[2] > size and x.numel() > TILE_ELEMENTS and not torch.is_grad_enabled()

    def out_frames(self, frames: int) -> int:
        """Frames of output for `frames` of input."""
        return (frames - 1) // self.layer.stride[0] + 1

    def tiles(self, frames: int) -> Iterator[Triple]:
        """For each tile of output the input frames ``[first, last)`` it needs, and how many are missing before them."""
        stride, out_frames, size = self.layer.stride[0], self.out_frames(frames), self.tile_size
        assert size is not None
        for start in range(0, out_frames, size):
            first = start * stride - self.history
            last = (min(start + size, out_frames) - 1) * stride + 1
            yield max(first, 0), last, max(-first, 0)


class CausalConv3d(CausalConv):
    """A causal convolution whose weights are those of a child ``conv``, the usual name in published checkpoints."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int | Triple = 1,
        tile_size: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}; a causal convolution needs an odd one.")
        space = kernel_size // 2
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding=(0, space, space), bias=bias)
        self.tile_size = tile_size

    @property
    def layer(self) -> nn.Conv3d:
        return self.conv

    def convolve(self, x: Tensor) -> Tensor:
        return self.conv(x)


class BareCausalConv3d(CausalConv, nn.Conv3d):
    """A causal 3x3x3 convolution that holds its weights itself."""

    def __init__(self, in_channels: int, out_channels: int, tile_size: int | None = None) -> None:
        nn.Conv3d.__init__(self, in_channels, out_channels, 3, padding=(0, 1, 1))
        self.tile_size = tile_size

    @property
    def layer(self) -> nn.Conv3d:
        return self

    def convolve(self, x: Tensor) -> Tensor:
        return nn.Conv3d.forward(self, x)


class EdgeCausalConv3d(CausalConv3d):
    """A causal convolution padded with the nearest frame, row or column instead of zeros."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int | Triple = 1,
        tile_size: int | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, tile_size)
        self.conv.padding = (0, 0, 0)  # forward puts it there

    def pad(self, x: Tensor, missing: int) -> Tensor:
        return repeat_edge(x, self.layer.kernel_size[1] // 2, missing)

    def after_silu(self, x: Tensor) -> Tensor:
        return self(F.silu(x, inplace=not torch.is_grad_enabled()))

    def _one_frame(self, x: Tensor) -> Tensor:
        """A single frame meets every temporal slice of the kernel, so it meets their sum."""
        layer, space = self.layer, self.layer.kernel_size[1] // 2
        frame = F.pad(x.squeeze(2), (space, space, space, space), mode="replicate")
        return F.conv2d(frame, layer.weight.sum(2), layer.bias, layer.stride[1:]).unsqueeze(2)


class _SiluBehindZeros(torch.autograd.Function):
    """SiLU written straight into a buffer that starts with zero frames, instead of a copy for padding."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, zeros: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.zeros = zeros
        padded = empty_like_frames(x, x.shape[2] + zeros)
        padded[:, :, :zeros] = 0
        torch.ops.aten.silu.out(x, out=padded[:, :, zeros:])
        return padded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(gradients[0][:, :, ctx.zeros :], x), None


def behind_zeros(x: Tensor, zeros: int) -> Tensor:
    """(B, C, T, H, W) with `zeros` zero frames put before it."""
    return F.pad(x, (0, 0, 0, 0, zeros, 0)) if zeros else x


def repeat_edge(x: Tensor, space: int, frames: int) -> Tensor:
    """(B, C, T, H, W) with its first frame repeated `frames` times before it, and its outer rows and columns `space`
    times around it. In the memory layout of `x` where no gradient is needed."""
    if not space and not frames:
        return x
    if torch.is_grad_enabled():
        return F.pad(x, (space, space, space, space, frames, 0), mode="replicate")
    b, c, t, h, w = x.shape
    out = torch.empty(
        (b, c, frames + t, h + 2 * space, w + 2 * space), dtype=x.dtype, device=x.device, memory_format=layout_of(x)
    )
    clip = out[:, :, frames:]
    middle = clip[..., space : space + w]
    middle[..., space : space + h, :] = x
    middle[..., :space, :], middle[..., space + h :, :] = x[..., :1, :], x[..., -1:, :]
    clip[..., :space], clip[..., space + w :] = middle[..., :1], middle[..., -1:]
    out[:, :, :frames] = clip[:, :, :1]
    return out


def join_frames(tiles: Iterable[Tensor], frames: int) -> Tensor:
    """Put (B, C, t, H, W) tiles behind each other in time, without gradients; `frames` is the sum of their t.

    Every tile is written to its place and released before the next one is made.
    """
    output: Tensor | None = None
    position = 0
    for tile in tiles:
        if output is None:
            output = empty_like_frames(tile, frames)
        output[:, :, position : position + tile.shape[2]] = tile
        position += tile.shape[2]
    assert output is not None and position == frames, (position, frames)
    return output


def empty_like_frames(tile: Tensor, frames: int) -> Tensor:
    """An uninitialised tensor as `tile` (B, C, t, H, W), memory layout included, with another number of frames."""
    shape = (*tile.shape[:2], frames, *tile.shape[3:])
    return torch.empty(shape, dtype=tile.dtype, device=tile.device, memory_format=layout_of(tile))


def layout_of(x: Tensor) -> torch.memory_format:
    """Whether (B, C, T, H, W) is channels last, or else contiguous."""
    return torch.channels_last_3d if x.is_contiguous(memory_format=torch.channels_last_3d) else torch.contiguous_format
