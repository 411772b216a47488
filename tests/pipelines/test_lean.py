"""Less at once: the same numbers from the rows of a batch one after another, and from convolutions of single frames."""

import ctypes
import sys

import pytest
import torch
from torch import Tensor, nn

from opensora.acceleration.rows import one_by_one
from opensora.nn import causal_conv
from opensora.nn.causal_conv import CausalConv3d
from opensora.pipelines.lean import OutOfMemory, less_at_once, trim
from opensora.pipelines.memory import resident_bytes


class Denoiser(nn.Module):
    """Says how many rows it was given, and lets every argument count."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: Tensor, timestep: Tensor, y: Tensor, y_null: Tensor | None = None, scale: int = 1) -> Tensor:
        self.rows.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError("out of memory")
        extra = 0 if y_null is None else y_null.sum()
        return x * scale + timestep[:, None] + y.repeat(len(x) // len(y), 1) + extra


def test_rows_come_one_after_another_and_in_order() -> None:
    network, x, y = Denoiser(), torch.arange(12.0).view(4, 3), torch.tensor([[100.0] * 3, [200.0] * 3])
    with one_by_one(network):
        out = network(x, torch.arange(4.0), y=y, y_null=torch.ones(1, 3), scale=2)
    expected = 2 * x + torch.arange(4.0)[:, None] + y.repeat(2, 1) + 3
    assert torch.equal(out, expected) and network.rows == [1, 1, 1, 1]
    with pytest.raises(torch.OutOfMemoryError):  # as before, outside of the block
        network(x, torch.arange(4.0), y=y)


def test_convolutions_take_single_frames_inside_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal_conv, "TILE_ELEMENTS", 1)
    torch.manual_seed(0)
    vae = nn.Sequential(CausalConv3d(2, 4, tile_size=4), CausalConv3d(4, 2, tile_size=None))
    x = torch.randn(1, 2, 9, 5, 6)
    with torch.inference_mode():
        whole = vae(x)
        with less_at_once(Denoiser(), vae):
            assert [layer.tile_size for layer in vae] == [1, 1]
            torch.testing.assert_close(vae(x), whole)
    assert [layer.tile_size for layer in vae] == [4, None]


def test_the_error_names_the_stage_and_says_what_to_do() -> None:
    error = OutOfMemory("decoding")
    assert error.stage == "decoding" and "ran out in the decoding stage. Choose a smaller resolution" in str(error)


class Half(nn.Module):
    """What a process sees of a network whose rows two processes share: it is called with its own, and gets all."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x + 10])


def test_rows_that_processes_share_come_back_in_their_order() -> None:
    network, mine = Half(), torch.arange(3.0)[:, None]
    with one_by_one(network):
        assert torch.equal(network(mine), Half()(mine))


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc can be asked"
)
def test_memory_that_was_freed_between_what_is_held_goes_back_to_the_system() -> None:
    blocks = [bytearray(b"x") * 60_000 for _ in range(2000)]  # small enough for the heap
    held = blocks[::50]
    del blocks
    before = resident_bytes()
    trim()
    after = resident_bytes()
    assert before is not None and after is not None and after < before - 50e6 and len(held) == 40
