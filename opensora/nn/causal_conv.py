"""Convolutions over video that look only backwards in time.

Legend: B batch, C channels, T frames, H, W rows and columns. Activations are (B, C, T, H, W); a module moved to
``torch.channels_last_3d`` keeps that layout throughout.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Triple = tuple[int, int, int]


class CausalConv3d(nn.Module):
    """3-D convolution, zero padded: time by k - 1 before the clip and nothing after it, rows and columns by k // 2.

    The output has ``ceil(T / stride)`` frames, and frame t depends on input frames up to ``t * stride``.
    The weights are those of the child ``conv``, the name in published checkpoints.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int | Triple = 1,
        tile_size: int | None = None,
    ) -> None:
        """`kernel_size` is odd; `tile_size` frames of output at a time bound the memory of the padded copy."""
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {kernel_size}; a causal convolution needs an odd one.")
        if tile_size is not None and tile_size < 1:
            raise ValueError(f"tile_size is {tile_size}; expected at least one frame, or None.")
        space = kernel_size // 2
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, padding=(0, space, space))
        self.tile_size = tile_size

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        history = self.conv.kernel_size[0] - 1
        if x.shape[2] == 1 and history > 0:
            return self._one_frame(x)
        if self.tile_size is not None and self.tile_size < x.shape[2]:
            return self._in_tiles(x, self.tile_size)
        return self.conv(F.pad(x, (0, 0, 0, 0, history, 0)) if history else x)

    def _one_frame(self, x: Tensor) -> Tensor:
        """A single frame meets only the last temporal slice of the kernel: a 2-D convolution, three times cheaper."""
        weight, bias = self.conv.weight[:, :, -1], self.conv.bias
        y = F.conv2d(x.squeeze(2), weight, bias, self.conv.stride[1:], self.conv.padding[1:])
        return y.unsqueeze(2)

    def _in_tiles(self, x: Tensor, size: int) -> Tensor:
        """The same output, `size` frames at a time: only one tile of the input is ever copied."""
        tiles = (self.tile(x, start, size) for start in range(0, self.out_frames(x.shape[2]), size))
        return join_frames(tiles, self.out_frames(x.shape[2]))

    def out_frames(self, frames: int) -> int:
        """Frames of output for `frames` of input."""
        return (frames - 1) // self.conv.stride[0] + 1

    def input_range(self, start: int, size: int, frames: int) -> tuple[int, int, int]:
        """Input frames ``[first, last)`` that output frames ``[start, start + size)`` need, and zero frames before."""
        stride, history = self.conv.stride[0], self.conv.kernel_size[0] - 1
        stop = min(start + size, self.out_frames(frames))
        first = start * stride - history
        return max(first, 0), (stop - 1) * stride + 1, max(-first, 0)

    def tile(self, x: Tensor, start: int, size: int) -> Tensor:
        """Output frames ``[start, start + size)`` of the convolution of `x`."""
        first, last, zeros = self.input_range(start, size, x.shape[2])
        part = x[:, :, first:last]
        return self.conv(F.pad(part, (0, 0, 0, 0, zeros, 0)) if zeros else part)


def join_frames(tiles: Iterable[Tensor], frames: int) -> Tensor:
    """Put (B, C, t, H, W) tiles behind each other in time; `frames` is the sum of their t.

    Without gradients every tile is written to its place and released before the next one is made.
    """
    if torch.is_grad_enabled():
        return torch.cat(list(tiles), dim=2)
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
    last = tile.is_contiguous(memory_format=torch.channels_last_3d)
    layout = torch.channels_last_3d if last else torch.contiguous_format
    return torch.empty(shape, dtype=tile.dtype, device=tile.device, memory_format=layout)
