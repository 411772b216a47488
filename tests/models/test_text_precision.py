"""Text encoders in fewer bits: errors of the features with the real bitsandbytes, and what is said without it."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from models import text_encoders
from safetensors.torch import load_file
from torch import Tensor

from opensora.checkpoint.locate import assets_folder
from opensora.checkpoint.safetensors_io import CheckpointError
from opensora.models.text import precision
from opensora.models.text.conditioner import HFEmbedder
from opensora.models.text.precision import TextSettings, check_precision, loading_settings
from opensora.models.text.t5 import T5Encoder

BUNDLED = assets_folder() / "tiny" / "t5"
PROMPTS = [
    "A red ball rolls to the right over a grey floor.",
    "two blue boxes bounce in the rain",
    "the camera pans left over a green triangle at night",
    "빨간 공이 왼쪽으로 굴러간다",
    "",
]
MEASURED = {"fp32": 0.0, "bf16": 0.0121, "int8": 0.0406, "nf4": 0.1463}
"""Relative Frobenius error of the bundled encoder's features on the prompts' own tokens."""
BYTES = {"fp32": 5_971_712, "bf16": 2_985_856, "int8": 1_953_664, "nf4": 1_437_568}

needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed; `make test-colossalai` runs this."
)


def needing(names: tuple[str, ...]) -> list[object]:
    """The names, those of quantised precisions marked."""
    return [pytest.param(n, marks=needs_bitsandbytes) if n in precision.QUANTISED else n for n in names]


def features(settings: TextSettings) -> tuple[Tensor, HFEmbedder]:
    """Features (tokens, E) of the prompts' own tokens, and the embedder."""
    t5 = T5Encoder.from_pretrained(BUNDLED, 64, settings)
    encoded = t5.encode(PROMPTS)
    return encoded["y"][:, 0][encoded["mask"].bool()].float(), t5.t5.embedder


@pytest.mark.parametrize("name", needing(tuple(precision.PRECISIONS)))
def test_the_error_and_the_memory_of_a_precision_are_those_that_are_documented(name: str) -> None:
    expected, _ = features(TextSettings())
    actual, embedder = features(TextSettings(name))
    error = float((actual - expected).norm() / expected.norm())
    assert error == pytest.approx(MEASURED[name], rel=0.25)
    assert sum(parameter.nbytes for parameter in embedder.hf_module.parameters()) == BYTES[name]
    assert embedder.hf_module.dtype == precision.PRECISIONS[name]
    assert not any(parameter.requires_grad for parameter in embedder.parameters())


@pytest.mark.parametrize("name", needing(precision.QUANTISED))
def test_wo_embeddings_and_norms_are_not_quantised(name: str) -> None:
    network = HFEmbedder(BUNDLED, 16, **loading_settings(name)).hf_module
    plain = {path.rpartition(".weight")[0] for path, p in network.named_parameters() if p.dtype == torch.bfloat16}
    quantised = {path.rpartition(".weight")[0] for path, p in network.named_parameters()} - plain
    assert {path.split(".")[-1] for path in quantised} == {"q", "k", "v", "o", "wi_0", "wi_1"}
    assert {path.split(".")[-1] for path in plain} == {
        "shared",
        "relative_attention_bias",
        "layer_norm",
        "wo",
        "final_layer_norm",
    }


@pytest.mark.parametrize("name", needing(precision.QUANTISED))
def test_clip_can_be_quantised_too(name: str, tmp_path: Path) -> None:
    short = ["a red ball", "snow"]
    folder = text_encoders.write_clip(tmp_path, hidden_size=64, intermediate_size=64)
    expected = HFEmbedder(folder, 12)(short)
    actual = HFEmbedder(folder, 12, **loading_settings(name))(short).float()
    assert 0 < float((actual - expected).norm() / expected.norm()) < 0.2


@needs_bitsandbytes
@pytest.mark.parametrize("name", precision.QUANTISED)
def test_files_are_read_as_strictly_as_ever(name: str, tmp_path: Path) -> None:
    key = "encoder.block.0.layer.0.SelfAttention.q.weight"
    state = load_file(BUNDLED / "model.safetensors")
    for change, said in (({key: None}, "missing"), ({key: state[key].to(torch.int8)}, "quantised")):
        folder = shutil.copytree(BUNDLED, tmp_path / said)
        changed = {k: v for k, v in (state | change).items() if v is not None}
        text_encoders.write_weights(folder, changed)
        with pytest.raises(CheckpointError, match=said):
            HFEmbedder(folder, 16, **loading_settings(name))


@pytest.mark.parametrize("name", precision.QUANTISED)
def test_without_bitsandbytes_there_is_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "find_spec", lambda package: None)
    said = rf"The text precision {name} needs bitsandbytes.*`pip install bitsandbytes`"
    with pytest.raises(ValueError, match=said):
        check_precision(name, "cpu")
    with pytest.raises(ValueError, match=said):
        T5Encoder.from_pretrained(BUNDLED, 8, TextSettings(name))


def test_devices_and_names_that_do_not_exist_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "find_spec", lambda package: object())
    check_precision("nf4", "cuda:1")
    check_precision("bf16", torch.device("mps"))
    with pytest.raises(ValueError, match="runs on cpu and cuda; choose bf16 for mps"):
        check_precision("nf4", torch.device("mps"))
    with pytest.raises(ValueError, match="Got the text precision 'fp16'; choose one of fp32, bf16, int8, nf4"):
        loading_settings("fp16")
