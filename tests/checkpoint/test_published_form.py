"""From a hub id to a loaded network: the forms a repository may have, and a checkpoint of another network."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hub_server import Hub, serve
from safetensors.torch import save

from opensora.checkpoint.safetensors_io import CheckpointError
from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config

ID = "someone/OpenSora-STDiT-tiny"
SMALL = STDiT3Config(hidden_size=48, depth=1, num_heads=2, caption_channels=8, model_max_length=4)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = STDiT3(SMALL).state_dict()
    return {name: value if name == "rope.freqs" else torch.randn_like(value) for name, value in state.items()}


def config() -> bytes:
    return json.dumps({**asdict(SMALL), "model_type": "STDiT3", "transformers_version": "4.36.2"}).encode()


@pytest.mark.parametrize("form", ["single", "sharded"])
def test_a_repository_of_either_form_loads_by_its_id(hub: Hub, form: str) -> None:
    state = tensors()
    if form == "single":
        hub.add(ID, {"config.json": config(), "model.safetensors": save(state, {"format": "pt"})})
    else:
        halves = {f"model-0000{i + 1}-of-00002.safetensors": sorted(state)[i::2] for i in range(2)}
        files = {file: save({name: state[name] for name in names}) for file, names in halves.items()}
        weight_map = {name: file for file, names in halves.items() for name in names}
        index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
        hub.add(ID, {**files, "config.json": config(), "model.safetensors.index.json": json.dumps(index).encode()})
    model = STDiT3.from_pretrained(ID)
    assert model.config == SMALL
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_of_another_network_is_refused_with_its_keys(hub: Hub) -> None:
    state = tensors()
    gone, wider = sorted(name for name in state if name.endswith("attn.proj.weight"))[:2]
    state["head.weight"] = state.pop(gone)
    state[wider] = torch.zeros(3, 5)
    hub.add(ID, {"config.json": config(), "model.safetensors": save(state)})
    with pytest.raises(CheckpointError) as caught:
        STDiT3.from_pretrained(ID)
    for part in (f"1 missing: {gone}", "1 unexpected: head.weight", f"1 of another shape: {wider} is [3, 5]"):
        assert part in str(caught.value)
