"""MMDiT and its layers against the numbers of the published code, in float32."""

from collections.abc import Callable
from typing import Any

import golden_io
import pytest
import torch
from torch import Tensor, nn

from opensora.models.mmdit.blocks import DoubleStreamBlock, SingleStreamBlock
from opensora.models.mmdit.config import FLUX, HIGH_COMPRESSION, OPEN_SORA_2
from opensora.models.mmdit.layers import (
    HeadNorm,
    LastLayer,
    MLPEmbedder,
    Modulation,
    QKNorm,
    StreamAttention,
    time_sinusoid,
)
from opensora.models.mmdit.mmdit import MMDiT, MMDiTConfig
from opensora.models.mmdit.rotary_layout import convert_rotary_layout, to_halves, to_neighbours
from opensora.nn.attention import sequence_attention
from opensora.nn.rope import Rotation, place_rotation, rotate

LAYERS = golden_io.load("v2/mmdit/layers")
NETWORKS = golden_io.names("v2/mmdit/mmdit_*")
OF_A_LAYER, OF_A_NETWORK, WITH_GUIDANCE = 2e-6, 2e-5, 1e-4
"""Allowed differences as shares of the largest value."""


def network(fixture: golden_io.Fixture) -> MMDiT:
    model = MMDiT(MMDiTConfig.from_dict(fixture.meta["config"])).eval()
    golden_io.fill(model, fixture.meta["salt"])
    assert golden_io.checksum(model) == fixture.meta["rule"]["weights_crc32"]
    return model


def tolerance(fixture: golden_io.Fixture) -> float:
    return WITH_GUIDANCE if fixture.meta["config"]["guidance_embed"] else OF_A_NETWORK


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_networks(name: str) -> None:
    fixture = golden_io.load(name)
    model, call, share = network(fixture), fixture.given(), tolerance(fixture)
    seen: dict[str, Tensor] = {"vec": model.embed_vector(call["timesteps"], call["y_vec"], call.get("guidance"))}

    def watch(key: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            seen.update({key: out} if isinstance(out, Tensor) else {f"{key}.img": out[0], f"{key}.txt": out[1]})

        return hook

    for i, double in enumerate(model.double_blocks):
        double.register_forward_hook(watch(f"double{i}"))
    for i, single in enumerate(model.single_blocks):
        single.register_forward_hook(watch(f"single{i}"))
    model.final_layer.register_forward_pre_hook(lambda module, args: seen.update({"before_final": args[0]}))
    golden_io.assert_within(model(**call), fixture.tensors["out.pred"], name, share)
    expected = fixture.given("mid.")
    assert seen.keys() == expected.keys()
    for key, value in seen.items():
        golden_io.assert_within(value, expected[key], f"{name} blocks", share)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_networks_in_bfloat16(name: str) -> None:
    """The recorded run was not compiled, so that 1000 t was rounded to bfloat16; told the same times we agree."""
    fixture = golden_io.load(name)
    call = {key: value.bfloat16() for key, value in fixture.given().items()}
    told = {key: (1000 * call[key]).float() / 1000 for key in ("timesteps", "guidance") if key in call}
    exact = network(fixture).bfloat16().float()(**{key: value.float() for key, value in (call | told).items()})
    out = network(fixture).bfloat16()(**call | told)
    published = golden_io.compare(fixture.tensors["bf16.pred"].float(), exact).rel_fro
    assert published < 0.01
    assert golden_io.compare(out, exact).rel_fro < 1.1 * published


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_other_rotary_layout_is_the_same_function(name: str) -> None:
    fixture = golden_io.load(name)
    model, call = network(fixture), fixture.given()
    other = MMDiT(MMDiTConfig.from_dict(fixture.meta["config"] | {"use_liger_rope": not model.config.use_liger_rope}))
    converted = convert_rotary_layout(model.state_dict(), model.config)
    other.load_state_dict(converted)
    golden_io.assert_within(other.eval()(**call), fixture.tensors["out.pred"], f"{name} converted", tolerance(fixture))
    back = convert_rotary_layout(converted, other.config)
    assert all(torch.equal(back[key], value) for key, value in model.state_dict().items())
    changed = {key.split(".")[-2] for key, value in converted.items() if not torch.equal(value, back[key])}
    assert changed == ({"qkv", "linear1"} if model.config.fused_qkv else {"q_proj", "k_proj"}) | {
        "query_norm",
        "key_norm",
    }


@pytest.mark.parametrize(
    ("name", "config"),
    [("mmdit_256px", OPEN_SORA_2), ("mmdit_high_compression", HIGH_COMPRESSION), ("flux_t2i_mmdit", FLUX)],
)
def test_published_names_and_shapes(name: str, config: MMDiTConfig) -> None:
    """The manifests of the other published configurations are those of 256px, entry by entry."""
    assert MMDiTConfig.from_dict(golden_io.load_json(f"v2/manifests/{name}")["header"]["config"]) == (
        config if name != "flux_t2i_mmdit" else MMDiTConfig(guidance_embed=True, cond_embed=False)
    )
    with torch.device("meta"):
        model = MMDiT(config)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert list(shapes.items()) == list(golden_io.manifest(f"v2/{name}").items())


def pieces(case: str, layer: nn.Module) -> tuple[nn.Module, dict[str, Tensor], dict[str, Tensor]]:
    """The filled layer, its arguments and what it should return."""
    about = LAYERS.meta["layers"][case]
    if about["salt"]:
        golden_io.fill(layer, about["salt"])
        assert golden_io.checksum(layer) == about["rule"]["weights_crc32"]
    return layer.eval(), LAYERS.given(f"{case}.in."), LAYERS.given(f"{case}.out.")


def check(case: str, actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for key, value in actual.items():
        golden_io.assert_within(value, expected[key], f"v2/mmdit/layers {case}", OF_A_LAYER)


def rotation_of(given: dict[str, Tensor]) -> Rotation:
    """Our table from the published ones: matrices (B, 1, N, P, 2, 2), or cosines and sines (B, N, 2 P)."""
    if "pe" in given:
        matrices = given["pe"][:, 0]
        return Rotation(torch.complex(matrices[..., 0, 0].contiguous(), matrices[..., 1, 0].contiguous()), None)
    cos, sin = (given.get(old, given.get(new)) for old, new in (("pe0", "cos"), ("pe1", "sin")))
    assert cos is not None and sin is not None
    half = cos.shape[-1] // 2
    return Rotation(torch.complex(cos[..., :half].contiguous(), sin[..., :half].contiguous()), None, halves=True)


def heads_last(x: Tensor) -> Tensor:
    """(B, A, N, K), the published order, to (B, N, A, K) and back."""
    return x.transpose(1, 2)


@pytest.mark.parametrize("case", ["embednd", "liger_embednd"])
def test_rotary_tables(case: str) -> None:
    _, given, expected = pieces(case, nn.Identity())
    config = LAYERS.meta["layers"][case]["config"]
    halves = case == "liger_embednd"
    turns = place_rotation(given["ids"], config["axes_dim"], config["theta"], halves).turns
    if halves:
        check(case, {"cos": turns.real.repeat(1, 1, 2), "sin": turns.imag.repeat(1, 1, 2)}, expected)
    else:
        rows = torch.stack((turns.real, -turns.imag, turns.imag, turns.real), dim=-1)
        check(case, {"y": rows.unflatten(-1, (2, 2))[:, None]}, expected)


@pytest.mark.parametrize("case", ["apply_rope", "liger_rope_apply"])
def test_rotations(case: str) -> None:
    _, given, expected = pieces(case, nn.Identity())
    rotation = rotation_of(given)
    check(case, {key: heads_last(rotate(heads_last(given[key]), rotation)) for key in ("q", "k")}, expected)


@pytest.mark.parametrize("case", ["attention_plain", "attention_liger"])
def test_attention(case: str) -> None:
    _, given, expected = pieces(case, nn.Identity())
    q, k, v = (heads_last(given[key]) for key in "qkv")
    check(case, {"y": sequence_attention(q, k, v, rotation_of(given)).flatten(2)}, expected)


@pytest.mark.parametrize("case", ["rearrange_tensor", "reverse_rearrange_tensor"])
def test_layouts(case: str) -> None:
    _, given, expected = pieces(case, nn.Identity())
    check(case, {"y": (to_halves if case == "rearrange_tensor" else to_neighbours)(given["q"])}, expected)


@pytest.mark.parametrize("dim", [256, 33])
def test_time_sinusoid(dim: int) -> None:
    case = f"timestep_embedding_{dim}"
    _, given, expected = pieces(case, nn.Identity())
    check(case, {"y": time_sinusoid(given["t"], dim)}, expected)


def test_times_in_bfloat16_are_not_rounded_again() -> None:
    """Uncompiled public code rounds 1000 t to bfloat16, compiled code does not, and neither do we."""
    t = LAYERS.tensors["timestep_embedding_bf16.in.t"]
    assert torch.equal(time_sinusoid(t), time_sinusoid(t.float()))
    eager = LAYERS.tensors["timestep_embedding_bf16.out.eager"]
    rounded = time_sinusoid((1000 * t).float() / 1000)
    assert (rounded - eager.float()).abs().max() < 0.01
    assert (time_sinusoid(t) - eager.float()).abs().max() > 1


@pytest.mark.parametrize(
    ("case", "layer"),
    [
        ("mlp_embedder", MLPEmbedder(20, 48)),
        ("rmsnorm", HeadNorm(24)),
        ("fused_rmsnorm", HeadNorm(24)),
        ("last_layer", LastLayer(48, 16)),
    ],
)
@torch.no_grad()
def test_layers(case: str, layer: nn.Module) -> None:
    layer, given, expected = pieces(case, layer)
    check(case, {"y": layer(**given)}, expected)


@torch.no_grad()
def test_norms_of_queries_and_keys() -> None:
    layer, given, expected = pieces("qknorm", QKNorm(24))
    q, k = layer(given["q"], given["k"])
    assert given["v"].shape == given["q"].shape  # the published layer is told the dtype of the values
    check("qknorm", {"q": q, "k": k}, expected)


@pytest.mark.parametrize("case", ["modulation_double", "modulation_single"])
@torch.no_grad()
def test_modulation(case: str) -> None:
    layer, given, expected = pieces(case, Modulation(48, double=case == "modulation_double"))
    names = ("shift1", "scale1", "gate1", "shift2", "scale2", "gate2")
    check(case, dict(zip(names, layer(given["vec"]), strict=False)), expected)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_stream_attention(fused: bool, bias: bool) -> None:
    case = f"self_attention_fused{fused:d}_bias{bias:d}"
    layer, given, expected = pieces(case, StreamAttention(48, 2, bias, fused))
    attended = sequence_attention(*layer.heads(given["x"]), rotation_of(given))
    check(case, {"y": layer.proj(attended.flatten(2))}, expected)


@pytest.mark.parametrize("layout", ["plain", "liger"])
@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_blocks(fused: bool, layout: str) -> None:
    config = MMDiTConfig(hidden_size=48, num_heads=2, axes_dim=(4, 8, 12), fused_qkv=fused)
    case = f"double_fused{fused:d}_{layout}"
    block, given, expected = pieces(case, DoubleStreamBlock(config))
    img, txt = block(given["img"], given["txt"], given["vec"], rotation_of(given))
    check(case, {"img": img, "txt": txt}, expected)
    case = f"single_fused{fused:d}_{layout}"
    block, given, expected = pieces(case, SingleStreamBlock(config))
    check(case, {"y": block(given["x"], given["vec"], rotation_of(given))}, expected)
