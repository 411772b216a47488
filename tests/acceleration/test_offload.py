"""Networks that lie in main memory come to a device for their turn and leave it as they were."""

import pytest
import torch
from torch import Tensor, nn

from opensora.acceleration import offload
from opensora.acceleration.offload import Places, leaves_memory, on_device

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


class Moves:
    """Stands for the copy to a GPU, which this machine need not have: other memory with the same numbers."""

    def __init__(self) -> None:
        self.copies: list[Tensor] = []
        self.left = 10**9

    def __call__(self, data: Tensor, device: torch.device) -> Tensor:
        if not self.left:
            raise torch.OutOfMemoryError("no more memory there")
        self.left -= 1
        self.copies.append(data.clone())
        return self.copies[-1]


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Moves:
    made = Moves()
    monkeypatch.setattr(offload, "copied", made)
    return made


def network() -> nn.Module:
    torch.manual_seed(0)
    first = nn.Linear(3, 3)
    again = nn.Linear(3, 3)
    again.weight = first.weight  # one weight under two names
    return nn.Sequential(first, again, nn.BatchNorm1d(3)).eval().requires_grad_(False)


@pytest.mark.parametrize("inference", [False, True])
def test_weights_are_copies_for_a_turn_and_the_originals_after_it(moves: Moves, inference: bool) -> None:
    module, x = network(), torch.randn(2, 3)
    before = {name: tensor.data_ptr() for name, tensor in module.state_dict().items()}
    expected = module(x)
    with torch.inference_mode(inference):
        with on_device([module, module], CPU):
            assert torch.equal(module(x), expected)
            assert {tensor.data_ptr() for tensor in module.state_dict().values()}.isdisjoint(before.values())
        assert len(moves.copies) == 3 + 5  # the shared weight, two biases, and the norm's: each once
        assert {name: tensor.data_ptr() for name, tensor in module.state_dict().items()} == before
    module[2].running_mean.add_(1)  # an ordinary weight again
    assert not torch.equal(module(x), expected)


def test_a_turn_that_fails_leaves_the_originals(moves: Moves) -> None:
    module = network()
    before = [tensor.data_ptr() for tensor in module.state_dict().values()]
    moves.left = 3
    with pytest.raises(torch.OutOfMemoryError), on_device([module], CPU):
        raise AssertionError("the memory ran out before")
    assert [tensor.data_ptr() for tensor in module.state_dict().values()] == before
    moves.left = 100
    with pytest.raises(KeyError), on_device([module], CPU):
        raise KeyError
    assert [tensor.data_ptr() for tensor in module.state_dict().values()] == before


def test_the_memory_format_is_kept() -> None:
    data = torch.zeros(1, 2, 3, 4, 5).to(memory_format=torch.channels_last_3d)
    assert offload.copied(data.double(), CPU).is_contiguous(memory_format=torch.channels_last_3d)


def test_where_networks_lie() -> None:
    assert (Places(GPU).text, Places(GPU).others) == (GPU, GPU)
    assert (Places(GPU, "text").text, Places(GPU, "text").others) == (CPU, GPU)
    assert (Places(GPU, "all").text, Places(GPU, "all").others) == (CPU, CPU)
    assert leaves_memory(GPU) and not leaves_memory(CPU) and not leaves_memory(torch.device("mps"))
    with pytest.raises(ValueError, match="on cpu are in main memory already"):
        Places(CPU, "all")
    with pytest.raises(ValueError, match="offload 'some'; choose one of none, text, all"):
        Places(GPU, "some")  # type: ignore[arg-type]
