"""How a generation ends early: cancelled within a step, or with the name of the stage that failed."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from opensora import generate_video
from opensora.pipelines.build import build_models, release_models
from opensora.pipelines.checks import check_latents
from opensora.pipelines.models import Models
from opensora.pipelines.result import Cancelled, GenerationError, GenerationResult, Progress

IMAGE = np.full((144, 256, 3), 90, np.uint8)


def make(folder: Path, prompt: str = "a red ball", **settings: Any) -> GenerationResult:
    return generate_video(prompt, **{"model": folder, "seed": 3, "steps": 2, "length": "1f", **settings})


@pytest.fixture
def models(bundle_folder: Path) -> Iterator[Models]:
    """The networks that the next generation will use; what a test does to them ends with it."""
    release_models()
    yield build_models("t2v", "144p", True, model=bundle_folder)
    release_models()


def damage(network: nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(float("nan"))


def test_progress_counts_every_step_of_every_stage(bundle_folder: Path) -> None:
    seen: list[Progress] = []
    make(bundle_folder, steps=3, length="20f", num_videos=2, reference_image=IMAGE, on_progress=seen.append)
    stages = list(dict.fromkeys(progress.stage for progress in seen))
    assert stages == ["loading", "text", "reference", "sampling", "decoding"]
    for stage, total in (("sampling", 2 * 3), ("decoding", 2 * 2)):
        assert [(p.step, p.total) for p in seen if p.stage == stage] == [(i, total) for i in range(total + 1)]
    previews = [p.preview for p in seen if p.stage == "sampling" and p.step]
    assert all(preview is not None and preview.shape == (10, 18, 32, 3) for preview in previews)
    assert all(p.seconds_left is not None and p.seconds_left >= 0 for p in seen if p.stage == "sampling")
    assert seen[-1].seconds_left == 0


def test_cancelling_stops_between_the_blocks_of_a_step(models: Models, bundle_folder: Path) -> None:
    cancel, later = threading.Event(), []
    models.stdit.spatial_blocks[0].register_forward_hook(lambda *_: cancel.set())
    models.stdit.temporal_blocks[0].register_forward_hook(lambda *_: later.append(1))
    with pytest.raises(Cancelled):
        make(bundle_folder, cancel=cancel)
    assert later == []


def test_cancelling_stops_while_decoding(models: Models, bundle_folder: Path) -> None:
    cancel, later = threading.Event(), []
    models.vae.decoder.conv_in.register_forward_hook(lambda *_: cancel.set())
    models.vae.decoder.conv_out.register_forward_hook(lambda *_: later.append(1))
    with pytest.raises(Cancelled):
        make(bundle_folder, cancel=cancel)
    assert later == []


def test_after_a_cancelled_request_the_next_one_works_as_before(bundle_folder: Path) -> None:
    before = make(bundle_folder)
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        make(bundle_folder, cancel=cancel, on_progress=lambda p: cancel.set() if p.step else None)
    models = build_models("t2i", "144p", True, model=bundle_folder)
    networks = (models.stdit, models.vae, models.text_encoder.t5.model)
    assert not any(layer._forward_pre_hooks for network in networks for layer in network.modules())
    assert np.array_equal(make(bundle_folder).frames, before.frames)


def test_a_request_that_waits_for_another_can_be_cancelled(bundle_folder: Path) -> None:
    running, go_on, cancel, ended = threading.Event(), threading.Event(), threading.Event(), []

    def hold(_: Progress) -> None:
        running.set()
        go_on.wait(60)

    def wait() -> None:
        try:
            make(bundle_folder, cancel=cancel)
        except Cancelled:
            ended.append("cancelled")

    first = threading.Thread(target=make, args=(bundle_folder,), kwargs={"on_progress": hold})
    second = threading.Thread(target=wait)
    first.start()
    assert running.wait(60)
    second.start()
    cancel.set()
    second.join(60)
    assert ended == ["cancelled"] and first.is_alive()
    go_on.set()
    first.join(60)
    assert not first.is_alive()


def test_a_denoiser_that_makes_no_numbers_is_named(models: Models, bundle_folder: Path) -> None:
    damage(models.stdit.final_layer)
    with pytest.raises(GenerationError, match="sampling stage failed: step 1 of 2") as caught:
        make(bundle_folder)
    assert caught.value.stage == "sampling"


def test_a_text_encoder_that_makes_no_numbers_is_named(models: Models, bundle_folder: Path) -> None:
    damage(models.text_encoder.t5.model)
    with pytest.raises(GenerationError, match="text stage failed") as caught:
        make(bundle_folder)
    assert caught.value.stage == "text"


def test_an_autoencoder_that_makes_no_numbers_is_named(models: Models, bundle_folder: Path) -> None:
    damage(models.vae)
    with pytest.raises(GenerationError, match="decoding stage failed") as caught:
        make(bundle_folder)
    assert caught.value.stage == "decoding"
    with pytest.raises(GenerationError, match="reference stage failed") as caught:
        make(bundle_folder, reference_image=IMAGE, length="2f")
    assert caught.value.stage == "reference"


def test_a_flat_picture_is_no_result(models: Models, bundle_folder: Path) -> None:
    with torch.no_grad():
        for parameter in models.vae.decoder.conv_out.parameters():
            parameter.zero_()
    with pytest.raises(GenerationError, match="one flat colour") as caught:
        make(bundle_folder)
    assert caught.value.stage == "decoding"


def test_latents_that_are_all_the_same_are_no_result() -> None:
    latents = torch.zeros(1, 4, 1, 18, 32)
    with pytest.raises(GenerationError, match="is the same everywhere") as caught:
        check_latents(latents, "sampling", "the denoiser's result")
    assert caught.value.stage == "sampling"


@pytest.mark.parametrize("network", ["stdit", "vae"])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_runs_out_says_where_and_what_to_do(
    models: Models, bundle_folder: Path, network: str, error: Exception
) -> None:
    def run_out(*_: object) -> None:
        raise error

    layer = models.stdit.final_layer if network == "stdit" else models.vae.decoder.conv_in
    layer.register_forward_pre_hook(run_out)
    stage = "sampling" if network == "stdit" else "decoding"
    with pytest.raises(GenerationError, match=f"ran out in the {stage} stage. Choose a smaller") as caught:
        make(bundle_folder)
    assert caught.value.stage == stage


def test_other_errors_are_not_hidden(models: Models, bundle_folder: Path) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("size mismatch")

    models.stdit.final_layer.register_forward_pre_hook(break_down)
    with pytest.raises(RuntimeError, match="size mismatch"):
        make(bundle_folder)
