"""What a request will cost: counted from shapes, measured by generations, and never by loading a network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipelines.bundles import STDIT, VAE
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from opensora import generate_video
from opensora.models.stdit.stdit3 import STDiT3
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3
from opensora.pipelines import build, cost, speed
from opensora.pipelines.cost import Shape
from opensora.pipelines.parts import plan_parts
from opensora.pipelines.preflight import Cost, count, estimate
from opensora.pipelines.reporter import Reporter
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import Progress
from opensora.pipelines.verdict import Limits, preflight
from opensora.sampling.rectified_flow import RFLOW

OWN = (17, 33)


def of(folder: Path | None, **settings: Any) -> Cost:
    return estimate(GenerationRequest("a red ball", model=folder, **settings))


@pytest.fixture
def nothing_loaded() -> Iterator[None]:
    build.release_models()
    yield
    assert build._SHELF._networks is None


def test_an_estimate_says_what_will_be_made(bundle_folder: Path, nothing_loaded: None) -> None:
    found = of(bundle_folder, length="20f", aspect_ratio="9:16")
    assert (found.frames, found.height, found.width) == (20, 256, 144)
    assert found.seconds_of_video == pytest.approx(20 / 24)
    low, high = found.seconds_range
    assert 0 < low <= found.seconds <= high
    assert found.download_bytes == 0
    assert set(found.stages) == {"loading", "sampling", "decoding"}
    assert any("guess until" in note for note in found.notes)


def test_more_costs_more(bundle_folder: Path, nothing_loaded: None) -> None:
    def sampling(**settings: Any) -> float:
        return of(bundle_folder, **{"length": "17f", "steps": 4, **settings}).stages["sampling"]

    one = sampling()
    assert sampling(num_videos=3) == pytest.approx(3 * one)
    assert sampling(steps=8) == pytest.approx(2 * one)
    assert sampling(length="33f") > 1.9 * one
    assert sampling(loops=2) > 2 * one
    assert sampling(reference_image=np.full((90, 160, 3), 9, np.uint8)) == pytest.approx(1.5 * one)


def test_rows_that_cancel_are_not_counted() -> None:
    scheduler = RFLOW(num_sampling_steps=30, use_oscillation_guidance=True, scale_image_weight=True)
    assert cost.network_rows(scheduler, None, 5) == 50
    assert cost.network_rows(scheduler, 1.0, 5) == 70
    assert cost.network_rows(RFLOW(num_sampling_steps=30), None, 5) == 60


def test_counted_work_is_that_of_the_real_networks() -> None:
    torch.manual_seed(0)
    network = STDiT3(STDIT).eval()
    latents, text = torch.randn(1, 4, 5, 18, 32), torch.randn(1, 1, cost.TEXT_TOKENS, 16)
    place = {"height": torch.tensor([144.0]), "width": torch.tensor([256.0]), "fps": torch.tensor([24.0])}
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(latents, torch.tensor([500.0]), text, **place)  # the counter sees attention as products of matrices
    counted = cost.forward_flops(STDIT, (5, 18, 32))
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.1)
    shape = Shape(144, 256, tuple(plan_parts(20, 1, OWN)), 2)
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        OpenSoraVAE_V1_3(VAE).eval().decode(torch.empty(1, 4, cost.latent_size(VAE, 20, shape)[0], 18, 32))
    assert cost.decoding_flops(VAE, shape) == pytest.approx(2 * counter.get_total_flops(), rel=0.02)


def test_a_generation_measures_what_was_guessed(bundle_folder: Path) -> None:
    before = of(bundle_folder, length="1f", steps=2)
    result = generate_video("a red ball", model=bundle_folder, length="1f", steps=2)
    after = of(bundle_folder, length="1f", steps=2)
    assert any("guess" in note for note in before.notes)
    assert not any("guess" in note for note in after.notes)
    assert "loading" not in after.stages
    assert after.stages["sampling"] == pytest.approx(result.timings["sampling"], rel=0.01)
    assert after.seconds_range[0] < after.seconds < after.seconds_range[1]


def test_what_processes_took_together_says_nothing_of_one_alone(bundle_folder: Path) -> None:
    request = GenerationRequest("a red ball", model=bundle_folder, length="1f", steps=3).validated()
    alone, together = (count(request, request.bundle(), processes) for processes in (1, 2))
    speed.remember("sampling", alone.key, alone.sampling, 8.0)
    speed.remember("sampling", together.key, together.sampling, 5.0)
    assert estimate(request).stages["sampling"] == pytest.approx(8.0)
    assert preflight(request, Limits(processes=2)).cost.stages["sampling"] == pytest.approx(5.0)
    assert speed.runs_of("sampling", count(request, request.bundle(), 4).key) == 0


def test_a_cache_that_is_damaged_or_cannot_be_written_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cpu, dtype = torch.device("cpu"), torch.float32
    (tmp_path / "opensora").write_text("a file in the way")
    speed.remember("sampling", "key", 1e9, 1.0)
    assert not speed.speed("sampling", "key", cpu, dtype).measured
    (tmp_path / "opensora").unlink()
    (tmp_path / "opensora").mkdir()
    for text in (
        "{",
        "[1]",
        '{"key": 3}',
        '{"key": {"sampling": "fast"}}',
        '{"key": {"sampling": -1}}',
        '{"key": {"sampling": [[1, 0], [1], "x", [NaN, 1]]}}',
    ):
        (tmp_path / "opensora" / "speed.json").write_text(text)
        assert not speed.speed("sampling", "key", cpu, dtype).measured
    speed.remember("sampling", "key", 1e9, 1.0)
    speed.remember("sampling", "key", 3e9, 1.0)
    assert speed.speed("sampling", "key", cpu, dtype).likely == pytest.approx(3e9 ** (1 / 1.8) * 1e9 ** (0.8 / 1.8))


def test_published_weights_tell_their_download_and_memory(nothing_loaded: None) -> None:
    found = of(None, resolution="720p", length="97f")
    assert 24e9 < found.download_bytes < 26e9
    assert found.bytes_memory > 2e10
    assert any("models --download opensora-1.3-t2v-720p" in note for note in found.notes)
    assert (found.height, found.width) == (720, 1280)


def test_long_clips_are_announced_in_parts(bundle_folder: Path, nothing_loaded: None) -> None:
    notes = of(bundle_folder, length="2s").notes
    assert any("at most 33 frames at once: the 48 frames are made in 2 parts" in note for note in notes)
    assert not any("at once" in note for note in of(bundle_folder, length="17f", loops=2).notes)


@pytest.mark.parametrize(("device", "words"), [("tpu", "this machine has"), ("cuda:77", "not here")])
def test_a_wrong_device_is_refused(bundle_folder: Path, device: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        of(bundle_folder, device=device)
    assert caught.value.field == "device"


def test_time_left_counts_the_stages_to_come() -> None:
    seen: list[Progress] = []
    reporter = Reporter(seen.append, None)
    reporter.expect({"sampling": 10.0, "decoding": 4.0})
    with reporter.stage("sampling", 2):
        reporter.step()
        reporter.step()
    with reporter.stage("decoding", 1):
        reporter.step()
    left = [progress.seconds_left for progress in seen]
    assert left[0] == pytest.approx(14, abs=0.1)
    assert left[2] == pytest.approx(4 * 0.25, abs=0.1)  # a fast start is believed up to a factor of four
    assert left[4] == 0
    assert set(reporter.timings) == {"sampling", "decoding"}
