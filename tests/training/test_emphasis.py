"""The loss may weigh what stands out from its background more, and only where that cannot mislead."""

import pytest
import torch

from opensora.sampling.rectified_flow import RFLOW
from opensora.training.emphasis import loss_weights, standing_out


def bands_with_a_square() -> torch.Tensor:
    """Latents (1, 4, 3, 8, 12): horizontal bands, and a square that moves one column a frame."""
    z = torch.linspace(-1, 1, 8).reshape(1, 1, 1, 8, 1).expand(1, 4, 3, 8, 12).clone()
    for frame in range(3):
        z[:, :, frame, 3:5, 2 + frame : 4 + frame] += 3.0
    return z


def test_what_stands_out_is_the_subject() -> None:
    z = bands_with_a_square()
    expected = torch.zeros(1, 1, 3, 8, 12)
    for frame in range(3):
        expected[:, :, frame, 3:5, 2 + frame : 4 + frame] = 1.0
    assert torch.equal(standing_out(z), expected)


@pytest.mark.parametrize(("t", "share"), [(0.0, 5.0), (0.7, 5.0), (0.8, 3.0), (0.9, 1.0), (1.0, 1.0)])
def test_the_emphasis_fades_towards_the_noisy_end_and_keeps_the_mean(t: float, share: float) -> None:
    z = bands_with_a_square()
    weights = loss_weights(z, torch.tensor([t]), strength=4.0)
    assert weights.max() / weights.min() == pytest.approx(share, rel=1e-5)
    assert weights.mean() == pytest.approx(1.0, rel=1e-5)


def test_weights_of_positions_weigh_their_errors() -> None:
    z = bands_with_a_square()
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    size = {"height": torch.tensor([64.0]), "width": torch.tensor([96.0]), "fps": torch.tensor([24.0])}
    arguments = {"t": torch.tensor([500.0]), "noise": noise}

    def nothing(x: torch.Tensor, _: torch.Tensor, **__: object) -> torch.Tensor:
        return torch.zeros_like(x)

    weights = standing_out(z)
    plain = RFLOW().training_losses(nothing, z, size, **arguments)
    weighted = RFLOW().training_losses(nothing, z, size, position_weights=weights, **arguments)
    assert plain.item() == pytest.approx((z - noise).square().mean().item())
    assert weighted.item() == pytest.approx(((z - noise).square() * weights).mean().item())
