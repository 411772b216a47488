"""Kill -9 of the server and of the worker at random moments: no job lost, none published twice, no torn file."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from opensora.datasets.video_io import read_video
from opensora.jobs.attempt import MANIFEST, sha256
from opensora.jobs.durable import DurableQueue, Limits
from opensora.jobs.queue import JobState
from opensora.pipelines.request import GenerationRequest

ROUNDS = int(os.environ.get("OPENSORA_CHAOS_ROUNDS", "5"))
WAIT = 300
"""Seconds for anything, on a machine that is busy with other things."""
JOBS = 6
"""Jobs of a round."""
pytestmark = pytest.mark.timeout(300 + 240 * ROUNDS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "control").mkdir()
    monkeypatch.setenv("FAKE_JOBS", str(tmp_path / "control"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(__file__).parents[n]) for n in (1, 2)))
    return tmp_path


class Server:
    """A process that serves a folder's queue, as the page does, and prints the id of each job that was accepted."""

    def __init__(self, folder: Path, prompts: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("serve.py")), str(folder / "out"), *prompts],
            stdout=subprocess.PIPE,
            text=True,
        )

    def accepted(self) -> Iterator[str]:
        """Ids as they come; ends when the process does."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # the last one may be cut off by the kill
                yield line.strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def kill_worker(folder: Path) -> bool:
    """Kill -9 of the worker that is at a job; whether there was one."""
    file = folder / "control" / "worker"
    try:
        pid = int(file.read_text())
        file.unlink()
        os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        return False
    return True


def test_killing_server_and_worker_loses_nothing_and_tears_nothing(folder: Path) -> None:
    chance = random.Random(int(os.environ.get("OPENSORA_CHAOS_SEED", time.time_ns())))
    accepted: dict[str, str] = {}
    published: dict[str, bytes] = {}
    kills = 0
    for number in range(ROUNDS):
        prompts = [f"slow {number} {index}" for index in range(JOBS)]
        server = Server(folder, prompts)
        for prompt, job in zip(prompts, server.accepted(), strict=False):
            accepted[job] = prompt
            if len(accepted) % JOBS == JOBS - 1 and number % 2:
                break  # killed while it still accepts
        until = time.monotonic() + WAIT
        while not kills_now(folder, chance) and time.monotonic() < until:
            time.sleep(0.05)
        kills += kill_worker(folder)
        time.sleep(chance.uniform(0, 1.5))
        server.kill()
        published |= {path.parent.name: path.read_bytes() for path in (folder / "out").glob(f"*/{MANIFEST}")}
    assert len(accepted) >= ROUNDS * (JOBS - 1)
    assert kills, "no worker was killed at work, so this proves nothing"
    queue = DurableQueue(folder / "out", "fake_jobs:generate", limits=Limits(attempts=1000))
    try:
        views = {view.id: view for view in queue.jobs("me")}
        assert views.keys() >= accepted.keys()
        for job in views:
            queue.wait(job, "me", WAIT)
        for view in queue.jobs("me"):
            assert view.state is JobState.DONE, (view.state, view.error)
            assert view.request.prompt == accepted.get(view.id, view.request.prompt)
    finally:
        queue.close()
    check_files(folder, {view.id for view in queue.jobs("me")})
    for job, manifest in published.items():
        assert (folder / "out" / job / MANIFEST).read_bytes() == manifest, "it was published twice"


def kills_now(folder: Path, chance: random.Random) -> bool:
    """Some moment while a worker is at a job."""
    return (folder / "control" / "worker").exists() and chance.random() < 0.2


def check_files(folder: Path, jobs: set[str]) -> None:
    """Exactly one whole result of every job, and nothing else."""
    out = folder / "out"
    assert {path.name for path in out.iterdir()} == {".jobs", *jobs}
    for job in jobs:
        assert sorted(file.name for file in (out / job).iterdir()) == [MANIFEST, "video.mp4"]
        manifest = json.loads((out / job / MANIFEST).read_bytes())
        assert manifest["outcome"]["files"][0]["sha256"] == sha256(out / job / "video.mp4")
        assert len(read_video(out / job / "video.mp4").frames) == 17
    making = out / ".jobs" / "making"
    assert not making.exists() or list(making.iterdir()) == []
    assert [file for file in (out / ".jobs" / "work").rglob(".*") if file.is_file()] == []


def test_requests_are_whole_or_not_there(folder: Path) -> None:
    """A request whose pictures were being written when the server was killed is swept away at the next start."""
    half = folder / "out" / ".jobs" / "work" / "never-queued"
    half.mkdir(parents=True)
    (half / "reference_image.png").write_bytes(b"torn")
    queue = DurableQueue(folder / "out", "fake_jobs:generate")
    try:
        assert not half.exists() and queue.jobs("me") == []
        assert queue.view("never-queued", "me") is None
        job = queue.submit(GenerationRequest(prompt="a"), "me")
        view = queue.wait(job, "me", WAIT)
        assert view is not None and view.state is JobState.DONE
    finally:
        queue.close()
