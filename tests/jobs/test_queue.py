"""The job queue with a small real generator function: states, cancel, owners, limits and failures."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from opensora.jobs.queue import JobQueue, JobState, QueueFull
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import Cancelled, GenerationError, GenerationResult, Progress


class Clip:
    """What the queue needs of a result."""

    settings: ClassVar = {"seed": 7}
    notes: tuple[str, ...] = ()

    def save(self, path: Path) -> list[Path]:
        file = path.with_suffix(".mp4")
        file.write_bytes(b"clip")
        return [file]


class Steps:
    """Generates in steps that the test releases one by one."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.prompts: list[str] = []

    def __call__(
        self, request: GenerationRequest, *, on_progress: Callable[[Progress], None], cancel: threading.Event
    ) -> Clip:
        self.prompts.append(request.prompt)
        if request.prompt == "flat":
            raise GenerationError("decoding", "The decoding stage failed: the clip is flat. Try another seed.")
        if request.prompt == "bug":
            raise ZeroDivisionError("/some/secret/path")
        for step in range(3):
            while not self.go.acquire(timeout=0.01):
                if cancel.is_set():
                    raise Cancelled()
            preview = np.zeros((4, 4, 3), np.uint8)
            on_progress(Progress(stage="sampling", step=step + 1, total=3, seconds_left=1.0, preview=preview))
        return Clip()


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def queue(steps: Steps, tmp_path: Path) -> Iterator[JobQueue]:
    queue = JobQueue(steps, tmp_path, max_waiting=2)
    yield queue
    queue.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def test_a_job_runs_reports_and_leaves_its_files(queue: JobQueue, steps: Steps) -> None:
    job = queue.submit(GenerationRequest(prompt="ball"), "me")
    steps.go.release()
    until(lambda: queue.view(job, "me").step == 1)
    view = queue.view(job, "me")
    assert (view.state, view.stage, view.total, view.preview_number) == (JobState.RUNNING, "sampling", 3, 1)
    assert view.preview is not None
    steps.go.release(2)
    view = queue.wait(job, "me", timeout=5)
    assert view.state is JobState.DONE
    assert view.settings == {"seed": 7}
    assert [file.read_bytes() for file in view.files] == [b"clip"]
    assert view.files[0].parent.name == job


def test_jobs_run_in_order_and_know_their_position(queue: JobQueue, steps: Steps) -> None:
    jobs = [queue.submit(GenerationRequest(prompt=name), "me") for name in ("a", "b")]
    until(lambda: queue.view(jobs[0], "me").state is JobState.RUNNING)
    jobs.append(queue.submit(GenerationRequest(prompt="c"), "me"))
    assert [queue.view(job, "me").position for job in jobs] == [0, 1, 2]
    steps.go.release(9)
    queue.wait(jobs[2], "me", timeout=5)
    assert steps.prompts == ["a", "b", "c"]
    assert [view.id for view in queue.jobs("me")] == jobs[::-1]


def test_a_full_queue_refuses_with_a_sentence(queue: JobQueue) -> None:
    first = queue.submit(GenerationRequest(prompt="a"), "me")
    until(lambda: queue.view(first, "me").state is JobState.RUNNING)
    for name in ("b", "c"):
        queue.submit(GenerationRequest(prompt=name), "me")
    with pytest.raises(QueueFull, match="2 jobs are waiting"):
        queue.submit(GenerationRequest(prompt="d"), "me")


def test_cancel_stops_waiting_and_running_jobs(queue: JobQueue, steps: Steps) -> None:
    running = queue.submit(GenerationRequest(prompt="a"), "me")
    waiting = queue.submit(GenerationRequest(prompt="b"), "me")
    until(lambda: queue.view(running, "me").state is JobState.RUNNING)
    assert queue.cancel(waiting, "me")
    assert queue.view(waiting, "me").state is JobState.CANCELLED
    assert queue.cancel(running, "me")
    assert queue.wait(running, "me", timeout=5).state is JobState.CANCELLED
    assert not queue.cancel(running, "me")
    assert steps.prompts == ["a"]


def test_jobs_are_seen_by_their_owner_only(queue: JobQueue) -> None:
    job = queue.submit(GenerationRequest(prompt="a"), "me")
    assert queue.view(job, "you") is None
    assert not queue.cancel(job, "you")
    assert queue.jobs("you") == []


def test_failures_are_sentences_and_the_next_job_runs(queue: JobQueue, steps: Steps) -> None:
    flat = queue.wait(queue.submit(GenerationRequest(prompt="flat"), "me"), "me", timeout=5)
    bug = queue.wait(queue.submit(GenerationRequest(prompt="bug"), "me"), "me", timeout=5)
    assert (flat.state, flat.error) == (
        JobState.FAILED,
        "The decoding stage failed: the clip is flat. Try another seed.",
    )
    assert bug.state is JobState.FAILED
    assert bug.error is not None and "secret" not in bug.error
    steps.go.release(3)
    assert queue.wait(queue.submit(GenerationRequest(prompt="a"), "me"), "me", timeout=5).state is JobState.DONE


def test_a_bad_request_is_refused_before_it_is_queued(queue: JobQueue) -> None:
    with pytest.raises(RequestError):
        queue.submit(GenerationRequest(prompt=""), "me")
    assert queue.jobs("me") == []


def test_a_job_that_is_asked_to_stop_says_so_until_it_has(tmp_path: Path) -> None:
    stop = threading.Event()

    def stubborn(
        request: GenerationRequest, *, on_progress: Callable[[Progress], None], cancel: threading.Event
    ) -> Clip:
        cancel.wait(5)
        stop.wait(5)
        raise Cancelled()

    queue = JobQueue(stubborn, tmp_path)
    job = queue.submit(GenerationRequest(prompt="a"), "me")
    until(lambda: queue.view(job, "me").state is JobState.RUNNING)
    queue.cancel(job, "me")
    assert queue.view(job, "me").stopping and queue.view(job, "me").state is JobState.RUNNING
    stop.set()
    view = queue.wait(job, "me", timeout=5)
    assert (view.state, view.stopping) == (JobState.CANCELLED, False)
    queue.close()


def test_a_full_disk_is_a_sentence_leaves_nothing_and_the_next_job_runs(
    queue: JobQueue, steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = [np.full((2, 16, 16, 3), value, np.uint8) for value in (40, 90)]
    result = GenerationResult(videos=videos, fps=24.0, seeds=[1, 2], settings={}, plan={}, timings={})
    replace, written = os.replace, []

    def full(source: Path, target: Path) -> None:
        if written:
            raise OSError(28, "No space left on device", str(target))
        written.append(target)
        replace(source, target)

    steps.go.release(6)
    with monkeypatch.context() as broken:
        broken.setattr(Clip, "save", lambda _, path: result.save(path))
        broken.setattr(os, "replace", full)
        view = queue.wait(queue.submit(GenerationRequest(prompt="a"), "me"), "me", timeout=5)
    assert len(written) == 1
    assert view.state is JobState.FAILED and view.error is not None
    assert "could not be written" in view.error and "No space left on device" in view.error
    assert str(tmp_path) not in view.error
    assert list(tmp_path.iterdir()) == []
    assert queue.wait(queue.submit(GenerationRequest(prompt="b"), "me"), "me", timeout=5).state is JobState.DONE


def test_a_closed_queue_takes_nothing_and_stops_what_runs(steps: Steps, tmp_path: Path) -> None:
    queue = JobQueue(steps, tmp_path)
    job = queue.submit(GenerationRequest(prompt="a"), "me")
    until(lambda: queue.view(job, "me").state is JobState.RUNNING)
    queue.close()
    assert queue.view(job, "me").state is JobState.CANCELLED
    with pytest.raises(RuntimeError, match="closed"):
        queue.submit(GenerationRequest(prompt="b"), "me")


def test_old_jobs_are_forgotten_and_unfinished_ones_are_not(steps: Steps, tmp_path: Path) -> None:
    queue = JobQueue(steps, tmp_path, keep=2)
    steps.go.release(12)
    done = [queue.submit(GenerationRequest(prompt=str(i)), "me") for i in range(4)]
    queue.wait(done[-1], "me", timeout=5)
    last = queue.submit(GenerationRequest(prompt="last"), "me")
    assert [view.id for view in queue.jobs("me")] == [last, done[3], done[2]]
    assert queue.view(done[0], "me") is None and (tmp_path / done[0] / "video.mp4").exists()
    queue.close()
