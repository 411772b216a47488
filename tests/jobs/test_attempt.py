"""Attempts at a job without engine or process: published once and whole, whatever an earlier attempt left behind."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_jobs
import fsspec
import numpy as np
import pytest
from PIL import Image
from sqlalchemy.exc import SQLAlchemyError

from opensora.datasets.video_io import read_video
from opensora.jobs import attempt, given
from opensora.jobs.attempt import Workplace
from opensora.jobs.board import Board
from opensora.jobs.places import Places, read_manifest
from opensora.jobs.record import Record
from opensora.jobs.storage import open_storage
from opensora.jobs.store import sqlite
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import GenerationResult
from opensora.sentences import say

JOB = "job"


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    (tmp_path / "control").mkdir()
    monkeypatch.setenv("FAKE_JOBS", str(tmp_path / "control"))
    places = Places(tmp_path / "out")
    places.work.mkdir(parents=True)
    board = Board(sqlite(places.database))
    yield Workplace(places, board, open_storage(places, None), fake_jobs.generate, "worker")
    board.close()


def queue(at: Workplace, prompt: str = "a", **settings: Any) -> None:
    """Queue the job."""
    folder = at.places.given(JOB, 0)
    folder.mkdir(parents=True)
    packed = given.pack(GenerationRequest(prompt=prompt, **settings), folder)
    at.storage.keep_given(JOB, 0)
    at.board.add([Record(JOB, "me", packed, created=1.5)])


def run(at: Workplace, prompt: str = "a", **settings: Any) -> dict[str, Any]:
    """Queue the job and make one attempt at it."""
    queue(at, prompt, **settings)
    return again(at)


def again(at: Workplace) -> dict[str, Any]:
    outcome = attempt.run(JOB, 1, at)
    assert outcome is not None and at.board.some([JOB])[0].outcome == outcome
    return outcome


def broken_off(at: Workplace, lease: str = "dead") -> None:
    """An attempt that a kill ended."""
    assert at.board.take(JOB, 1, "worker", lease) is not None


def results(at: Workplace) -> list[str]:
    return sorted(path.name for path in at.places.outputs.iterdir() if path.name != ".jobs")


def left_over(at: Workplace) -> list[Path]:
    return list(at.places.all_making.iterdir()) if at.places.all_making.exists() else []


def test_files_appear_with_their_hashes_and_everything_that_is_known(at: Workplace) -> None:
    outcome = run(at, num_videos=2)
    folder = at.places.result(JOB)
    assert outcome["state"] == "done" and outcome["attempts"] == 1 and outcome["timings"] == {"sampling": 0.5}
    assert [file["name"] for file in outcome["files"]] == ["video-1.mp4", "video-2.mp4"]
    for file in outcome["files"]:
        assert attempt.sha256(folder / file["name"]) == file["sha256"]
        assert (folder / file["name"]).stat().st_size == file["bytes"]
    manifest = read_manifest(folder)
    assert manifest is not None
    assert manifest["outcome"] == outcome and manifest["request"]["prompt"] == "a" and manifest["owner"] == "me"
    assert left_over(at) == []


def test_what_was_published_is_not_made_again(at: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    queue(at)
    with monkeypatch.context() as killed:
        killed.setattr(Board, "end", raises(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            attempt.run(JOB, 1, at)
    before = (at.places.result(JOB) / "video.mp4").stat().st_mtime_ns
    assert again(at)["attempts"] == 1 and fake_jobs.begun() == ["a"]
    assert (at.places.result(JOB) / "video.mp4").stat().st_mtime_ns == before
    assert attempt.run(JOB, 1, at) is None  # it has ended


def raises(error: type[BaseException]) -> Callable[..., Any]:
    def function(*_: Any, **__: Any) -> None:
        raise error

    return function


def test_an_attempt_that_ended_between_decision_and_rename_is_made_again(at: Workplace) -> None:
    queue(at)
    broken_off(at)
    assert at.board.publish(JOB, "dead") and not at.board.cancel(JOB)
    outcome = again(at)
    assert outcome["state"] == "done" and outcome["attempts"] == 2 and "attempt 2" in outcome["notes"][0]
    assert read_video(at.places.result(JOB) / "video.mp4").frames.shape == (17, 16, 32, 3)


def test_too_many_broken_attempts_end_with_a_sentence(at: Workplace) -> None:
    queue(at)
    for _ in range(3):
        broken_off(at)
    outcome = again(at)
    assert (outcome["state"], outcome["attempts"]) == ("failed", 3)
    assert "ended 3 times" in outcome["error"] and fake_jobs.begun() == []


def test_an_attempt_that_is_given_back_does_not_count(at: Workplace) -> None:
    queue(at)
    broken_off(at)
    for _ in range(2):
        at.board.give_back(JOB, "dead")
    assert at.board.some([JOB])[0].attempts == 0


def test_a_job_that_was_cancelled_before_it_began_makes_nothing(at: Workplace) -> None:
    queue(at)
    assert at.board.cancel(JOB) and not at.board.cancel(JOB)
    assert attempt.run(JOB, 1, at) is None
    assert at.board.some([JOB])[0].outcome is not None and fake_jobs.begun() == [] and results(at) == []


def test_cancelling_and_publishing_cannot_both_happen(at: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(self: GenerationResult, path: Path) -> list[Path]:
        assert at.board.cancel(JOB)
        path.with_suffix(".mp4").write_bytes(b"whole")
        return [path.with_suffix(".mp4")]

    monkeypatch.setattr(GenerationResult, "save", save)
    assert run(at)["state"] == "cancelled"
    assert results(at) == [] and left_over(at) == []


@pytest.mark.parametrize("thief", ["pause", "call back", "take"])
def test_an_attempt_that_lost_its_say_publishes_nothing(
    at: Workplace, monkeypatch: pytest.MonkeyPatch, thief: str
) -> None:
    steal = {
        "pause": lambda: at.board.pause(JOB),
        "call back": lambda: at.board.call_back(JOB, 1, counts=True),
        "take": lambda: at.board.take(JOB, 1, "other", "another"),
    }[thief]

    def save(self: GenerationResult, path: Path) -> list[Path]:
        assert steal()
        path.with_suffix(".mp4").write_bytes(b"whole")
        return [path.with_suffix(".mp4")]

    monkeypatch.setattr(GenerationResult, "save", save)
    queue(at)
    assert attempt.run(JOB, 1, at) is None
    assert at.board.some([JOB])[0].unfinished and results(at) == [] and left_over(at) == []


def test_of_two_machines_that_think_a_job_is_theirs_one_publishes(
    at: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is thought dead between decision and rename, the second publishes, then the first wakes up."""
    publish, second = at.storage.publish, {}

    def slow(job_id: str, lease: str, making: Path) -> None:
        monkeypatch.setattr(at.storage, "publish", publish)
        assert at.board.call_back(JOB, 1, counts=True)
        second.update(attempt.run(JOB, 2, at) or {})
        publish(job_id, lease, making)

    monkeypatch.setattr(at.storage, "publish", slow)
    queue(at)
    assert attempt.run(JOB, 1, at) is None
    assert second["attempts"] == 2 and at.board.some([JOB])[0].outcome == second
    manifest = read_manifest(at.places.result(JOB))
    assert manifest is not None and manifest["outcome"] == second and left_over(at) == []


def test_every_attempt_has_the_same_seed(at: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def generate(request: GenerationRequest, **told: Any) -> GenerationResult:
        seeds.append(request.seed)
        return fake_jobs.generate(request, **told)

    place = replace(at, generate=generate)
    run(place)
    assert seeds == [attempt.seed_of(JOB)] and 0 <= attempt.seed_of(JOB) < 2**31


def test_failures_are_sentences_without_secrets(at: Workplace) -> None:
    assert run(at, "flat")["error"] == "The decoding stage failed: the clip is flat. Try another seed."


def test_an_unexpected_error_shows_no_path(at: Workplace) -> None:
    bug = run(at, "bug")
    assert bug["state"] == "failed" and "secret" not in bug["error"]


def test_a_job_whose_memory_runs_out_is_made_with_less_at_once_and_says_so(at: Workplace) -> None:
    outcome = run(at, "big")
    assert outcome["state"] == "done" and outcome["attempts"] == 1
    assert outcome["notes"] == [say("made.lean", stage="decoding")] and fake_jobs.begun() == ["big", "big"]


def test_a_job_that_is_too_big_even_so_fails_with_a_sentence(at: Workplace) -> None:
    outcome = run(at, "huge")
    assert outcome["state"] == "failed" and fake_jobs.begun() == ["huge", "huge"]
    assert "The memory ran out in the decoding stage, also when less was computed at once" in outcome["error"]


def test_files_and_pictures_travel_through_a_storage_without_folders(
    at: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (144, 256, 3), np.uint8))
    server = replace(at, storage=open_storage(at.places, "memory://bucket/videos"))
    machine = Places(tmp_path / "machine")
    pictures = []

    def generate(request: GenerationRequest, **told: Any) -> GenerationResult:
        pictures.append(np.asarray(request.reference_image))
        return fake_jobs.generate(request, **told)

    worker = replace(at, places=machine, storage=open_storage(machine, "memory://bucket/videos"), generate=generate)
    queue(server, reference_image=picture)
    outcome = attempt.run(JOB, 1, worker)
    assert outcome is not None and np.array_equal(pictures[0], np.asarray(picture))
    assert not machine.result(JOB).exists() and left_over(worker) == [] and results(server) == []
    server.storage.fetch(JOB, outcome)
    assert attempt.sha256(at.places.result(JOB) / "video.mp4") == outcome["files"][0]["sha256"]
    fs = fsspec.filesystem("memory")
    assert fs.find("/bucket") == [
        f"/bucket/videos/given/{JOB}/0/reference_image.png",
        *(f"/bucket/videos/results/{JOB}/{outcome['lease']}/{name}" for name in ("job.json", "video.mp4")),
    ]
    server.storage.remove(JOB)
    assert fs.find("/bucket") == [] and results(server) == []


def test_a_storage_that_nobody_knows_is_refused(at: Workplace) -> None:
    with pytest.raises(ValueError, match="nowhere://x cannot be used"):
        open_storage(at.places, "nowhere://x")


def no_room(before: Callable[..., Any]) -> Callable[..., Any]:
    """The second file does not fit."""
    calls = []

    def replace(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        before(source, target)

    return replace


def test_a_full_disk_is_a_sentence_and_leaves_nothing(at: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    save = GenerationResult.save

    def full(self: GenerationResult, path: Path) -> list[Path]:
        with monkeypatch.context() as broken:
            broken.setattr(os, "replace", no_room(os.replace))
            return save(self, path)

    monkeypatch.setattr(GenerationResult, "save", full)
    outcome = run(at, num_videos=2)
    assert outcome["state"] == "failed"
    assert "could not be written" in outcome["error"] and "No space left on device" in outcome["error"]
    assert str(at.places.outputs) not in outcome["error"]
    assert results(at) == [] and left_over(at) == []


def test_a_report_that_cannot_be_written_does_not_end_the_job(at: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Board, "tell", raises(SQLAlchemyError))
    assert run(at)["state"] == "done"
