"""Networks that take turns: which leave the device, when they come, and that the clip stays the same."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipelines import bundles, bundles_v2
from pipelines.lora_files import write_lora
from torch import Tensor, nn

from opensora import generate_video
from opensora.acceleration import offload
from opensora.models.stdit.stdit3 import STDiT3
from opensora.pipelines import residence
from opensora.pipelines.build import build_models, release_models
from opensora.pipelines.cost import Memory
from opensora.pipelines.memory import Room
from opensora.pipelines.preflight import estimate
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import GenerationResult

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
MEMORY = Memory(text=20, denoiser=24, autoencoder=1, sampling=6, decoding=9, clips=2)
PICTURE = np.full((90, 160, 3), (220, 30, 30), np.uint8)
PICTURE[20:60, 40:90] = 255


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield bundles.write_bundle(tmp_path_factory.mktemp("bundles") / "random")
    release_models()


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The processor as if it were a GPU with memory of its own; counts what is copied there."""
    numbers: list[int] = []

    def copied(data: Tensor, device: torch.device) -> Tensor:
        numbers.append(data.numel())
        return data.clone()

    monkeypatch.setattr(offload, "copied", copied)
    for module in (offload, residence):
        monkeypatch.setattr(module, "leaves_memory", lambda device: True)
    release_models()
    yield numbers
    release_models()


def make(folder: Path, **settings: Any) -> GenerationResult:
    asked = {"steps": 1, "length": "5f", "seed": 3, "device": "cpu", "reference_image": PICTURE, **settings}
    return generate_video("a red ball", model=folder, **asked)


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, set[str]]]:
    """Stages in order, with the networks that are brought to the device for them."""
    turns: list[tuple[str, set[str]]] = []
    at_work, on_device = residence.at_work, residence.on_device

    def named(models: Any, stage: str) -> Any:
        turns.append((stage, set()))
        return at_work(models, stage)

    def brought(networks: list[nn.Module], device: torch.device) -> Any:
        turns[-1][1].update(type(network).__name__ for network in networks)
        return on_device(networks, device)

    monkeypatch.setattr("opensora.pipelines.video.at_work", named)
    monkeypatch.setattr(residence, "on_device", brought)
    return turns


@pytest.mark.parametrize("write", [bundles.write_bundle, bundles_v2.write_bundle], ids=["1.3", "2.0"])
def test_every_stage_has_its_networks_and_no_others(
    write: Callable[[Path], Path], tmp_path: Path, pretended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "random")
    expected = make(folder, offload=False)
    assert not pretended and expected.plan["offload"] == "none"
    turns = watch(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))  # texts are read again
    result = make(folder, offload=True)
    assert np.array_equal(result.frames, expected.frames)
    assert result.plan["offload"] == "all" and "offload" not in result.settings and result.notes == expected.notes
    models = build_models("i2v", None, True, model=folder, device="cpu", offload="all")
    texts = {"T5EncoderModel"} if models.config.bundle.card.family == "1.3" else {"T5EncoderModel", "CLIPTextModel"}
    vae, denoiser = {type(models.vae).__name__}, {type(models.stdit).__name__}
    assert turns == [("text", texts), ("reference", vae), ("sampling", denoiser), ("decoding", vae)]
    weights = sum(t.numel() for t in (*models.vae.parameters(), *models.vae.buffers()))
    assert sum(pretended) > 2 * weights
    assert not any(weight.is_inference() for weight in models.stdit.parameters())


def test_the_text_encoder_alone_leaves_where_that_is_enough(
    folder: Path, pretended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = GenerationRequest("a red ball", model=folder, length="5f", device="cpu")
    together = estimate(GenerationRequest("a red ball", model=folder, length="5f", device="cpu", offload=False))
    monkeypatch.setattr(residence, "room", lambda device: Room(10**12, 10**12))
    assert estimate(request).notes == together.notes
    monkeypatch.setattr(residence, "room", lambda device: Room(10**12, 0))
    turns = watch(monkeypatch)
    result = make(folder)
    assert result.plan["offload"] == "all" and "because its memory is short for all" in result.notes[-1]
    assert all(networks for _, networks in turns)
    monkeypatch.setattr(residence, "choose_offload", lambda *_: "text")
    turns.clear()
    result = make(folder)
    assert result.plan["offload"] == "text" and "The text encoders leave the GPU" in result.notes[-1]
    assert [stage for stage, networks in turns if networks] == ["text"]


def test_a_lora_is_worn_by_a_network_that_takes_turns_and_gone_after_it(
    folder: Path, tmp_path: Path, pretended: list[int]
) -> None:
    file = write_lora(tmp_path / "style", STDiT3(bundles.STDIT), ["spatial_blocks.0.mlp.fc1"])
    plain = {"reference_image": None, "length": "1f", "offload": True}
    before, worn, after = (make(folder, **plain, loras=loras).frames for loras in ((), ((file, 1.0),), ()))
    assert np.array_equal(before, after) and not np.array_equal(before, worn)
    assert np.array_equal(worn, make(folder, **{**plain, "offload": False}, loras=((file, 1.0),)).frames)


def test_as_few_networks_leave_as_the_memory_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [MEMORY.peak(kind) for kind in ("none", "text", "all")] == [56, 47, 32]
    chosen = {}
    for free in (62, 61, 52, 51, 1):  # a tenth more than is counted
        monkeypatch.setattr(residence, "room", lambda device, free=free: Room(80, free))
        chosen[free] = residence.choose_offload(None, GPU, MEMORY)
    assert chosen == {62: "none", 61: "text", 52: "text", 51: "all", 1: "all"}
    assert (
        residence.choose_offload(True, GPU, MEMORY) == "all" and residence.choose_offload(False, GPU, MEMORY) == "none"
    )
    assert residence.choose_offload(None, CPU, MEMORY) == residence.choose_offload(True, CPU, MEMORY) == "none"


def test_on_a_processor_offloading_is_said_to_change_nothing(folder: Path) -> None:
    note = "Offloading changes nothing on cpu: the networks are in main memory already."
    assert make(folder, offload=True).notes[-1] == note
    assert estimate(GenerationRequest("a", model=folder, length="5f", device="cpu", offload=True)).notes[-1] == note
    assert note not in make(folder).notes


def test_what_cannot_be_offloaded_is_refused(folder: Path, pretended: list[int]) -> None:
    with pytest.raises(RequestError, match="Got the offload 'yes'; expected true or false"):
        GenerationRequest("a ball", offload="yes").validated()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="text encoder in int8 stays on its device"):
        build_models("t2v", None, model=folder, device="cpu", text_dtype="int8", offload="all")
