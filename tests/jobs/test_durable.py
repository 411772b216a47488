"""The queue with its real engine and a real worker process: states, cancel, owners, limits, restarts, kills."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_jobs
import numpy as np
import psutil
import pytest
from PIL import Image

from opensora.datasets.video_io import read_video
from opensora.jobs.attempt import sha256
from opensora.jobs.batch import grid
from opensora.jobs.durable import DurableQueue, FolderInUse, Limits
from opensora.jobs.order import Move
from opensora.jobs.queue import JobState, JobView, QueueFull
from opensora.jobs.record import Priority
from opensora.jobs.retention import Retention
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest

WAIT = 200
"""Seconds for anything: a worker takes half a minute to start on a machine that is busy with other things."""
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("durable")


@pytest.fixture(scope="module")
def queue(folder: Path) -> Iterator[DurableQueue]:
    (folder / "control").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_JOBS", str(folder / "control"))
        patch.setenv("PYTHONPATH", os.pathsep.join(str(Path(__file__).parents[n]) for n in (1, 2)))
        queue = DurableQueue(folder / "out", fake_jobs.GENERATE, limits=Limits(waiting=3, waiting_each=2, attempts=2))
        yield queue
        queue.close()


@pytest.fixture(autouse=True)
def control(folder: Path, queue: DurableQueue) -> Iterator[Path]:
    """Prompts that wait for a sign get it when the test is over."""
    (folder / "control" / "go").unlink(missing_ok=True)
    yield folder / "control"
    (folder / "control" / "go").touch()
    for owner in ("me", "you", "they"):
        for view in queue.jobs(owner):
            queue.wait(view.id, owner, WAIT)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def submit(queue: DurableQueue, prompt: str, owner: str = "me") -> str:
    return queue.submit(GenerationRequest(prompt=prompt), owner)


def seen(queue: DurableQueue, job: str, owner: str = "me") -> JobView:
    view = queue.view(job, owner)
    assert view is not None
    return view


def ended(queue: DurableQueue, job: str, owner: str = "me") -> JobView:
    view = queue.wait(job, owner, WAIT)
    assert view is not None and view.state.finished
    return view


def running(queue: DurableQueue, prompt: str = "wait") -> str:
    """A job that runs until the test gives the sign."""
    job = submit(queue, prompt)
    until(lambda: seen(queue, job).preview is not None)
    return job


def test_a_job_runs_reports_and_leaves_its_files(queue: DurableQueue, control: Path) -> None:
    job = running(queue)
    view = seen(queue, job)
    assert (view.state, view.stage, view.step, view.total) == (JobState.RUNNING, "sampling", 1, 3)
    assert (view.memory, view.peak) == (10**9, 2 * 10**9)
    assert view.preview is not None and view.preview.shape == (2, 4, 4, 3) and view.preview_number == 1
    (control / "go").touch()
    view = ended(queue, job)
    assert (view.state, view.attempts, view.timings) == (JobState.DONE, 1, {"sampling": 0.5})
    assert view.settings == {"seed": 7, "width": 32, "height": 16, "num_frames": 17, "fps": 24}
    assert [read_video(file).frames.shape for file in view.files] == [(17, 16, 32, 3)]
    assert view.files[0].parent.name == job and len(view.sha256[0]) == 64
    assert view.seconds is not None and view.request.resolution == "144p"


def test_what_a_request_was_given_comes_back(queue: DurableQueue) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (144, 256, 3), np.uint8))
    request = GenerationRequest(prompt="a", reference_image=picture).validated()
    job = queue.submit(request, "me")
    again = seen(queue, job).request
    assert np.array_equal(np.asarray(again.reference_image), np.asarray(request.reference_image))
    assert next(view for view in queue.jobs("me") if view.id == job).request.reference_image is None
    assert ended(queue, job).state is JobState.DONE


def test_owners_take_turns_within_limits_and_know_their_position(queue: DurableQueue, control: Path) -> None:
    first = running(queue)
    mine = [submit(queue, prompt) for prompt in ("mine 1", "mine 2")]
    with pytest.raises(QueueFull, match="2 of your jobs are waiting already"):
        submit(queue, "mine 3")
    yours = submit(queue, "yours", "you")
    with pytest.raises(QueueFull, match="3 jobs are waiting already"):
        submit(queue, "theirs", "they")
    assert [seen(queue, job).position for job in mine] == [1, 3]
    assert seen(queue, yours, "you").position == 2
    (control / "go").touch()
    for job in (first, *mine):
        assert ended(queue, job).state is JobState.DONE
    assert fake_jobs_of(control)[-3:] == ["mine 1", "yours", "mine 2"]
    assert [view.id for view in queue.jobs("me")][:2] == mine[::-1]
    assert queue.view(yours, "me") is None and not queue.cancel(yours, "me")


def fake_jobs_of(control: Path) -> list[str]:
    return (control / "begun").read_text().splitlines()


def test_cancel_stops_waiting_and_running_jobs(queue: DurableQueue) -> None:
    job, waiting = running(queue), submit(queue, "never")
    assert queue.cancel(waiting, "me")
    assert seen(queue, waiting).state is JobState.CANCELLED
    assert queue.cancel(job, "me")
    view = ended(queue, job)
    assert (view.state, view.files, view.stopping) == (JobState.CANCELLED, (), False)
    assert not queue.cancel(job, "me") and not queue.cancel("none", "me")


def test_a_job_that_is_asked_to_stop_says_so_until_it_has(queue: DurableQueue, control: Path) -> None:
    job = running(queue, "wait, stubborn")
    assert queue.cancel(job, "me") and queue.cancel(job, "me")
    assert seen(queue, job).stopping and seen(queue, job).state is JobState.RUNNING
    (control / "go").touch()
    view = ended(queue, job)
    assert (view.state, view.stopping) == (JobState.CANCELLED, False)


def test_a_job_that_needs_too_much_memory_leaves_the_next_one_unaffected(queue: DurableQueue) -> None:
    big, huge, after = (
        submit(queue, prompt, owner) for prompt, owner in (("big", "me"), ("huge", "you"), ("c", "they"))
    )
    view = ended(queue, big)
    assert view.state is JobState.DONE and "made again with less computed at once" in view.notes[0]
    assert ended(queue, huge, "you").state is JobState.FAILED and ended(queue, after, "they").state is JobState.DONE


def test_a_running_job_is_paused_the_next_one_runs_and_it_goes_on_later(queue: DurableQueue, control: Path) -> None:
    job, waiting = running(queue), submit(queue, "meanwhile")
    assert queue.pause(job, "me") and not queue.pause(job, "me") and not queue.pause(job, "you")
    assert seen(queue, job).state is JobState.PAUSED
    assert ended(queue, waiting).state is JobState.DONE
    (control / "go").touch()
    assert queue.resume(job, "me") and not queue.resume(job, "me")
    view = ended(queue, job)
    assert (view.state, view.attempts) == (JobState.DONE, 1)
    assert fake_jobs_of(control)[-3:] == ["wait", "meanwhile", "wait"]


def test_a_paused_job_can_be_cancelled(queue: DurableQueue) -> None:
    job = running(queue)
    assert queue.pause(job, "me") and queue.cancel(job, "me")
    assert ended(queue, job).state is JobState.CANCELLED and not queue.resume(job, "me")


def test_a_paused_queue_begins_nothing_and_what_ran_goes_back_to_its_place(queue: DurableQueue, control: Path) -> None:
    job, waiting = running(queue), submit(queue, "behind")
    queue.pause_queue()
    assert queue.queue_paused() and queue.trouble() == "the queue is paused"
    assert seen(queue, job).state is JobState.QUEUED and [seen(queue, j).position for j in (job, waiting)] == [0, 1]
    (control / "go").touch()
    time.sleep(1)
    assert fake_jobs_of(control)[-1] == "wait" and seen(queue, waiting).state is JobState.QUEUED
    queue.resume_queue()
    assert (ended(queue, job).state, ended(queue, waiting).state) == (JobState.DONE, JobState.DONE)
    assert fake_jobs_of(control)[-3:] == ["wait", "wait", "behind"] and seen(queue, job).attempts == 1


def test_waiting_jobs_are_moved_edited_and_given_priority(queue: DurableQueue, control: Path) -> None:
    first = running(queue)
    one, two = submit(queue, "one"), submit(queue, "two")
    assert (
        queue.move(two, "me", Move.UP) and not queue.move(first, "me", Move.UP) and not queue.move(two, "you", Move.UP)
    )
    assert [seen(queue, job).position for job in (one, two)] == [2, 1]
    assert queue.edit(one, "me", GenerationRequest(prompt="other", steps=7)) and seen(queue, one).request.steps == 7
    assert not queue.edit(first, "me", GenerationRequest(prompt="other"))
    with pytest.raises(RequestError, match="empty"):
        queue.edit(one, "me", GenerationRequest(prompt=" "))
    urgent = queue.submit(GenerationRequest(prompt="urgent"), "you", Priority.HIGH)
    assert seen(queue, urgent, "you").position == 2  # owners take turns whatever they ask for
    assert queue.set_priority(one, "me", Priority.HIGH) and not queue.set_priority(first, "me", Priority.HIGH)
    assert (seen(queue, one).priority, seen(queue, one).position, seen(queue, two).position) == (Priority.HIGH, 1, 3)
    (control / "go").touch()
    for job, owner in ((first, "me"), (one, "me"), (two, "me"), (urgent, "you")):
        assert ended(queue, job, owner).state is JobState.DONE
    assert fake_jobs_of(control)[-3:] == ["other", "urgent", "two"]


def test_a_batch_is_queued_as_a_whole_or_not_at_all(queue: DurableQueue) -> None:
    queue.pause_queue()
    three = grid(GenerationRequest(prompt="many"), seeds=3)
    with pytest.raises(QueueFull, match="0 of your jobs are waiting already; 2 may, so 3 more do not fit"):
        queue.submit_batch(three, "me")
    with pytest.raises(RequestError, match="empty"):
        queue.submit_batch([three[0], GenerationRequest(prompt=" ")], "me")
    assert not [view for view in queue.jobs("me") if not view.state.finished]
    batch, jobs = queue.submit_batch(three[:2], "me")
    queue.resume_queue()
    views = [ended(queue, job) for job in jobs]
    assert [view.id for view in queue.batch(batch, "me")] == jobs and queue.batch(batch, "you") == []
    assert all(view.batch == batch and view.state is JobState.DONE for view in views)
    assert views[1].request.seed == views[0].request.seed + 1  # type: ignore[operator]


def test_everything_that_is_known_of_a_finished_job_is_in_its_view(queue: DurableQueue) -> None:
    view = ended(queue, submit(queue, "known"))
    assert view.owner == "me" and view.worker == "worker" and view.attempts == 1 and view.timings == {"sampling": 0.5}
    assert view.request.prompt == "known" and view.settings is not None and view.plan == {}
    assert [sha256(file) for file in view.files] == list(view.sha256)
    assert view.created < (view.started or 0) < (view.finished or 0)


def test_while_nothing_is_asked_for_both_processes_sleep(queue: DurableQueue) -> None:
    ended(queue, submit(queue, "awake"))
    worker = psutil.Process(queue._fleet._workers["worker"]._process.pid)  # type: ignore[union-attr]
    spent: list[float] = []

    def asleep() -> bool:  # once the engine is shut down
        before = [sum(process.cpu_times()[:2]) for process in (worker, psutil.Process())]
        time.sleep(10)
        after = [sum(process.cpu_times()[:2]) for process in (worker, psutil.Process())]
        spent[:] = [round(second - first, 3) for first, second in zip(before, after, strict=True)]
        return max(spent) <= 0.05

    until(asleep)
    view = ended(queue, submit(queue, "awake again"))
    print(f"worker and server: {spent} s of the processor in 10 s; begun after {view.started} - {view.created}")
    assert view.state is JobState.DONE


def test_failures_are_sentences_and_the_next_job_runs(queue: DurableQueue) -> None:
    flat, bug = ended(queue, submit(queue, "flat")), ended(queue, submit(queue, "bug"))
    assert (flat.state, bug.state) == (JobState.FAILED, JobState.FAILED)
    assert flat.error == "The decoding stage failed: the clip is flat. Try another seed."
    assert bug.error is not None and "secret" not in bug.error
    assert ended(queue, submit(queue, "after")).state is JobState.DONE


def test_a_bad_request_is_refused_and_leaves_nothing(queue: DurableQueue, folder: Path) -> None:
    before = sorted((folder / "out" / ".jobs" / "work").iterdir())
    with pytest.raises(RequestError, match="empty"):
        submit(queue, " ")
    assert sorted((folder / "out" / ".jobs" / "work").iterdir()) == before


def test_a_second_server_on_the_folder_is_refused(queue: DurableQueue, folder: Path) -> None:
    with pytest.raises(FolderInUse, match="Another server works in"):
        DurableQueue(folder / "out", fake_jobs.GENERATE)


def test_a_job_that_kills_its_worker_runs_again_and_one_that_always_does_is_given_up(queue: DurableQueue) -> None:
    once, always, after = (submit(queue, prompt, owner) for prompt, owner in JOBS)
    stages = set()
    until(lambda: bool(stages.add(seen(queue, once).stage)) or seen(queue, once).state.finished)
    assert any("killed" in stage and "started again" in stage for stage in stages), stages
    view = seen(queue, once)
    assert (view.state, view.attempts) == (JobState.DONE, 2) and "attempt 2" in view.notes[0]
    view = ended(queue, always, "you")
    assert view.state is JobState.FAILED and view.error is not None and "ended 2 times" in view.error
    assert ended(queue, after, "they").state is JobState.DONE


JOBS = (("crash once", "me"), ("crash", "you"), ("after", "they"))


def test_a_queue_that_was_closed_goes_on_where_it_was(tmp_path: Path, queue: DurableQueue, control: Path) -> None:
    own = DurableQueue(tmp_path, fake_jobs.GENERATE)
    kept, done = (ended(own, submit(own, prompt)) for prompt in ("kept", "first"))
    job = running(own, "wait for it")
    waiting, cancelled = submit(own, "later"), submit(own, "never")
    own.cancel(cancelled, "me")
    assert own.pin(kept.id, "me") and not own.pin(kept.id, "you") and own.view(kept.id, "me").pinned  # type: ignore[union-attr]
    own.close()
    with pytest.raises(RuntimeError, match="closed"):
        submit(own, "b")
    (control / "go").touch()
    own = DurableQueue(tmp_path, fake_jobs.GENERATE, retention=Retention(size=1))
    view = ended(own, job)
    assert (view.state, view.attempts) == (JobState.DONE, 1)  # an attempt that the server itself stopped does not count
    assert ended(own, waiting).state is JobState.DONE
    assert seen(own, cancelled).state is JobState.CANCELLED and "never" not in fake_jobs_of(control)
    until(lambda: own.view(job, "me") is None)  # only the newest result is kept
    assert own.view(done.id, "me") is None and not done.files[0].parent.exists()
    assert own.view(kept.id, "me") is not None and kept.files[0].exists()  # it is pinned
    assert seen(own, waiting).files[0].exists()
    own.close()


def test_a_worker_that_is_killed_from_outside_is_replaced(queue: DurableQueue, control: Path) -> None:
    job = running(queue, "wait too")
    process = queue._fleet._workers["worker"]._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: "killed" in seen(queue, job).stage)
    assert seen(queue, job).state is JobState.RUNNING and seen(queue, job).preview is None
    (control / "go").touch()
    view = ended(queue, job)
    assert (view.state, view.attempts) == (JobState.DONE, 2)
