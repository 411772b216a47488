"""Embeddings, patches and norms against the published layers (1.3 took them over from 1.2 unchanged)."""

import golden_io
import pytest
import torch
from torch import nn

from opensora.nn.embed import CaptionEmbedder, SizeEmbedder, TimestepEmbedder, position_embedding_2d, repeat_rows
from opensora.nn.norm import RMSNorm
from opensora.nn.patch import PatchEmbed3D, patchify, token_grid, unpatchify

V12, V13 = golden_io.load("layers_v12"), golden_io.load("layers_v13")
CPU = torch.device("cpu")


def filled(module: nn.Module, fixture: golden_io.Fixture, case: str) -> nn.Module:
    golden_io.fill(module, fixture.meta["cases"][case]["salt"])
    return module


@pytest.mark.parametrize("case", ["patch_embed_122", "patch_embed_234"])
def test_patches_match_the_published_layer(case: str) -> None:
    ctor = V12.meta["cases"][case]["ctor"]
    layer = PatchEmbed3D(tuple(ctor["patch_size"]), ctor["in_chans"], ctor["embed_dim"])
    out = filled(layer, V12, case)(V12.inputs(case)["x"])
    golden_io.assert_close(out.flatten(1, 3), V12.tensors[f"{case}/out"], f"layers_v12 {case}")


@pytest.mark.parametrize("size", [(1, 2, 2), (5, 7, 9), (4, 6, 8)])
@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 3, 4)])
def test_patches_go_back(size: tuple[int, int, int], patch: tuple[int, int, int]) -> None:
    x = torch.randn(2, 3, *size)
    tokens = patchify(x, patch)
    assert tokens.shape[1:4] == token_grid(size, patch)
    pixels_fastest = tokens.unflatten(4, (3, -1)).transpose(4, 5).flatten(4)  # the output layer has channels fastest
    assert torch.equal(unpatchify(pixels_fastest, size, patch), x)


@pytest.mark.parametrize("case", ["pos_emb_a", "pos_emb_b", "pos_emb_c"])
def test_places_match_the_published_layer(case: str) -> None:
    meta = V12.meta["cases"][case]
    place = (meta["ctor"]["dim"], *(meta["call"][name] for name in ("h", "w", "scale", "base_size")), CPU)
    golden_io.assert_close(
        position_embedding_2d(*place, torch.float32), V12.tensors[f"{case}/out"], f"layers_v12 {case}"
    )
    rounded = V12.tensors[f"{case}/out_bf16_module"]
    assert torch.equal(position_embedding_2d(*place, torch.bfloat16, "published"), rounded)


def test_timesteps_match_the_published_layer() -> None:
    layer = filled(TimestepEmbedder(len(V12.tensors["t_embed/out"][0])), V12, "t_embed")
    golden_io.assert_close(layer(V12.inputs("t_embed")["t"]), V12.tensors["t_embed/out"], "layers_v12 t_embed")


def test_bfloat16_network_keeps_float32_timesteps() -> None:
    """733.25 would become 732, which turns the fastest sinusoid by more than a radian."""
    torch.manual_seed(0)
    layer = TimestepEmbedder(32).bfloat16()
    near, rounded = layer(torch.tensor([733.25])), layer(torch.tensor([732.0]))
    assert (near - rounded).abs().max() > 0.05


@pytest.mark.parametrize("case", ["size_embed", "size_embed_2d"])
def test_sizes_match_the_published_layer(case: str) -> None:
    call, out = V12.inputs(case), V12.tensors[f"{case}/out"]
    layer = filled(SizeEmbedder(24), V12, case)
    golden_io.assert_close(layer(call["s"], call["bs"]), out, f"layers_v12 {case}")


def test_rows_repeat_in_order() -> None:
    assert repeat_rows(torch.tensor([1, 2]), 6, "x").tolist() == [1, 2, 1, 2, 1, 2]
    with pytest.raises(ValueError, match=r"mask has 2 rows, the batch has 5"):
        repeat_rows(torch.tensor([1, 2]), 5, "mask")


@pytest.mark.parametrize("case", ["caption_eval", "caption_drop"])
def test_captions_match_the_published_layer(case: str) -> None:
    call = V13.inputs(case)
    layer = filled(CaptionEmbedder(20, 24, 0.1, 7), V13, case)
    out = layer(
        call["caption"], train=call["train"], drop=None if case == "caption_eval" else call["force_drop_ids"] == 1
    )
    golden_io.assert_close(out, V13.tensors[f"{case}/out"], f"layers_v13 {case}")


def test_captions_are_dropped_at_the_given_rate() -> None:
    torch.manual_seed(0)
    layer = CaptionEmbedder(4, 8, 0.25, 6)
    caption = torch.ones(4000, 1, 5, 4)
    dropped = (layer.token_drop(caption) == layer.y_embedding[:5]).flatten(1).all(1)
    assert 0.22 < dropped.float().mean() < 0.28
    assert torch.equal(layer(caption[:3], train=False), layer.y_proj(caption[:3]))


def test_rms_norm_matches_the_published_layer() -> None:
    x, out = V12.inputs("rmsnorm")["hidden_states"], V12.tensors["rmsnorm/out"]
    layer = filled(RMSNorm(x.shape[-1]), V12, "rmsnorm")
    golden_io.assert_close(layer(x), out, "layers_v12 rmsnorm")
    assert layer(x.bfloat16()).dtype is torch.bfloat16
