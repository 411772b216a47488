"""Green, amber or red before anything is loaded, and the nearest settings that fit."""

import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from opensora.pipelines import memory, speed, verdict
from opensora.pipelines import preflight as preflight_module
from opensora.pipelines.cost import Memory
from opensora.pipelines.fit import fit
from opensora.pipelines.memory import Room, counted, predict
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.verdict import LITTLE_DISK, Limits, preflight, require, turn_seconds

CPU = torch.device("cpu")
PARTS = Memory(text=100, denoiser=200, autoencoder=300, sampling=10**9, decoding=2 * 10**9, clips=7)


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of a known size."""
    monkeypatch.setattr(verdict, "room", lambda _: Room(8 * 10**9, 8 * 10**9))
    monkeypatch.setattr(verdict, "_free_disk", lambda _: 10**12)


def of(folder: Path | None, **settings: Any) -> GenerationRequest:
    return GenerationRequest("a red ball", model=folder, **settings)


def test_what_fits_is_green_and_says_nothing(bundle_folder: Path) -> None:
    found = preflight(of(bundle_folder, length="17f"))
    assert (found.colour, found.reasons, found.device) == ("green", [], "cpu")
    assert 4e8 < found.cost.bytes_memory < found.cost.bytes_memory_high < 8e8
    assert 0 < found.disk_bytes < 10**6
    assert any("guess" in note for note in found.notes)


def test_memory_is_red_above_what_is_there_or_free_and_amber_where_it_is_tight(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = of(bundle_folder, length="17f")
    need = preflight(request).cost.bytes_memory
    for place, colour, words in (
        (Room(need - 1, need - 1), "red", "; this machine has 5"),
        (Room(10**10, need - 1), "red", "are free now. Close other programs."),
        (Room(10**10, need + 10**7), "amber", "that is tight"),
        (Room(10**10, 10**10), "green", ""),
    ):
        monkeypatch.setattr(verdict, "room", lambda _, place=place: place)
        found = preflight(request)
        assert found.colour == colour
        assert words in " ".join(found.reasons)
    monkeypatch.setattr(verdict, "room", lambda _: None)
    assert preflight(request).colour == "green"
    for module in (verdict, preflight_module):  # the cost alone says it in other words
        monkeypatch.setattr(module, "room", lambda _: Room(need - 1, need - 1))
    found = preflight(request)
    assert any("this machine's CPU has" in note for note in found.cost.notes)
    assert sum("of memory;" in sentence for sentence in (*found.reasons, *found.notes)) == 1


def test_disk_and_time_count_too(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = of(bundle_folder, length="17f")
    assert preflight(request, Limits(seconds=1e-6)).reasons[0].startswith("It takes about")
    assert preflight(request, Limits(memory=10)).colour == "red"
    needed = preflight(request).disk_bytes
    for free, colour in ((needed - 1, "red"), (needed + LITTLE_DISK - 1, "amber"), (needed + LITTLE_DISK, "green")):
        monkeypatch.setattr(verdict, "_free_disk", lambda _, free=free: free)
        assert preflight(request).colour == colour


def test_weights_that_are_not_here_are_red_and_programs_get_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    request = of(None, resolution="720p", length="17f")
    found = preflight(request)
    assert found.colour == "red" and 24e9 < found.cost.download_bytes < 26e9
    assert "models --download opensora-1.3-t2v-720p" in found.reasons[0]
    with pytest.raises(RequestError, match="models --download") as caught:
        require(request)
    assert caught.value.field == "request"
    monkeypatch.setattr(verdict, "_free_disk", lambda _: 10**10)
    assert any("10.0 GB are free" in reason and "HF_HOME" in reason for reason in preflight(request).reasons)


def test_programs_get_the_verdict_of_what_works(bundle_folder: Path) -> None:
    assert require(of(bundle_folder, length="17f")).colour == "green"


def test_a_shared_gpu_is_asked_for_as_long_as_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = SimpleNamespace(seconds_range=(10.0, 61.2))
    monkeypatch.setattr(verdict, "estimate", lambda request: cost)
    assert turn_seconds(of(None)) == 62 + verdict.HANDING_OVER
    assert turn_seconds(of(None), lean=True) == 123 + verdict.HANDING_OVER
    cost.seconds_range = (0.1, 0.2)
    assert turn_seconds(of(None)) == verdict.SHORTEST_TURN


def test_nothing_changes_where_it_fits(bundle_folder: Path) -> None:
    request = of(bundle_folder, length="33f")
    found = fit(request)
    assert (found.request, found.changes, found.sentences) == (request, {}, [])


def test_the_nearest_settings_that_fit_are_proposed(bundle_folder: Path) -> None:
    request = of(bundle_folder, length="33f", reference_image=np.zeros((90, 160, 3), np.uint8), seed=4)
    most = preflight(of(bundle_folder, length="17f", reference_image=request.reference_image)).cost.bytes_memory
    found = fit(request, Limits(memory=most))
    assert found.changes == {"length": "17f"} and found.sentences == ["Set the length to 17f instead of 33f."]
    assert found.request.reference_image is request.reference_image and found.request.seed == 4
    assert found.preflight.colour == "green"


def test_fewer_clips_are_nearer_than_shorter_ones_and_steps_count_where_time_is_short(bundle_folder: Path) -> None:
    request = of(bundle_folder, length="33f", num_videos=4, steps=20)
    seconds = preflight(request).cost.seconds
    found = fit(request, Limits(seconds=0.85 * seconds))
    assert found.changes == {"num_videos": 3} or found.changes == {"steps": 16}
    assert found.preflight.cost.seconds <= 0.85 * seconds


def test_a_model_that_is_here_is_the_last_resort() -> None:
    found = fit(of(None, resolution="720p", length="17f"))
    assert found.changes["model"] == "tiny" and found.changes["resolution"] == "144p"
    assert found.preflight.colour == "green"


def test_what_never_fits_says_why(bundle_folder: Path) -> None:
    with pytest.raises(RequestError, match=r"No settings were found that fit\. It needs about .* are allowed"):
        fit(of(bundle_folder, length="17f"), Limits(memory=10**6))


def test_memory_is_counted_by_device_and_corrected_by_what_was_measured() -> None:
    assert counted(PARTS, torch.device("cuda")) == PARTS.peak()
    work = counted(PARTS, CPU)
    assert work == 600 + 7 + memory.HOST_SAMPLING * 1e9 + memory.HOST_DECODING * 2e9 + memory.HOST_FIXED
    first = predict(PARTS, "key", CPU)
    assert first.likely == int(memory.BARE + work) and not first.measured
    speed.remember(memory.STAGE, memory.PROCESS, 1.0, 3e8)
    for _ in range(3):
        speed.remember(memory.STAGE, "key", work, 1.5 * work)
    after = predict(PARTS, "key", CPU)
    assert after.likely == pytest.approx(3e8 + 1.5 * work) and after.measured
    assert after.likely < after.high < first.high + 1.5 * work


def test_the_first_generation_of_a_process_measures_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.Meter, "_fresh", True)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 3 * 10**8)
    monkeypatch.setattr(memory, "peak_bytes", lambda: 9 * 10**8)
    first, second = memory.Meter(CPU), memory.Meter(CPU)
    second.remember("key", PARTS)
    assert speed.runs_of(memory.STAGE, "key") == 0  # it worked in what the first has left
    first.remember("key", PARTS)
    assert predict(PARTS, "key", CPU).likely == pytest.approx(9e8)


def test_what_a_server_and_its_workers_hold_counts_as_free_for_the_next_clip() -> None:
    alone = memory.held_bytes()
    code = "held = b'x' * 10**8; print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert memory.held_bytes() > alone + 9 * 10**7
    child.communicate(b"\n")


def test_the_peak_of_this_process_is_known() -> None:
    resident, peak = memory.resident_bytes(), memory.peak_bytes()
    assert resident is not None and peak is not None and 10**7 < resident <= 1.2 * peak


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_has_what_its_group_may_use(version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine = namedtuple("Machine", "total available")
    monkeypatch.setattr("psutil.virtual_memory", lambda: Machine(10**12, 9 * 10**11))
    monkeypatch.setattr(memory, "held_bytes", lambda: 5)
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    assert memory.room(CPU) == Room(10**12, 9 * 10**11 + 5)
    limit, used, statistics, cache = memory.GROUP_FILES[2 - version]
    (tmp_path / limit).parent.mkdir(exist_ok=True)
    (tmp_path / limit).write_text("max\n" if version == 2 else str(2**63 - 4096))
    assert memory.room(CPU) == Room(10**12, 9 * 10**11 + 5)
    (tmp_path / limit).write_text("1000\n")
    (tmp_path / used).write_text("700\n")
    (tmp_path / statistics).write_text(f"other 9\n{cache} 100\n")
    assert memory.room(CPU) == Room(1000, 405)
