"""STDiT3 against the numbers of the published networks."""

import math

import golden_io
import pytest
import torch
from torch import Tensor

from opensora.models.stdit.blocks import STDiT3Block, TextContext
from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config
from opensora.nn.attention import Ragged
from opensora.nn.rope import RotaryEmbedding

FIXTURES = golden_io.names("stdit3_v13_*")
LAYERS = golden_io.load("layers_v13")
BLOCKS = sorted(case for case in LAYERS.meta["cases"] if case.startswith("block_"))
FULL_SIZE = ("stdit3_v13_xl2_t2v", "stdit3_v13_xl2_i2v")


def network(fixture: golden_io.Fixture, **overrides: object) -> STDiT3:
    model = STDiT3(STDiT3Config(**{**fixture.meta["config"], **overrides}))
    golden_io.fill(model, fixture.meta["salt"])
    return model.eval()


def test_all_fixtures_are_here() -> None:
    assert len(FIXTURES) == 20
    assert len(BLOCKS) == 6


@pytest.mark.parametrize("name", FIXTURES)
def test_network(name: str) -> None:
    fixture = golden_io.load(name)
    model = network(fixture)
    torch.testing.assert_close(model.rope.freqs, torch.tensor(fixture.meta["rope_freqs"]), rtol=1e-6, atol=0)
    assert sum(p.numel() for p in model.parameters()) + model.rope.freqs.numel() == fixture.meta["n_params"]
    with torch.inference_mode():
        golden_io.assert_close(model(**fixture.inputs()), fixture.tensors["out"], name)


@pytest.mark.parametrize("compat", ["right", "published"])
@pytest.mark.parametrize("name", ["stdit3_v13_a_t2v_pad", "stdit3_v13_h_real_heads", "stdit3_v13_i2v_a_head"])
def test_bfloat16_is_as_exact_as_the_published_code(name: str, compat: str) -> None:
    fixture = golden_io.load(name)
    model = network(fixture, compat=compat).bfloat16()
    with torch.inference_mode():
        out = model(**fixture.inputs())
    assert out.dtype is torch.float32
    published = fixture.meta["bf16_vs_f64"]["out"]["rel_fro"]
    assert golden_io.compare(out, fixture.tensors["out"]).rel_fro < 1.1 * published


def texts(packed: Tensor, lengths: list[int]) -> Ragged:
    tokens = torch.zeros(len(lengths), max(lengths), packed.shape[2])
    for row, text in zip(tokens, packed[0].split(lengths), strict=True):
        row[: len(text)] = text
    return Ragged(tokens, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None])


def frames(given: list[int], count: int) -> tuple[Tensor, Tensor, Tensor]:
    rest = [i for i in range(count) if i not in given]
    order = [(rest + given).index(i) for i in range(count)]
    return torch.tensor(rest), torch.tensor(given), torch.tensor(order)


@pytest.mark.parametrize("case", BLOCKS)
def test_block(case: str) -> None:
    ctor, call = LAYERS.meta["cases"][case]["ctor"], LAYERS.inputs(case)
    block = STDiT3Block(ctor["hidden_size"], ctor["num_heads"], qk_norm=ctor["qk_norm"])
    golden_io.fill(block, LAYERS.meta["cases"][case]["salt"])
    grid = (call["T"], call["H"], call["W"])
    h, w, _ = ctor["kernel_size"] or (call["H"], call["W"], 1)
    window = (call["T"] if ctor["temporal"] else 1, h, w)
    rotation = RotaryEmbedding(24, axial=True)(grid, window, call["scale"]) if ctor["rope"] else None
    t = call["t"].unflatten(1, (1, 6, -1))
    if "x_mask" in call:
        t = torch.where(call["x_mask"][..., None, None], t, call["t0"].unflatten(1, (1, 6, -1)))
    text = TextContext(texts(call["y"], call["mask"]))
    if "mask_index" in call:
        given = frames(call["mask_index"], call["T"])
        text = TextContext(text.prompt, texts(call["y_null"], call["mask"]), given)
    x = call["x"].unflatten(1, (call["T"], call["S"]))
    out = block(x, t, text, grid, window, rotation).flatten(1, 2)
    golden_io.assert_close(out, LAYERS.tensors[f"{case}/out"], f"layers_v13 {case}")


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_tensors(name: str) -> None:
    with torch.device("meta"):
        model = STDiT3(STDiT3Config())
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert shapes == golden_io.manifest(name)
    assert sum(math.prod(shape) for shape in shapes.values()) == 1_209_188_492


@pytest.mark.parametrize("name", FULL_SIZE)
def test_published_configuration_is_read(name: str) -> None:
    published = golden_io.load_json(f"manifests/{name}")["header"]["full_config"]
    config = STDiT3Config.from_dict(published)
    assert config == STDiT3Config(class_dropout_prob=published["class_dropout_prob"])
