"""Jobs with real networks that fail: each is named, nothing of it is kept as a success, and the next job is as ever."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipelines.bundles import write_bundle

from opensora.datasets.video_io import read_video
from opensora.jobs import attempt, given
from opensora.jobs.attempt import Workplace
from opensora.jobs.board import Board
from opensora.jobs.places import Places
from opensora.jobs.record import Record
from opensora.jobs.storage import open_storage
from opensora.jobs.store import sqlite
from opensora.pipelines.build import build_models, release_models
from opensora.pipelines.models import Models
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import GenerationResult
from opensora.pipelines.video import generate


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("weights") / "random")


@pytest.fixture
def models(bundle: Path) -> Iterator[Models]:
    """The networks that the next jobs use; what a test does to them ends with it."""
    release_models()
    yield build_models("t2v", "144p", True, model=bundle, dtype="fp32")
    release_models()


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    places = Places(tmp_path / "out")
    places.work.mkdir(parents=True)
    board = Board(sqlite(places.database))
    yield Workplace(places, board, open_storage(places, None), generate, "worker")
    board.close()


def run(at: Workplace, bundle: Path, name: str = "job", length: str = "2f") -> dict[str, Any]:
    folder = at.places.given(name, 0)
    folder.mkdir(parents=True)
    request = GenerationRequest("a red ball", model=bundle, seed=3, steps=2, length=length, dtype="fp32")
    at.board.add([Record(name, "me", given.pack(request, folder), created=1.5)])
    outcome = attempt.run(name, 1, at)
    assert outcome is not None
    return outcome


def nothing_was_kept(at: Workplace) -> bool:
    left = [path for path in at.places.outputs.iterdir() if path.name != ".jobs"]
    return left == [] and (not at.places.all_making.exists() or list(at.places.all_making.iterdir()) == [])


def test_a_clip_that_does_not_fit_is_made_with_less_and_the_next_one_as_before(
    at: Workplace, models: Models, bundle: Path
) -> None:
    rows: list[int] = []

    def watch(_: Any, args: tuple[Any, ...]) -> None:
        rows.append(len(args[0]))
        if len(rows) == 3:  # in the second step of the second job
            raise torch.OutOfMemoryError("CUDA out of memory")

    models.stdit.spatial_blocks[0].register_forward_pre_hook(watch)
    first = run(at, bundle, "first")
    assert first["notes"] == [] and rows == [2, 2]
    big = run(at, bundle, "big")
    assert big["state"] == "done" and big["attempts"] == 1 and rows[2:] == [2, 1, 1, 1, 1]
    assert big["notes"] == [
        "The memory ran out in the sampling stage, so the clip was made again with less computed at once, which is "
        "slower."
    ]
    after = run(at, bundle, "after")
    assert after["notes"] == [] and rows[7:] == [2, 2]
    videos = [read_video(at.places.result(name) / "video.mp4").frames for name in ("first", "big", "after")]
    assert after["files"][0]["sha256"] == first["files"][0]["sha256"]
    assert np.abs(videos[1].astype(int) - videos[0].astype(int)).max() <= 3


def no_numbers(models: Models) -> None:
    with torch.no_grad():
        for parameter in models.stdit.final_layer.parameters():
            parameter.fill_(float("nan"))


def one_colour(models: Models) -> None:
    with torch.no_grad():
        for parameter in models.vae.decoder.conv_out.parameters():
            parameter.zero_()


def noise(models: Models) -> None:
    generator = torch.Generator().manual_seed(0)
    models.vae.decoder.register_forward_hook(
        lambda _, args, out: torch.randn(out.shape, generator=generator, dtype=out.dtype)
    )


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (no_numbers, "The sampling stage failed: step 1 of 2 of the denoiser holds values that are not numbers."),
        (one_colour, "The decoding stage gave one flat colour."),
        (noise, "The decoding stage gave pure noise."),
    ],
)
def test_what_shows_nothing_is_named_and_not_kept(
    at: Workplace, models: Models, bundle: Path, damage: Callable[[Models], None], sentence: str
) -> None:
    damage(models)
    outcome = run(at, bundle)
    assert outcome["state"] == "failed" and outcome["error"].startswith(sentence) and "files" not in outcome
    assert nothing_was_kept(at)


def test_weights_that_are_cut_off_are_named_and_the_next_job_has_others(
    at: Workplace, bundle: Path, tmp_path: Path
) -> None:
    release_models()
    broken = write_bundle(tmp_path / "broken")
    weights = next((broken / "stdit").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    outcome = run(at, broken)
    assert outcome["state"] == "failed" and weights.name in outcome["error"] and nothing_was_kept(at)
    assert run(at, bundle, "next")["state"] == "done"
    release_models()


def test_a_disk_that_is_full_is_named_and_leaves_nothing(
    at: Workplace, models: Models, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(self: GenerationResult, path: Path) -> list[Path]:
        path.with_suffix(".mp4").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(GenerationResult, "save", save)
        outcome = run(at, bundle)
    assert outcome["state"] == "failed" and "No space left on device. Make room" in outcome["error"]
    assert nothing_was_kept(at) and run(replace(at), bundle, "next")["state"] == "done"
