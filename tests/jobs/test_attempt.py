"""Attempts at a job without engine or process: published once and whole, whatever an earlier attempt left behind."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_jobs
import pytest

from opensora.datasets.video_io import read_video
from opensora.jobs import attempt, given
from opensora.jobs.places import CANCELLED, OPEN, PUBLISHED, Places, decide, write
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import GenerationResult

JOB = "job"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    (tmp_path / "control").mkdir()
    monkeypatch.setenv("FAKE_JOBS", str(tmp_path / "control"))
    places = Places(tmp_path / "out")
    places.job(JOB).mkdir(parents=True)
    (places.job(JOB) / OPEN).touch()
    return places


def stored(places: Places, prompt: str, **settings: Any) -> dict[str, Any]:
    return {"created": 1.5, "request": given.pack(GenerationRequest(prompt=prompt, **settings), places.job(JOB))}


def run(places: Places, prompt: str = "a", most: int = 3, **settings: Any) -> dict[str, Any]:
    return attempt.run(JOB, stored(places, prompt, **settings), places, fake_jobs.generate, most)


def results(places: Places) -> list[str]:
    return sorted(path.name for path in places.outputs.iterdir() if path.name != ".jobs")


def test_files_appear_with_their_hashes_and_everything_that_is_known(places: Places) -> None:
    outcome = run(places, num_videos=2)
    folder = places.result(JOB)
    assert outcome["state"] == "done" and outcome["attempts"] == 1 and outcome["timings"] == {"sampling": 0.5}
    assert [file["name"] for file in outcome["files"]] == ["video-1.mp4", "video-2.mp4"]
    for file in outcome["files"]:
        assert attempt.sha256(folder / file["name"]) == file["sha256"]
        assert (folder / file["name"]).stat().st_size == file["bytes"]
    manifest = json.loads((folder / attempt.MANIFEST).read_bytes())
    assert manifest["outcome"] == outcome and manifest["request"]["prompt"] == "a"
    assert not places.making(JOB).exists()


def test_what_was_published_is_not_made_again(places: Places) -> None:
    first = run(places)
    before = (places.result(JOB) / "video.mp4").stat().st_mtime_ns
    assert run(places) == first
    assert fake_jobs.begun() == ["a"]
    assert (places.result(JOB) / "video.mp4").stat().st_mtime_ns == before


def test_an_attempt_that_ended_between_decision_and_rename_is_made_again(places: Places) -> None:
    assert decide(places.job(JOB), PUBLISHED)
    places.making(JOB).mkdir(parents=True)
    (places.making(JOB) / "video.mp4").write_bytes(b"torn")
    write(places.job(JOB) / attempt.ATTEMPTS, b"1")
    outcome = run(places)
    assert outcome["state"] == "done" and outcome["attempts"] == 2 and "attempt 2" in outcome["notes"][0]
    assert read_video(places.result(JOB) / "video.mp4").frames.shape == (17, 16, 32, 3)


def test_too_many_broken_attempts_end_with_a_sentence(places: Places) -> None:
    write(places.job(JOB) / attempt.ATTEMPTS, b"3")
    outcome = run(places)
    assert (outcome["state"], outcome["attempts"]) == ("failed", 3)
    assert "ended 3 times" in outcome["error"] and fake_jobs.begun() == []


def test_an_attempt_that_is_given_back_does_not_count(places: Places) -> None:
    write(places.job(JOB) / attempt.ATTEMPTS, b"1")
    attempt.give_back(places.job(JOB))
    attempt.give_back(places.job(JOB))
    assert attempt.attempts(places.job(JOB)) == 0


def test_a_job_that_was_cancelled_before_it_began_makes_nothing(places: Places) -> None:
    assert decide(places.job(JOB), CANCELLED)
    assert run(places)["state"] == "cancelled"
    assert fake_jobs.begun() == [] and results(places) == []


def test_cancelling_and_publishing_cannot_both_happen(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(self: GenerationResult, path: Path) -> list[Path]:
        assert decide(places.job(JOB), CANCELLED)
        path.with_suffix(".mp4").write_bytes(b"whole")
        return [path.with_suffix(".mp4")]

    monkeypatch.setattr(GenerationResult, "save", save)
    assert run(places)["state"] == "cancelled"
    assert results(places) == [] and not places.making(JOB).exists()


def test_failures_are_sentences_without_secrets(places: Places) -> None:
    assert run(places, "flat")["error"] == "The decoding stage failed: the clip is flat. Try another seed."
    bug = run(places, "bug")
    assert bug["state"] == "failed" and "secret" not in bug["error"]


def no_room(before: Callable[..., Any]) -> Callable[..., Any]:
    """The second file does not fit."""
    calls = []

    def replace(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        before(source, target)

    return replace


def test_a_full_disk_is_a_sentence_and_leaves_nothing(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    job = stored(places, "a", num_videos=2)
    save = GenerationResult.save

    def full(self: GenerationResult, path: Path) -> list[Path]:
        with monkeypatch.context() as broken:
            broken.setattr(os, "replace", no_room(os.replace))
            return save(self, path)

    monkeypatch.setattr(GenerationResult, "save", full)
    outcome = attempt.run(JOB, job, places, fake_jobs.generate, 3)
    assert outcome["state"] == "failed"
    assert "could not be written" in outcome["error"] and "No space left on device" in outcome["error"]
    assert str(places.outputs) not in outcome["error"]
    assert results(places) == [] and not places.making(JOB).exists()


def test_a_preview_that_cannot_be_written_does_not_end_the_job(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, data: bytes, *, durable: bool = False) -> None:
        if path.name == attempt.PREVIEW:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, durable=durable)

    monkeypatch.setattr(attempt, "write", broken)
    assert run(places)["state"] == "done"
