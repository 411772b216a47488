"""Rotary embedding against the published module, and its invariances."""

import golden_io
import pytest
import torch

from opensora.nn.rope import RotaryEmbedding, Rotation, axis_turns, frequencies, rotate

LAYERS = golden_io.load("layers_v13")


def along_axis(q: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Rotate (..., N, K) whose positions run along N."""
    x = q.reshape(-1, q.shape[-2], 1, 1, 1, q.shape[-1])
    return rotate(x, Rotation(turns.view(len(turns), 1, 1, -1), None)).reshape(q.shape)


@pytest.mark.parametrize("scale", [None, 0.5, 1.7])
def test_one_axis_matches_the_published_module(scale: float | None) -> None:
    torch.testing.assert_close(frequencies(8), LAYERS.tensors["rope/freqs"])
    out = along_axis(LAYERS.tensors["rope/in.q"], axis_turns(9, 9, scale or 1.0, 8))
    golden_io.assert_close(out, LAYERS.tensors[f"rope_scale_{scale}/out"], f"layers_v13 rope_scale_{scale}")


def test_three_dimensional_input_matches_the_published_module() -> None:
    out = along_axis(LAYERS.tensors["rope_3d_in/in.q"], axis_turns(9, 9, 1.0, 8))
    golden_io.assert_close(out, LAYERS.tensors["rope_3d_in/out"], "layers_v13 rope_3d_in")


def test_published_rounding_is_reproduced_on_request() -> None:
    q = LAYERS.tensors["rope/in.q"].bfloat16()
    expected = LAYERS.tensors["rope_scale_1.7/out_bf16"].float()
    published = golden_io.compare(along_axis(q, axis_turns(9, 9, 1.7, 8, torch.bfloat16)), expected)
    right = golden_io.compare(along_axis(q, axis_turns(9, 9, 1.7, 8)), expected)
    assert published.rel_fro < 2**-9  # what is left is the last rounding of the products
    assert right.rel_fro > 2 * published.rel_fro


@pytest.mark.parametrize(("case", "grid"), [("rotate3d_4x3x5", (5, 4, 3)), ("rotate3d_spatial_5x6", (1, 5, 6))])
def test_three_axes_match_the_published_layer(case: str, grid: tuple[int, int, int]) -> None:
    scale = LAYERS.meta["cases"][case]["call"]["scale"]
    t, h, w = grid
    k = LAYERS.tensors[f"{case}/in.k"]  # (B, A, (H W T), K)
    x = k.unflatten(2, (h, w, t)).permute(0, 4, 2, 3, 1, 5)
    out = rotate(x, RotaryEmbedding(24, axial=True)(grid, grid, scale)).permute(0, 4, 2, 3, 1, 5).flatten(2, 4)
    golden_io.assert_close(out, LAYERS.tensors[f"{case}/out"], f"layers_v13 {case}")


@pytest.mark.parametrize("head_dim", [12, 24, 32])
def test_scores_depend_on_distance_only(head_dim: int) -> None:
    grid = (4, 5, 6)
    rotation = RotaryEmbedding(head_dim, axial=True)(grid, grid, 1.3)
    q, k = torch.randn(2, head_dim, generator=torch.Generator().manual_seed(0))
    q, k = (rotate(x.expand(1, *grid, 1, head_dim), rotation)[0, ..., 0, :].double() for x in (q, k))
    torch.testing.assert_close(q[0, 1, 1] @ k[2, 3, 2], q[1, 2, 4] @ k[3, 4, 5], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head_dim", [12, 32])
def test_derivative(head_dim: int) -> None:
    grid = (2, 3, 2)
    rotation = RotaryEmbedding(head_dim, axial=True)(grid, grid, 1.0)
    x = torch.randn(1, *grid, 2, head_dim, requires_grad=True)
    grad = torch.randn_like(x)
    (dx,) = torch.autograd.grad(rotate(x, rotation), x, grad)
    step = torch.randn_like(x)
    with torch.no_grad():  # the map is linear
        torch.testing.assert_close((rotate(step, rotation) * grad).sum(), (dx * step).sum(), rtol=1e-4, atol=1e-4)


def test_tables_made_in_inference_mode_serve_training() -> None:
    rope, grid = RotaryEmbedding(12, axial=True), (2, 3, 7)
    with torch.inference_mode():
        rope(grid, grid, 0.123)
    x = torch.randn(1, *grid, 1, 12, requires_grad=True)
    rotate(x, rope(grid, grid, 0.123)).sum().backward()
    assert x.grad is not None


def test_conversion_keeps_exact_angles() -> None:
    grid = (3, 4, 5)
    exact = RotaryEmbedding(24, axial=True)(grid, grid, 0.7)
    assert torch.equal(RotaryEmbedding(24, axial=True).bfloat16()(grid, grid, 0.7).turns, exact.turns)
    rounded = RotaryEmbedding(24, axial=True, compat="published").bfloat16()(grid, grid, 0.7)
    assert not torch.equal(rounded.turns, exact.turns)


def test_other_frequencies_are_refused() -> None:
    rope = RotaryEmbedding(24, axial=True).bfloat16()
    rope.check()
    rope.freqs *= 1.1
    with pytest.raises(ValueError, match="other rotary frequencies"):
        rope.check()


@pytest.mark.parametrize(("head_dim", "axial"), [(9, True), (10, True), (7, False)])
def test_heads_that_cannot_be_rotated_are_refused(head_dim: int, axial: bool) -> None:
    with pytest.raises(ValueError, match=f"heads of {head_dim} channels"):
        RotaryEmbedding(head_dim, axial)
