"""Attention, windows and cross-attention against the published layers and against dense masks."""

import math

import golden_io
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from opensora.nn.attention import CrossAttention, Ragged, SelfAttention, attention, grid_attention
from opensora.nn.blocked_attention import blocked_attention
from opensora.nn.rope import RotaryEmbedding, rotate

LAYERS = golden_io.load("layers_v13")
WINDOWED = ("attn_window_442", "attn_window_332", "attn_window_nopad")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ragged(packed: Tensor, lengths: list[int]) -> Ragged:
    """Texts that lie one behind the other in (1, sum, D), as in the public layers."""
    tokens = torch.full((len(lengths), max(lengths), packed.shape[2]), 7.0)  # what is behind the end is not read
    for row, text in zip(tokens, packed[0, : sum(lengths)].split(lengths), strict=True):
        row[: len(text)] = text
    return Ragged(tokens, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


def dense(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Softmax attention written out, (B, N, A, K)."""
    scores = torch.einsum("bnak,bmak->banm", q, k) / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    return torch.einsum("banm,bmak->bnak", scores.softmax(-1), v)


@pytest.mark.parametrize("case", WINDOWED)
def test_windows_match_the_published_layer(case: str) -> None:
    meta, call = LAYERS.meta["cases"][case], LAYERS.inputs(case)
    layer = SelfAttention(48, 2)
    golden_io.fill(layer, meta["salt"])
    x = call["x"].permute(0, 3, 1, 2, 4)  # the public layer takes (B, H, W, T, D)
    grid = tuple(x.shape[1:4])
    h, w, t = meta["ctor"]["kernel_size"]
    window = (grid[0] if t == -1 else t, h, w)
    rotation = RotaryEmbedding(24, axial=True)(grid, window, call["scale"])
    out = layer(x.flatten(1, 3), grid, window, rotation).unflatten(1, grid).permute(0, 2, 3, 1, 4)
    golden_io.assert_close(out, LAYERS.tensors[f"{case}/out"], f"layers_v13 {case}")


def test_spatial_rope_matches_the_published_layer() -> None:
    case = "attn_spatial_rope"
    meta, call = LAYERS.meta["cases"][case], LAYERS.inputs(case)
    layer = SelfAttention(48, 2)
    golden_io.fill(layer, meta["salt"])
    frames, grid = call["x"], (1, call["H"], call["W"])
    rotation = RotaryEmbedding(24, axial=True)(grid, grid, call["scale"])
    golden_io.assert_close(layer(frames, grid, grid, rotation), LAYERS.tensors[f"{case}/out"], f"layers_v13 {case}")


def test_shifted_windows_are_left_out_because_the_published_ones_are_wrong() -> None:
    """No network uses them. The public layer pads in front by half a window and then cuts the end instead of the front,
    so that every token gets the result of the token half a window before it."""
    case = "attn_window_22_shift"
    call = LAYERS.inputs(case)
    layer = SelfAttention(48, 2)
    golden_io.fill(layer, LAYERS.meta["cases"][case]["salt"])
    x = functional.pad(call["x"], (0, 0, 0, 0, 1, 1, 1, 1)).permute(0, 3, 1, 2, 4)  # (B, T, H, W, D)
    grid = tuple(x.shape[1:4])
    there = functional.pad(torch.ones(4, 4, dtype=torch.bool), (1, 1, 1, 1)).expand(grid).flatten()
    place = torch.cartesian_prod(*(torch.arange(size) for size in grid))[:, 1:] // 2
    allowed = (place[:, None] == place[None]).all(-1) & there
    q, k, v = layer.qkv(x.flatten(1, 3)).unflatten(-1, (3, 2, -1)).unbind(2)
    q, k = layer.q_norm(q).unflatten(1, grid), layer.k_norm(k).unflatten(1, grid)
    rotation = RotaryEmbedding(24, axial=True)(grid, (grid[0], 2, 2), call["scale"])
    q, k = (rotate(y, rotation).flatten(1, 3) for y in (q, k))
    out = layer.proj(dense(q, k, v, allowed).flatten(2)).unflatten(1, grid).permute(0, 2, 3, 1, 4)
    golden_io.assert_close(out[:, :4, :4], LAYERS.tensors[f"{case}/out"], f"layers_v13 {case}")


@pytest.mark.parametrize("case", ["attn_plain", "attn_qknorm", "attn_rope_qknorm"])
def test_attention_matches_the_published_layer_of_1_2(case: str) -> None:
    fixture = golden_io.load("layers_v12")
    ctor, x = fixture.meta["cases"][case]["ctor"], fixture.inputs(case)["x"]
    layer = SelfAttention(48, 4, qk_norm=ctor["qk_norm"])
    golden_io.fill(layer, fixture.meta["cases"][case]["salt"])
    grid = (x.shape[1], 1, 1)
    rotation = RotaryEmbedding(12, axial=False)(grid, grid, 1.0) if ctor["rope"] else None
    golden_io.assert_close(layer(x, grid, grid, rotation), fixture.tensors[f"{case}/out"], f"layers_v12 {case}")


@pytest.mark.parametrize("case", ["cross_attn_mask", "cross_attn_none", "cross_attn_surplus"])
def test_cross_attention_matches_the_published_layer(case: str) -> None:
    call = LAYERS.inputs(case)
    layer = CrossAttention(48, 4)
    golden_io.fill(layer, LAYERS.meta["cases"][case]["salt"])
    text = Ragged(call["cond"], None) if call["mask"] is None else ragged(call["cond"], call["mask"])
    golden_io.assert_close(layer(call["x"], text), LAYERS.tensors[f"{case}/out"], f"layers_v13 {case}")


def test_windows_hold_the_tokens_of_the_published_split() -> None:
    """With equal scores attention is a mean, so it tells which tokens share a window."""
    x, kept = LAYERS.tensors["pad/in.x"], LAYERS.tensors["pad/mask"]  # (1, 3, 4, 5, 2), padded (1, 4, 4, 6, 2)
    assert torch.equal(LAYERS.tensors["pad/out"], functional.pad(x, (0, 0, 0, 1, 0, 0, 0, 1)))
    window = (2, 4, 3)
    v = x.flatten(1, 3)[:, :, None]
    out = grid_attention(torch.zeros_like(v), torch.zeros_like(v), v, (3, 4, 5), window).reshape(x.shape)
    mask = kept.reshape(2, 2, 1, 4, 2, 3, 2).permute(0, 2, 4, 1, 3, 5, 6).flatten(3, 5)  # window index major
    values = LAYERS.tensors["split/out"].reshape(2, 1, 2, 24, 2)
    means = (values * mask).sum(3, keepdim=True) / mask.sum(3, keepdim=True)
    spread = means.expand_as(values).reshape(2, 1, 2, 2, 4, 3, 2).permute(0, 3, 1, 4, 2, 5, 6).reshape(4, 4, 6, 2)
    torch.testing.assert_close(out[0], spread[:3, :4, :5])


@given(
    grid=st.tuples(*[st.integers(1, 5)] * 3),
    window=st.tuples(*[st.integers(1, 6)] * 3),
    rotated=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_windows_equal_a_dense_mask(grid: tuple[int, int, int], window: tuple[int, int, int], rotated: bool) -> None:
    n = math.prod(grid)
    q, k, v = (draw(2, n, 2, 12, seed=i) for i in range(3))
    place = torch.cartesian_prod(*(torch.arange(size) for size in grid)).reshape(n, 3) // torch.tensor(window)
    same = (place[:, None] == place[None]).all(-1)
    rotation = RotaryEmbedding(12, axial=True)(grid, window, 0.8) if rotated else None
    out = grid_attention(q, k, v, grid, window, rotation)
    if rotation is not None:
        q, k = (rotate(x.unflatten(1, grid), rotation).flatten(1, 3) for x in (q, k))
    torch.testing.assert_close(out, dense(q, k, v, same), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("batch", "queries", "keys"), [(3, 5, 4), (2, 300, 300), (1, 64, 9000), (40, 96, 96)])
@pytest.mark.parametrize("masked", [False, True])
def test_blocked_back_end_equals_plain_attention(batch: int, queries: int, keys: int, masked: bool) -> None:
    q, k, v = (draw(batch, n, 2, 8, seed=i).requires_grad_() for i, n in enumerate((queries, keys, keys)))
    mask = torch.arange(keys) < 1 + torch.arange(batch)[:, None] % keys if masked else None
    grad = draw(batch, queries, 2, 8, seed=3)
    expected = dense(q, k, v, None if mask is None else mask[:, None, None])
    out = blocked_attention(q, k, v, mask)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    for a, e in zip(
        torch.autograd.grad(out, (q, k, v), grad), torch.autograd.grad(expected, (q, k, v), grad), strict=True
    ):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_bfloat16_stays_close_to_float32(masked: bool) -> None:
    q, k, v = (draw(2, 70, 2, 16, seed=i) for i in range(3))
    mask = torch.arange(70) < torch.tensor([[70], [9]]) if masked else None
    expected = attention(q, k, v, mask)
    half = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    assert half.dtype is torch.bfloat16
    assert golden_io.compare(half, expected).rel_fro < 0.01
    with torch.autocast("cpu", torch.bfloat16):
        auto = attention(q, k, v, mask)
    assert torch.equal(auto, half)


def test_float32_uses_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plain = functional.scaled_dot_product_attention
    monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda *a: calls.append(a) or plain(*a))
    q = draw(1, 4, 2, 8)
    attention(q, q, q)
    assert len(calls) == 1
    attention(q.bfloat16(), q.bfloat16(), q.bfloat16())
    assert len(calls) == 1
