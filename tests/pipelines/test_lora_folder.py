"""LoRAs that are chosen by name from the server's folder."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from pipelines import bundles, bundles_v2
from pipelines.lora_files import tensors, write_lora
from pipelines.test_lora import LAYERS
from safetensors.torch import save_file

from opensora.models.mmdit.mmdit import MMDiT
from opensora.models.stdit.stdit3 import STDiT3
from opensora.pipelines import lora_folder
from opensora.pipelines.errors import RequestError
from opensora.pipelines.loras import load, record
from opensora.pipelines.request import GenerationRequest
from opensora.server import fields
from opensora.ui import choices, restore
from opensora.ui import fields as page


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two LoRAs, and what is none: a hidden file, a pickle, a damaged file, a folder of something else."""
    here = tmp_path / "loras"
    write_lora(here / "brush", MMDiT(bundles_v2.MMDIT), LAYERS["2.0"])
    save_file(tensors(STDiT3(bundles.STDIT), LAYERS["1.3"], 0), here / "ink.safetensors")
    for name in (".hidden.safetensors", "old.bin", "broken.safetensors"):
        (here / name).write_bytes(b"nothing")
    (here / "photos").mkdir()
    (tmp_path / "secret.safetensors").write_bytes((here / "ink.safetensors").read_bytes())
    monkeypatch.setenv(lora_folder.VARIABLE, str(here))
    return here


def test_the_loras_of_the_folder_are_listed_with_what_they_are_for(folder: Path) -> None:
    found = {lora.name: lora.network for lora in lora_folder.listed()}
    assert found == {
        "brush": "MMDiT (2.0 or FLUX.1)",
        "broken.safetensors": None,
        "ink.safetensors": "STDiT3 (1.2 or 1.3)",
    }
    assert choices.loras("tiny") == [("ink", "ink.safetensors")]
    assert choices.loras("opensora-2.0") == choices.loras("flux.1-dev") == [("brush", "brush")]


def test_a_name_becomes_its_file_and_nothing_else_does(folder: Path) -> None:
    asked = fields.parse({"prompt": "x", "loras": [{"name": "ink.safetensors", "strength": 0.5}, "brush"]})
    assert asked.loras == ((folder / "ink.safetensors", 0.5), (folder / "brush", 1.0))
    assert lora_folder.told_of(asked.loras)[0] == {"name": "ink.safetensors", "strength": 0.5}
    for name in ("../secret.safetensors", str(folder / "brush"), "photos", ".hidden.safetensors", "old.bin", "", "ink"):
        with pytest.raises(
            RequestError, match=r"no LoRA .* here; choose some of broken\.safetensors, brush, ink"
        ) as told:
            fields.parse({"prompt": "x", "loras": [name]})
        assert told.value.field == "loras" and str(folder) not in str(told.value).replace(name or "-", "")


@pytest.mark.parametrize(
    "entry", [7, None, ["brush", 1], {"strength": 1}, {"name": "brush", "path": "/x"}, {"name": 1}]
)
def test_what_is_no_name_is_a_sentence(folder: Path, entry: Any) -> None:
    with pytest.raises(RequestError, match="expected a name"):
        lora_folder.chosen([entry])
    with pytest.raises(RequestError, match="expected a list of names"):
        lora_folder.chosen("brush")


def test_a_bad_strength_is_a_sentence_of_the_request(folder: Path) -> None:
    for strength in (11, float("nan"), "much", True):
        with pytest.raises(RequestError, match="Got the strength"):
            fields.parse({"prompt": "x", "loras": [{"name": "ink.safetensors", "strength": strength}]}).validated()


def test_without_a_folder_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lora_folder.VARIABLE, raising=False)
    assert lora_folder.listed() == [] and lora_folder.chosen([]) == ()
    with pytest.raises(RequestError, match="--lora-dir"):
        lora_folder.chosen(["ink.safetensors"])
    monkeypatch.setenv(lora_folder.VARIABLE, "/nowhere/at/all")
    assert lora_folder.listed() == []


def test_the_page_takes_names_and_strengths_and_gives_them_back(folder: Path) -> None:
    typed = {"prompt": "x", "loras": ["ink.safetensors"], "lora_strengths": " 0.5 ", "text_dtype": "bf16"}
    asked = page.request_of([{**page.starting("tiny"), **typed}.get(name) for name in page.FIELDS])
    assert asked.loras == ((folder / "ink.safetensors", 0.5),) and asked.text_dtype == "bf16"
    back = page.values_of(asked)
    assert (back["loras"], back["lora_strengths"], back["text_dtype"]) == (["ink.safetensors"], "0.5", "bf16")
    plain = {"model": "tiny", "loras": ["ink.safetensors"], "text_dtype": "bf16"}
    assert restore.checked(plain)["loras"] == ["ink.safetensors"]
    with pytest.raises(ValueError, match="damaged"):
        restore.checked({"model": "tiny", "loras": [{"name": "ink.safetensors"}]})
    for text, words in (("1, 1", "2 strengths for 1"), ("strong", "expected numbers")):
        with pytest.raises(RequestError, match=words):
            lora_folder.with_strengths(["brush"], text)
    assert [x["strength"] for x in lora_folder.with_strengths(["a", "b", "c"], "0.2;-1")] == [0.2, -1, 1]


def test_a_finished_clip_finds_its_loras_again_by_hash(folder: Path, tmp_path: Path) -> None:
    bundle = bundles_v2.write_bundle(tmp_path / "v2")
    used = ((folder / "brush", 0.8),)
    request = GenerationRequest("x", model=bundle, loras=used)
    told = record(load(request.loras, request.bundle()))["loras"]
    weights = folder / "brush" / "adapter_model.safetensors"
    assert told == [{"name": "brush", "strength": 0.8, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}]
    assert lora_folder.recorded(told) == used
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    for entries in (told, None, [7], [{"name": "../secret.safetensors", "strength": 1, "sha256": ""}]):
        assert lora_folder.recorded(entries) is None
