"""Files of jobs in S3, by a small server on loopback: whole, compared, brought back, and refused with a sentence."""

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_jobs
import fsspec
import numpy as np
import pytest
import s3_server
from PIL import Image

from opensora.jobs import attempt, given
from opensora.jobs.attempt import Workplace
from opensora.jobs.board import Board
from opensora.jobs.durable import DurableQueue
from opensora.jobs.objects import ObjectStorage
from opensora.jobs.places import Places, sha256
from opensora.jobs.queue import JobState
from opensora.jobs.record import Record
from opensora.jobs.storage import check_storage, open_storage, shown_address
from opensora.jobs.store import sqlite
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest
from opensora.server.errors import ApiError
from opensora.server.room import Doorkeeper
from opensora.server.videos import Videos

URL = f"s3://{s3_server.BUCKET}/videos"
JOB = "job"
WAIT = 300
"""Seconds for anything, on a machine that is busy with other things."""
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", autouse=True)
def bucket() -> Iterator[Any]:
    """The file system, with an empty bucket."""
    with s3_server.running() as variables, s3_server.environment(variables):
        fs = fsspec.filesystem("s3")
        fs.mkdir(s3_server.BUCKET)
        yield fs


@pytest.fixture(autouse=True)
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "control").mkdir()
    monkeypatch.setenv("FAKE_JOBS", str(tmp_path / "control"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(__file__).parents[n]) for n in (1, 2)))


@pytest.fixture
def at(tmp_path: Path, bucket: Any) -> Iterator[Workplace]:
    """A machine whose output folder is its own, with a job that was given a picture."""
    server, machine = Places(tmp_path / "server"), Places(tmp_path / "machine")
    server.work.mkdir(parents=True)
    board = Board(sqlite(server.database))
    storage = open_storage(server, URL)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (144, 256, 3), np.uint8))
    folder = server.given(JOB, 0)
    folder.mkdir(parents=True)
    board.add([Record(JOB, "me", given.pack(GenerationRequest("a", reference_image=picture), folder), created=1.5)])
    storage.keep_given(JOB, 0)
    yield Workplace(machine, board, open_storage(machine, URL), fake_jobs.generate, "worker")
    board.close()
    storage.remove(JOB)
    assert bucket.find(s3_server.BUCKET) == []


def test_a_job_of_another_machine_comes_back_whole_and_nothing_else_stays(
    at: Workplace, tmp_path: Path, bucket: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pictures = []

    def generate(request: GenerationRequest, **told: Any) -> Any:
        pictures.append(np.asarray(request.reference_image))
        return fake_jobs.generate(request, **told)

    outcome = attempt.run(JOB, 1, replace(at, generate=generate))
    assert outcome is not None and outcome["state"] == "done"
    assert np.array_equal(pictures[0], np.random.default_rng(0).integers(0, 256, (144, 256, 3), np.uint8))
    here = f"{s3_server.BUCKET}/videos"
    assert bucket.find(s3_server.BUCKET) == [
        f"{here}/given/{JOB}/0/reference_image.png",
        *(f"{here}/results/{JOB}/{outcome['lease']}/{name}" for name in ("job.json", "video.mp4")),
    ]
    server = Places(tmp_path / "server")
    storage = open_storage(server, URL)
    assert storage.lacks(JOB, outcome)
    storage.fetch(JOB, outcome)
    assert sha256(server.result(JOB) / "video.mp4") == outcome["files"][0]["sha256"] and not storage.lacks(JOB, outcome)
    assert not at.places.result(JOB).exists() and list(at.places.all_making.iterdir()) == []
    assert s3_server.SECRET not in caplog.text and s3_server.KEY not in caplog.text


def test_what_reads_otherwise_than_it_was_made_is_no_result(at: Workplace, tmp_path: Path, bucket: Any) -> None:
    outcome = attempt.run(JOB, 1, at)
    assert outcome is not None
    stored = f"{s3_server.BUCKET}/videos/results/{JOB}/{outcome['lease']}/video.mp4"
    server = Places(tmp_path / "server")
    for damaged, reason in ((b"torn", "video.mp4 reads otherwise"), (None, "FileNotFoundError")):
        bucket.rm(stored) if damaged is None else bucket.pipe_file(stored, damaged)
        with pytest.raises(OSError, match=reason):
            open_storage(server, URL).fetch(JOB, outcome)
        assert not server.result(JOB).exists() and not list(server.outputs.glob(f".{JOB}.*"))


def test_an_upload_that_arrives_torn_is_no_success(at: Workplace, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(source: str, target: str) -> None:
        bucket.pipe_file(target, Path(source).read_bytes()[:-1])

    monkeypatch.setattr(bucket, "put_file", cut)
    outcome = attempt.run(JOB, 1, at)
    assert outcome is not None and outcome["state"] == "failed"
    assert "could not be written" in outcome["error"] and "reads otherwise than it was written" in outcome["error"]


def test_a_picture_that_cannot_be_fetched_is_a_sentence(
    at: Workplace, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    with monkeypatch.context() as broken:
        broken.setattr(bucket, "get_file", refuse)
        outcome = attempt.run(JOB, 1, at)
    assert outcome is not None and outcome["state"] == "failed"
    assert (
        "was given could not be fetched: the storage did not do it (PermissionError: Access Denied)" in outcome["error"]
    )


def test_what_cannot_be_used_is_refused_before_the_page_opens(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"s3://no-such-bucket/x cannot be written and read: .*bucket does not exist"):
        DurableQueue(tmp_path / "out", storage="s3://no-such-bucket/x", gpus=())
    assert not bucket.exists("no-such-bucket")
    places = Places(tmp_path / "out")
    with pytest.raises(ValueError, match="lacks a name; expected one such as s3://bucket/videos"):
        open_storage(places, "s3://")
    check_storage(open_storage(places, URL), URL)
    assert bucket.find(s3_server.BUCKET) == []
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"].__dict__["_registry"], "s3")
    with pytest.raises(ValueError, match=r"not installed; install it with: pip install s3fs"):
        open_storage(places, URL)
    assert shown_address("sftp://me:word@host/x") == "sftp://host/x"


def test_a_page_on_s3_shows_its_clips_again_on_a_new_disk(tmp_path: Path, bucket: Any) -> None:
    queue = DurableQueue(tmp_path / "out", fake_jobs.GENERATE, storage=URL)
    picture = Image.new("RGB", (256, 144), (9, 90, 180))
    try:
        job = queue.submit(GenerationRequest("a", reference_image=picture), "me")
        view = queue.wait(job, "me", WAIT)
        assert view is not None and view.state is JobState.DONE, view
        assert sha256(view.files[0]) == view.sha256[0] and queue.view(job, "somebody else") is None
    finally:
        queue.close()
    shutil.rmtree(tmp_path / "out" / job)
    queue = DurableQueue(tmp_path / "out", fake_jobs.GENERATE, storage=URL, gpus=())
    try:
        deadline = time.monotonic() + WAIT
        while not view.files[0].exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert sha256(view.files[0]) == view.sha256[0]
        assert queue.remove(job, "me") and bucket.find(s3_server.BUCKET) == []
    finally:
        queue.close()


@pytest.mark.parametrize("call", ["ls", "rm"])
def test_a_job_is_not_deleted_while_its_storage_cannot_be_reached(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("Could not connect to the endpoint URL")

    queue = DurableQueue(tmp_path / "out", fake_jobs.GENERATE, storage=URL, gpus=())
    try:
        job = queue.submit(GenerationRequest("a", reference_image=Image.new("RGB", (256, 144), "red")), "me")
        assert queue.cancel(job, "me")
        with monkeypatch.context() as down:
            down.setattr(bucket, call, refuse)
            with pytest.raises(
                RequestError, match=r"was not deleted: the storage did not do it \(ConnectionError"
            ) as told:
                queue.remove(job, "me")
            assert told.value.field == "queue"
            with pytest.raises(ApiError, match="was not deleted") as answer:
                Videos(queue, Doorkeeper(tmp_path)).delete("me", job)
            assert (answer.value.status, answer.value.kind) == (503, "unavailable")
        view = queue.view(job, "me")
        assert view is not None and np.asarray(view.request.reference_image)[0, 0].tolist() == [255, 0, 0]
        assert len(bucket.find(s3_server.BUCKET)) == 1
        assert queue.remove(job, "me") and queue.view(job, "me") is None and bucket.find(s3_server.BUCKET) == []
    finally:
        queue.close()


def test_a_job_whose_pictures_cannot_be_stored_is_not_taken(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = DurableQueue(tmp_path / "out", fake_jobs.GENERATE, storage=URL, gpus=())
    try:
        monkeypatch.setattr(ObjectStorage, "_sha256", lambda *_: "")
        with pytest.raises(RequestError, match=r"cannot be stored: reference_image\.png reads otherwise"):
            queue.submit(GenerationRequest("a", reference_image=Image.new("RGB", (256, 144))), "me")
        assert queue.jobs("me") == [] and bucket.find(s3_server.BUCKET) == []
    finally:
        queue.close()
