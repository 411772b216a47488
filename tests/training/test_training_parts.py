"""Parts of the recipes: averages, schedules, orthogonal updates, the faster normalisation, resumable state."""

from pathlib import Path

import pytest
import torch
from torch import nn

from opensora.training.group_norm import use_fast_group_norm
from opensora.training.muon import Muon, orthogonalise
from opensora.training.optim import Optimizers, hidden_matrices, warmup_stable_decay
from opensora.training.state import EMA, load_state, save_state
from opensora.training.vae import reconstruction_loss


@pytest.mark.parametrize("shape", [(2, 8, 3, 5, 4), (1, 8, 3, 5, 4), (2, 8, 1, 5, 4), (2, 8, 5, 4)])
def test_fast_group_norm_has_the_same_output_and_gradients(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    plain, fast = nn.GroupNorm(4, 8, eps=1e-6).double(), nn.GroupNorm(4, 8, eps=1e-6).double()
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    fast.load_state_dict(plain.state_dict())
    use_fast_group_norm(fast)
    layout = torch.channels_last_3d if len(shape) == 5 else torch.channels_last
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout)
    gradient = torch.randn(shape, dtype=torch.float64)
    results = []
    for norm in (plain, fast):
        leaf = x.clone().requires_grad_()
        y = norm(leaf)
        results.append((y.detach(), *torch.autograd.grad(y, (leaf, norm.weight, norm.bias), gradient)))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (12, 40), (40, 12)])
def test_orthogonalised_updates_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape), steps=8).float())
    assert float(values.min()) > 0.5 and float(values.max()) < 1.4


def test_muon_takes_convolutions_and_descends() -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(4, 4, 3)
    optimizer = Muon([layer.weight], lr=1e-2)
    x, target = torch.randn(2, 4, 5, 5, 5), torch.randn(2, 4, 3, 3, 3)
    losses = []
    for _ in range(20):
        loss = (layer(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_every_parameter_has_exactly_one_optimiser_and_states_round_trip() -> None:
    module = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 3))
    optimizers = Optimizers(module, "muon", 1e-3, 0.0)
    owned = [id(p) for member in optimizers.members for group in member.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in module.parameters())
    assert [tuple(w.shape) for w in hidden_matrices(module)] == [(16, 16)]
    module(torch.randn(4, 16)).sum().backward()
    optimizers.step(1.0)
    again = Optimizers(module, "muon", 1e-3, 0.0)
    again.load_state_dict(optimizers.state_dict())
    assert str(again.state_dict()) == str(optimizers.state_dict())


def test_the_learning_rate_rises_stays_and_falls_to_zero() -> None:
    factors = [warmup_stable_decay(step, 100, 10, 0.4) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:60] == [1.0] * 51
    assert factors[80] == pytest.approx(0.5)
    assert factors[100] == 0.0


def test_the_average_follows_and_round_trips() -> None:
    layer = nn.Linear(2, 1, bias=False)
    ema = EMA(layer, decay=0.5)
    first = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1.0)
    ema.update(layer)  # warm-up: decay is min(0.5, 2 / 11)
    expected = first + (1 - 2 / 11)
    torch.testing.assert_close(ema.shadow["weight"], expected)
    other = EMA(layer, decay=0.5)
    other.load_state_dict(ema.state_dict())
    ema.copy_to(layer)
    torch.testing.assert_close(layer.weight.detach(), expected)
    assert other.updates == 1


def test_state_files_are_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "run" / "state.pt"
    assert load_state(path) is None
    save_state(path, {"step": 3, "w": torch.ones(2)})
    state = load_state(path)
    assert state is not None and state["step"] == 3
    assert [file.name for file in path.parent.iterdir()] == ["state.pt"]


def test_the_reconstruction_loss_counts_errors_edges_and_flicker() -> None:
    target = torch.zeros(1, 3, 2, 4, 4)
    assert float(reconstruction_loss(target, target, 1.0, 1.0)) == 0.0
    shifted = target + 0.5
    assert float(reconstruction_loss(shifted, target, 1.0, 1.0)) == pytest.approx(0.5)
    flicker = target.clone()
    flicker[:, :, 1] = 0.5
    assert float(reconstruction_loss(flicker, target, 0.0, 1.0)) == pytest.approx(0.75)
