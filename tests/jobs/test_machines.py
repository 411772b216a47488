"""Several machines with a real PostgreSQL: three workers, one of them killed, and files in a storage."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fake_jobs
import postgres
import pytest

from opensora.datasets.video_io import read_video
from opensora.jobs.attempt import sha256
from opensora.jobs.durable import DurableQueue, FolderInUse
from opensora.jobs.queue import JobState
from opensora.pipelines.request import GenerationRequest

WAIT = 600
"""Seconds for anything: a worker takes half a minute to start on a machine that is busy with other things."""
TAKEN_OVER = 60
"""Seconds in which a dead machine's job is given to others."""
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres.running() as address:
        yield address


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "control").mkdir()
    monkeypatch.setenv("FAKE_JOBS", str(tmp_path / "control"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(__file__).parents[n]) for n in (1, 2)))
    return tmp_path / "control"


def start_worker(database: str, folder: Path, storage: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "opensora", "worker", "--database", database, "--output-dir", str(folder)]
    return subprocess.Popen([*command, "--storage", f"file://{storage}", "--generate", fake_jobs.GENERATE])


def test_a_dead_machines_job_is_taken_over_and_every_job_is_published_once(
    database: str, tmp_path: Path, control: Path
) -> None:
    storage = tmp_path / "storage"
    queue = DurableQueue(tmp_path / "server", database=database, storage=f"file://{storage}", gpus=())
    workers = [start_worker(database, tmp_path / f"machine-{number}", storage) for number in range(3)]
    try:
        with pytest.raises(FolderInUse, match="Another server uses this database"):
            DurableQueue(tmp_path / "second", database=database, gpus=())
        prompts = [f"wait {number}" for number in range(3)] + ["last 1", "last 2"]
        jobs = [queue.submit(GenerationRequest(prompt=prompt), "me") for prompt in prompts]
        until(lambda: len(set(busy(queue))) == 3)
        first = queue.view(jobs[0], "me")
        assert first is not None and first.worker is not None
        victim = next(worker for worker in workers if f"-{worker.pid}-" in first.worker)
        victim.kill()
        killed = time.monotonic()
        until(lambda: at(queue, jobs[0]) is None)  # it waits for the first of the others that has time
        assert time.monotonic() - killed < TAKEN_OVER
        (control / "go").touch()
        views = [queue.wait(job, "me", WAIT) for job in jobs]
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        queue.close()
    for view in views:
        assert view is not None and view.state is JobState.DONE, view
        assert [sha256(file) for file in view.files] == list(view.sha256)
        assert read_video(view.files[0]).frames.shape == (17, 16, 32, 3)
        assert len(list((storage / "results" / view.id).iterdir())) == 1  # published once
    assert views[0] is not None and views[0].attempts == 2 and views[0].worker != first.worker
    assert [worker.wait(WAIT) for worker in workers] == [-signal.SIGKILL if w is victim else 0 for w in workers]


def busy(queue: DurableQueue) -> list[str | None]:
    return [view.worker for view in queue.jobs("me") if view.state is JobState.RUNNING]


def at(queue: DurableQueue, job: str) -> str | None:
    view = queue.view(job, "me")
    return view.worker if view is not None and view.state is JobState.RUNNING else None


def until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.1)


def test_a_worker_elsewhere_needs_a_database_that_machines_share(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "opensora", "worker", "--database", "sqlite:///x", "--output-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "need PostgreSQL" in done.stderr
