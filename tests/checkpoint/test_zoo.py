"""The table of presets: which weights a request needs, whether they are here, and how to get them."""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import Hub, serve
from safetensors.torch import save

from opensora.checkpoint import layout, locate
from opensora.checkpoint.hub import DownloadProgress
from opensora.checkpoint.identity import IdentityError
from opensora.checkpoint.locate import is_hub_id
from opensora.models import presets, zoo
from opensora.models.stdit.stdit3 import STDiT3Config
from opensora.models.vae_v13.config import VAEv13Config
from opensora.models.zoo import MODES, PRESETS, PresetError, WeightsMissingError, find, status
from opensora.pipelines.bundle import ROLES

MANIFESTS = Path(__file__).parents[1] / "golden" / "v1x" / "manifests"
PUBLISHED = {
    "opensora-1.3-t2v-360p": "hpcai-tech/OpenSora-STDiT-v4-360p",
    "opensora-1.3-t2v-720p": "hpcai-tech/OpenSora-STDiT-v4",
    "opensora-1.3-i2v": "hpcai-tech/OpenSora-STDiT-v4-i2v",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty cache, and a hub with the repositories of one published preset in miniature."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        tensors = save({"w": torch.zeros(600)})
        running.add(PUBLISHED["opensora-1.3-t2v-720p"], {"config.json": b"{}", "model.safetensors": tensors})
        running.add("hpcai-tech/OpenSora-VAE-v1.3", {"model.safetensors": tensors})
        text = {"config.json": b"{}", "spiece.model": b"pieces", "pytorch_model.bin": bytes(5000)}
        running.add("DeepFloyd/t5-v1_1-xxl", text)
        monkeypatch.setenv(layout.ALLOW_PICKLE, "1")
        yield running


def test_the_published_ids_and_sizes() -> None:
    for name, stdit in PUBLISHED.items():
        preset = PRESETS[name]
        sources = {component.role: component.source for component in preset.components}
        assert sources == {"stdit": stdit, "vae": "hpcai-tech/OpenSora-VAE-v1.3", "text": "DeepFloyd/t5-v1_1-xxl"}
        assert preset.bytes == 4 * (1_209_188_492 + 259_163_811 + 4_762_310_656) and not preset.bundled
        assert preset.family == "1.3" and preset.peak_gpu_bytes
    assert {name: preset.modes for name, preset in PRESETS.items() if name in PUBLISHED} == {
        "opensora-1.3-t2v-360p": ("t2v", "t2i"),
        "opensora-1.3-t2v-720p": ("t2v", "t2i"),
        "opensora-1.3-i2v": ("i2v",),
    }


@pytest.mark.parametrize(
    ("role", "manifest"), [("stdit", "stdit3_v13_xl2_t2v"), ("vae", "vae_v13"), ("text", "t5_v1_1_xxl_encoder")]
)
def test_sizes_are_the_parameter_counts_of_the_published_networks(role: str, manifest: str) -> None:
    tensors = json.loads((MANIFESTS / f"{manifest}.json").read_text())["tensors"]
    tensors.pop("encoder.embed_tokens.weight", None)  # tied to shared.weight, stored once
    count = sum(math.prod(shape) for shape in tensors.values())
    for name in PUBLISHED:
        assert [c.parameters for c in PRESETS[name].components if c.role == role] == [count]


@pytest.mark.parametrize(("role", "config"), [("stdit", STDiT3Config()), ("vae", VAEv13Config())])
def test_the_published_configuration_is_what_the_constructors_default_to(role: str, config: object) -> None:
    for name in PUBLISHED:
        component = next(component for component in PRESETS[name].components if component.role == role)
        assert component.config and {key: getattr(config, key) for key in component.config} == component.config


def test_the_table_is_consistent() -> None:
    for name, preset in presets.PRESETS.items():
        assert name == preset.name and preset.title and preset.resolutions
        assert set(preset.modes) <= set(MODES)
        for component in preset.components:
            assert component.bundled != is_hub_id(component.source)
            assert component.bundled == (component.bytes == 0)
        optional = ("reranker",) if name == "tiny" else ()
        assert tuple(component.role for component in preset.components) == (*ROLES[preset.family], *optional)
        assert hash(preset) == hash(dataclasses.replace(preset))
    tiny = PRESETS["tiny"]
    assert tiny.bundled and tiny.modes == MODES and tiny.resolutions == ("144p",) and tiny.peak_gpu_bytes is None
    folders = [f"assets/tiny/{part}" for part in ("stdit", "vae", "t5", "reranker")]
    assert [c.source for c in tiny.components] == folders


@pytest.mark.parametrize(
    ("mode", "resolution", "name"),
    [
        ("t2v", "144p", "tiny"),
        ("i2v", "144p", "tiny"),
        ("t2v", None, "tiny"),
        ("t2v", "360p", "opensora-1.3-t2v-360p"),
        ("t2i", "720p", "opensora-1.3-t2v-720p"),
        ("i2v", "360p", "opensora-1.3-i2v"),
        ("i2v", "720p", "opensora-1.3-i2v"),
    ],
)
def test_mode_and_resolution_choose_the_weights(mode: str, resolution: str | None, name: str) -> None:
    assert find(None, mode, resolution).name == name == find(name, mode, resolution).name


def test_other_weights_are_named_with_their_size_and_command(hub: Hub) -> None:
    with pytest.raises(PresetError) as caught:
        find("tiny", "t2v", "720p")
    assert str(caught.value) == (
        "Tiny 144p (tiny) does t2v, i2v, t2i at 144p, not t2v at 720p. t2v at 720p needs the weights "
        "opensora-1.3-t2v-720p. Get them with `python -m opensora models --download opensora-1.3-t2v-720p` "
        "(about 24.9 GB)."
    )
    with pytest.raises(PresetError, match=r"i2v at 360p needs the weights opensora-1\.3-i2v\. Get them"):
        find("opensora-1.3-t2v-360p", "i2v")
    with pytest.raises(PresetError, match=r"i2v at 480p needs the weights opensora-1\.2"):
        find("opensora-1.3-i2v", "i2v", "480p")
    with pytest.raises(PresetError, match=r"No weights do; for i2v there are 144p, (128px, )?360p, 720p, 240p"):
        find("opensora-1.3-i2v", "i2v", "4k")


def test_names_that_are_wrong_list_the_right_ones() -> None:
    with pytest.raises(PresetError, match=r"'tinny', expected one of tiny, .*opensora-1\.3.* mean 'tiny'\?"):
        find("tinny")
    with pytest.raises(PresetError, match="'t3v', expected one of t2v, i2v, t2i"):
        find(None, "t3v")
    with pytest.raises(PresetError, match=r"'8k', expected one of 144p, (128px, )?360p, 720p, 240p, .*768px for t2v"):
        find(None, "t2v", "8k")


def test_other_generations_are_found_by_name_or_by_what_only_they_do() -> None:
    assert find("flux.1-dev", "t2i", "256px").family == "flux"
    assert find("opensora-1.2").family == "1.2" and find("opensora-2.0").family == "2.0"
    assert find(None, "t2v", "480p").name == "opensora-1.2" and find(None, "i2v", "768px").name == "opensora-2.0"
    for mode, resolution in itertools.product(("t2v", "i2v"), ("144p", "360p", "720p")):
        assert find(None, mode, resolution).family == "1.3"


def test_weights_are_missing_until_they_are_fetched(hub: Hub) -> None:
    preset = find("opensora-1.3-t2v-720p", "t2v", "720p")
    before = status(preset)
    assert not before.installed and before.bytes_to_download == preset.bytes and len(before.missing) == 3
    with pytest.raises(WeightsMissingError, match=r"models --download opensora-1\.3-t2v-720p` \(about 24\.9 GB\)"):
        zoo.weights(preset)
    assert hub.requests == []

    seen: list[DownloadProgress] = []
    fetched = zoo.fetch(preset, on_progress=seen.append)
    assert {progress.source for progress in seen} == {component.source for component in preset.components}
    assert (fetched.stdit / "model.safetensors").is_file() and (fetched.text / "pytorch_model.bin").is_file()
    after = status(preset)
    assert after.installed and after.missing == () and after.bytes_to_download == 0
    with pytest.raises(
        PresetError, match=r"needs the weights opensora-1\.3-t2v-720p, which are here: choose that model"
    ):
        find("tiny", "t2v", "720p")
    assert zoo.weights(preset) == fetched and zoo.how_to_get(preset) == "opensora-1.3-t2v-720p is here."

    other = status(PRESETS["opensora-1.3-i2v"])
    assert other.missing == ("hpcai-tech/OpenSora-STDiT-v4-i2v",), "what presets share is downloaded once"
    assert other.bytes_to_download == 4 * 1_209_188_492


def test_a_preset_partly_here_says_what_is_left(hub: Hub) -> None:
    locate.resolve("DeepFloyd/t5-v1_1-xxl", layout=layout.T5)
    preset = PRESETS["opensora-1.3-t2v-720p"]
    assert status(preset).bytes_to_download == 4 * (1_209_188_492 + 259_163_811)
    with pytest.raises(WeightsMissingError, match=r"about 5\.9 GB"):
        zoo.weights(preset)


def test_weights_in_the_wrong_place_are_refused(hub: Hub) -> None:
    vae = save({"w": torch.zeros(600)}, {"role": "vae", "family": "1.3"})
    hub.add(PUBLISHED["opensora-1.3-t2v-720p"], {"model.safetensors": vae})
    with pytest.raises(IdentityError, match=r"OpenSora-STDiT-v4 is a checkpoint of the role vae; stdit is needed"):
        zoo.fetch(PRESETS["opensora-1.3-t2v-720p"])


def test_a_clone_without_its_assets_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (locate, zoo):
        monkeypatch.setattr(module, "assets_folder", lambda: tmp_path)
    tiny = PRESETS["tiny"]
    assert status(tiny).missing == tuple(f"assets/tiny/{part}" for part in ("stdit", "vae", "t5", "reranker"))
    assert status(tiny).bytes_to_download == 0
    with pytest.raises(
        WeightsMissingError, match=r"come with a clone of the repository; missing .*: assets/tiny/stdit"
    ):
        zoo.weights(tiny)
