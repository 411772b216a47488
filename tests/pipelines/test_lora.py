"""LoRA on random networks: what it changes, that nothing is left of it afterwards, and every broken file."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipelines import bundles, bundles_v2
from pipelines.lora_files import tensors, write_lora
from safetensors.torch import save_file
from torch import nn

from opensora import generate_video
from opensora.checkpoint.lora import LoraError, open_lora
from opensora.checkpoint.lora_weights import load_lora, wearing
from opensora.models.mmdit.mmdit import MMDiT
from opensora.models.stdit.stdit3 import STDiT3
from opensora.pipelines import loras, video
from opensora.pipelines.build import build_models, release_models
from opensora.pipelines.preflight import estimate
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import GenerationResult

LAYERS = {
    "1.3": ["x_embedder.proj", "spatial_blocks.0.attn.qkv", "temporal_blocks.1.mlp.fc2", "y_embedder.y_proj.fc1"],
    "2.0": ["img_in", "double_blocks.0.img_attn.q_proj", "single_blocks.0.linear2"],
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "1.3": lambda: STDiT3(bundles.STDIT),
    "2.0": lambda: MMDiT(bundles_v2.MMDIT),
}
LENGTH = {"1.3": "2f", "2.0": "1f"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Bundles by generation."""
    root = tmp_path_factory.mktemp("lora")
    yield {"1.3": bundles.write_bundle(root / "v1"), "2.0": bundles_v2.write_bundle(root / "v2")}
    release_models()


def lora(folder: Path, family: str, seed: int = 0, **config: Any) -> Path:
    return write_lora(folder, NETWORKS[family](), LAYERS[family], seed, **config)


def make(folder: Path, family: str, *named: tuple[Path, float], **settings: Any) -> GenerationResult:
    settings = {"steps": 2, "seed": 3, "length": LENGTH[family], "dtype": "fp32", **settings}
    return generate_video("a red ball", model=folder, loras=named, **settings)


@pytest.mark.parametrize("family", ["1.3", "2.0"])
def test_it_changes_the_clip_and_is_gone_from_the_next(folders: dict[str, Path], tmp_path: Path, family: str) -> None:
    file = lora(tmp_path / "style", family)
    plain = make(folders[family], family)
    changed = make(folders[family], family, (file, 1.0))
    again = make(folders[family], family)
    assert not np.array_equal(plain.frames, changed.frames)
    assert np.array_equal(plain.frames, again.frames)
    assert np.array_equal(plain.frames, make(folders[family], family, (file, 0.0)).frames)
    assert not np.array_equal(changed.frames, make(folders[family], family, (file, 0.5)).frames)
    (told,) = changed.settings["loras"]
    assert (told["name"], told["strength"], changed.plan["weights"]["lora 1"]) == ("style", 1.0, told["sha256"])
    assert len(told["sha256"]) == 64 and str(tmp_path) not in str(changed.metadata(3))
    assert "loras" not in again.settings and "lora 1" not in again.plan["weights"]


@pytest.mark.parametrize("family", ["1.3", "2.0"])
def test_two_add_up_in_any_order(folders: dict[str, Path], tmp_path: Path, family: str) -> None:
    one, two = (lora(tmp_path / str(seed), family, seed) for seed in (1, 2))
    both = make(folders[family], family, (one, 0.7), (two, 0.4))
    assert np.array_equal(both.frames, make(folders[family], family, (two, 0.4), (one, 0.7)).frames)
    assert not np.array_equal(both.frames, make(folders[family], family, (one, 0.7)).frames)
    assert not np.array_equal(both.frames, make(folders[family], family, (one, 0.4), (two, 0.7)).frames)
    assert [entry["strength"] for entry in both.settings["loras"]] == [0.7, 0.4]


@pytest.mark.parametrize("family", ["1.3", "2.0"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_merged_and_come_back_bit_by_bit(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    network = NETWORKS[family]()
    bundles.fill(network, 0, 1.0)
    network.to(dtype)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    places = {name: parameter.data_ptr() for name, parameter in network.named_parameters()}
    read = [load_lora(open_lora(lora(tmp_path / str(seed), family, seed)), 0.5) for seed in (1, 2)]
    with wearing(network, read):
        for name, tensor in network.state_dict().items():
            if name.removesuffix(".weight") not in LAYERS[family]:
                assert torch.equal(tensor, before[name])
                continue
            terms = [
                0.5 * 2 * pair["B"].flatten(1) @ pair["A"].flatten(1)
                for file in read
                for pair in [dict(zip("AB", file.tensors[name.removesuffix(".weight")], strict=True))]
            ]
            wanted = (before[name].float() + sum(terms).view(tensor.shape)).to(dtype)
            torch.testing.assert_close(tensor, wanted)
            assert not torch.equal(tensor, before[name])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert {name: parameter.data_ptr() for name, parameter in network.named_parameters()} == places


def test_weights_come_back_whatever_ends_the_clip(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make(folders["2.0"], "2.0")
    with monkeypatch.context() as patch:
        patch.setattr(video, "_compute", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make(folders["2.0"], "2.0", (lora(tmp_path / "a", "2.0"), 1.0))
    assert np.array_equal(plain.frames, make(folders["2.0"], "2.0").frames)


def test_the_networks_that_are_kept_are_loaded_once(folders: dict[str, Path], tmp_path: Path) -> None:
    kept = build_models("t2v", "256px", True, model=folders["2.0"], dtype="fp32").stdit
    make(folders["2.0"], "2.0", (lora(tmp_path / "a", "2.0"), 1.0))
    assert build_models("t2v", "256px", True, model=folders["2.0"], dtype="fp32").stdit is kept


@pytest.mark.parametrize(
    ("config", "scale"),
    [({}, 2.0), ({"lora_alpha": 1}, 0.5), ({"use_rslora": True}, 4 / 2**0.5), ({"rank_pattern": {"img_in": 2}}, 2.0)],
    ids=str,
)
def test_the_scale_is_that_of_the_configuration(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    file = open_lora(lora(tmp_path / "a", "2.0", **config))
    assert file.scale("img_in") == pytest.approx(scale)


def test_a_single_file_needs_no_prefix_and_no_configuration(tmp_path: Path) -> None:
    halves = tensors(NETWORKS["2.0"](), LAYERS["2.0"], 0, prefix="")
    save_file(halves, tmp_path / "bare.safetensors")
    save_file(halves, tmp_path / "told.safetensors", {"lora_alpha": "6"})
    bare, told = open_lora(tmp_path / "bare.safetensors"), open_lora(tmp_path / "told.safetensors")
    assert sorted(bare.layers) == sorted(LAYERS["2.0"]) == sorted(told.layers)
    assert (bare.scale("img_in"), told.scale("img_in"), bare.name) == (1.0, 3.0, "bare.safetensors")
    folder = lora(tmp_path / "folder", "2.0")
    assert open_lora(folder / "adapter_model.safetensors").scale("img_in") == 2.0


def test_a_lora_of_another_network_says_which(folders: dict[str, Path], tmp_path: Path) -> None:
    wrong = lora(tmp_path / "wrong", "1.3")
    request = GenerationRequest("a ball", model=folders["2.0"], length="1f", loras=((wrong, 1.0),))
    for refuse in (estimate, video.generate):
        with pytest.raises(RequestError) as caught:
            refuse(request)
        assert caught.value.field == "loras"
        text = str(caught.value)
        assert "does not fit this network, MMDiT (4 layers in the file)" in text
        assert "4 layers that it does not have: spatial_blocks.0.attn.qkv" in text
        assert text.endswith("It seems to be for STDiT3 (1.2 or 1.3).") and str(tmp_path) not in text


def test_a_lora_of_another_size_lists_the_shapes(folders: dict[str, Path], tmp_path: Path) -> None:
    halves = tensors(NETWORKS["2.0"](), ["img_in"], 0)
    halves["base_model.model.img_in.lora_A.weight"] = torch.zeros(2, 17)
    save_file(halves, tmp_path / "wide.safetensors")
    with pytest.raises(RequestError, match=r"img_in is \[24, 17\] in the file, \[24, 16\] in the network") as caught:
        make(folders["2.0"], "2.0", (tmp_path / "wide.safetensors", 1.0))
    assert "1 layers of another shape" in str(caught.value)


def broken(folder: Path, how: str) -> Path:
    """A LoRA in a folder, broken in one of the ways of :data:`BROKEN`."""
    lora(folder, "2.0")
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    halves = tensors(NETWORKS["2.0"](), LAYERS["2.0"], 0)
    settings = json.loads(config.read_text())
    first = "base_model.model.img_in.lora_A.weight"
    match how:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-9])
        case "text":
            weights.write_text("a LoRA")
        case "empty":
            save_file({}, weights)
        case "half":
            halves.pop(first)
        case "stranger":
            halves["base_model.model.img_in.lora_magnitude_vector"] = torch.ones(24)
        case "rank":
            halves[first] = torch.ones(3, 16)
        case "no-rank":
            halves[first] = torch.ones(0, 16)
        case "nan":
            halves[first][0, 0] = float("nan")
        case "whole":
            halves[first] = torch.ones(2, 16, dtype=torch.int8)
        case "no-config":
            config.unlink()
        case "no-json":
            config.write_text("{")
        case "list":
            config.write_text("[]")
        case "alpha":
            settings["lora_alpha"] = "much"
        case "r":
            settings["r"] = 0
        case "kind":
            settings["peft_type"] = "LOHA"
        case "dora":
            settings["use_dora"] = True
        case "bias":
            settings["bias"] = "all"
        case "pickle":
            weights.rename(folder / "adapter_model.bin")
        case "suffix":
            return weights.rename(folder / "adapter.bin")
        case "nowhere":
            return folder / "nowhere.safetensors"
        case "header":
            head = b'{"__metadata__":[],"x":{"dtype":"F32","shape":["2"],"data_offsets":[0,4]}}'
            weights.write_bytes(len(head).to_bytes(8, "little") + head + b"\0" * 4)
    if how in ("half", "stranger", "rank", "no-rank", "nan", "whole"):
        save_file(halves, weights)
    if how in ("alpha", "r", "kind", "dora", "bias"):
        config.write_text(json.dumps(settings))
    return folder


BROKEN = {
    "cut": "it was cut short or changed",
    "text": "is not a safetensors file",
    "empty": "is empty: it changes no layer",
    "half": "1 layers with one half only: img_in\n",
    "stranger": "1 that are no such pair: base_model.model.img_in.lora_magnitude_vector",
    "rank": r"layers with another rank than r = 2: img_in: A \[3, 16\], B \[24, 2\]",
    "no-rank": r"img_in: A \[0, 16\], B \[24, 2\]",
    "nan": "1 tensors with values that are no numbers: base_model.model.img_in.lora_A.weight",
    "whole": "1 tensors of whole numbers",
    "no-config": "adapter_config.json cannot be read: No such file",
    "no-json": "adapter_config.json is not JSON",
    "list": "expected an object of settings",
    "alpha": "has lora_alpha = 'much'; expected a number",
    "r": "has the rank r = 0",
    "kind": "is of the kind 'LOHA'; only LORA",
    "dora": "has magnitudes of DoRA, which cannot be used",
    "bias": "has biases, which cannot be used",
    "pickle": "has adapter_model.bin, a pickle that can run code",
    "suffix": "only such files are loaded",
    "nowhere": "There is no LoRA 'nowhere.safetensors'",
    "header": "is not a safetensors file",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_a_sentence_and_loads_nothing(
    folders: dict[str, Path], tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "build_models", None)
    with pytest.raises(RequestError, match=BROKEN[how]) as caught:
        make(folders["2.0"], "2.0", (broken(tmp_path / "it", how), 1.0))
    assert caught.value.field == "loras" and str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    "named",
    ["file", ("file",), (("file", "1"),), (("file", float("nan")),), (("file", 11),), ((1, 1.0),), (("f", 1.0),) * 9],
    ids=str,
)
def test_what_are_no_pairs_of_files_and_strengths_is_refused(folders: dict[str, Path], named: Any) -> None:
    with pytest.raises(RequestError, match=r"^Got ") as caught:
        GenerationRequest("a ball", model=folders["2.0"], loras=named).validated()
    assert caught.value.field == "loras"


def test_a_file_that_changes_between_its_header_and_its_tensors_is_refused(tmp_path: Path) -> None:
    folder = lora(tmp_path / "a", "2.0")
    file = open_lora(folder)
    save_file(tensors(NETWORKS["2.0"](), ["img_in"], 0), folder / "adapter_model.safetensors")
    with pytest.raises(LoraError, match="changed while it was read"):
        load_lora(file, 1.0)


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("a.safetensors", (Path("a.safetensors"), 1.0)),
        ("folder/a:0.8", (Path("folder/a"), 0.8)),
        ("a:-1", (Path("a"), -1.0)),
        ("C:\\a", (Path("C:\\a"), 1.0)),
        (":2", (Path(":2"), 1.0)),
    ],
)
def test_an_option_is_a_file_and_perhaps_a_strength(option: str, meant: tuple[Path, float]) -> None:
    assert loras.parse(option) == meant
