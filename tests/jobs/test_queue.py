"""The job queue with a small real generator function: states, cancel, owners, limits and failures."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stepwise import Steps, until

from opensora.datasets.video_io import read_video
from opensora.jobs.queue import JobQueue, JobState, QueueFull
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import Cancelled, GenerationResult, Progress


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def queue(steps: Steps, tmp_path: Path) -> Iterator[JobQueue]:
    queue = JobQueue(steps, tmp_path, max_waiting=2)
    yield queue
    queue.close()


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
    assert view.settings == {"seed": 7, "width": 32, "height": 16, "num_frames": 17, "fps": 24}
    assert [read_video(file).frames.shape for file in view.files] == [(17, 16, 32, 3)]
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
    ) -> GenerationResult:
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
    steps.clips = 2
    replace, written = os.replace, []

    def full(source: Path, target: Path) -> None:
        if written:
            raise OSError(28, "No space left on device", str(target))
        written.append(target)
        replace(source, target)

    steps.go.release(6)
    with monkeypatch.context() as broken:
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
