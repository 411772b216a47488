"""A queue that lives in the test's own process, for tests of the page: the protocol of JobQueue and one thread."""

import hashlib
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opensora.jobs.queue import Generate, JobState, JobView
from opensora.jobs.record import Priority
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import Cancelled, GenerationError, Progress


class MemoryQueue:
    """Makes one job after the other with a generator of the test. Every change is made under the lock, whole."""

    processes = 1

    def __init__(self, generate: Generate, output_dir: Path) -> None:
        self._generate, self._output_dir = generate, output_dir
        self._jobs: dict[str, JobView] = {}
        self._wishes: dict[str, threading.Event] = {}
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest, owner: str, priority: Priority = Priority.NORMAL) -> str:
        job = JobView(secrets.token_urlsafe(16), owner, request.validated(), created=time.time(), priority=priority)
        return self._add(job)

    def view(self, job_id: str, owner: str) -> JobView | None:
        return next((job for job in self.jobs(owner) if job.id == job_id), None)

    def jobs(self, owner: str) -> list[JobView]:
        with self._change:
            before = [job.id for job in self._jobs.values() if not job.state.finished]
            own = [job for job in reversed(self._jobs.values()) if job.owner == owner]
        return [replace(job, position=before.index(job.id)) if job.state is JobState.QUEUED else job for job in own]

    def cancel(self, job_id: str, owner: str) -> bool:
        with self._change:
            job = self.view(job_id, owner)
            if job is None or job.state.finished:
                return False
            queued = job.state is JobState.QUEUED
            self._update(replace(job, state=JobState.CANCELLED) if queued else replace(job, stopping=True))
            self._wishes[job_id].set()
        return True

    def wait(self, job_id: str, owner: str, timeout: float | None = None) -> JobView | None:
        with self._change:
            self._change.wait_for(lambda: self._jobs[job_id].state.finished, timeout)
        return self.view(job_id, owner)

    def remove(self, job_id: str, owner: str) -> bool:
        with self._change:
            job = self.view(job_id, owner)
            if job is None or not job.state.finished:
                return False
            del self._jobs[job_id]
        shutil.rmtree(self._output_dir / job_id, ignore_errors=True)
        return True

    def submit_batch(self, requests: Sequence[GenerationRequest], owner: str) -> tuple[str, list[str]]:
        batch = secrets.token_urlsafe(16)
        checked = [request.validated() for request in requests]
        ids = [
            self._add(JobView(secrets.token_urlsafe(16), owner, r, created=time.time(), batch=batch)) for r in checked
        ]
        return batch, ids

    def batch(self, batch_id: str, owner: str) -> list[JobView]:
        return [job for job in reversed(self.jobs(owner)) if job.batch == batch_id]

    def pause(self, job_id: str, owner: str) -> bool:
        return self._turned(job_id, owner, JobState.QUEUED, JobState.PAUSED)

    def resume(self, job_id: str, owner: str) -> bool:
        return self._turned(job_id, owner, JobState.PAUSED, JobState.QUEUED)

    def move(self, job_id: str, owner: str, move: str) -> bool:
        with self._change:
            waiting = [job for job in self._jobs.values() if job.owner == owner and job.state is JobState.QUEUED]
            place = next((i for i, job in enumerate(waiting) if job.id == job_id), None)
            other = None if place is None else place + {"up": -1, "down": 1}[move]
            if place is None or other is None or not 0 <= other < len(waiting):
                return False
            order = list(self._jobs)
            a, b = (order.index(waiting[i].id) for i in (place, other))
            order[a], order[b] = order[b], order[a]
            self._jobs = {job_id: self._jobs[job_id] for job_id in order}
        return True

    def edit(self, job_id: str, owner: str, request: GenerationRequest) -> bool:
        with self._change:
            job = self.view(job_id, owner)
            if job is None or job.state not in (JobState.QUEUED, JobState.PAUSED):
                return False
            self._update(replace(job, request=request.validated()))
        return True

    def pin(self, job_id: str, owner: str, pinned: bool = True) -> bool:
        with self._change:
            job = self.view(job_id, owner)
            if job is None:
                return False
            self._update(replace(job, pinned=pinned))
        return True

    def everybodys(self) -> list[JobView]:
        with self._change:
            return list(self._jobs.values())

    def trouble(self) -> str | None:
        return "the queue was closed" if self._closed else None

    def close(self) -> None:
        self._closed = True
        for wish in self._wishes.values():
            wish.set()
        with self._change:
            self._change.notify_all()
        self._thread.join(timeout=60)

    def _add(self, job: JobView) -> str:
        self._wishes[job.id] = threading.Event()
        self._update(job)
        return job.id

    def _turned(self, job_id: str, owner: str, before: JobState, after: JobState) -> bool:
        with self._change:
            job = self.view(job_id, owner)
            if job is None or job.state is not before:
                return False
            self._update(replace(job, state=after))
        return True

    def _update(self, job: JobView) -> None:
        with self._change:
            self._jobs[job.id] = job
            self._change.notify_all()

    def _next(self) -> JobView | None:
        return next((job for job in self._jobs.values() if job.state is JobState.QUEUED), None)

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._next() is not None)
                job = self._next()
                if self._closed or job is None:
                    return
                self._update(replace(job, state=JobState.RUNNING, started=time.time(), stage="starting"))
            ending = self._made(job.id)
            with self._change:
                self._update(replace(self._jobs[job.id], stopping=False, finished=time.time(), preview=None, **ending))

    def _made(self, job_id: str) -> dict[str, Any]:
        try:
            result = self._generate(
                self._jobs[job_id].request,
                on_progress=lambda progress: self._report(job_id, progress),
                cancel=self._wishes[job_id],
            )
            files = result.save(self._output_dir / job_id / "video")
        except Cancelled:
            return {"state": JobState.CANCELLED}
        except GenerationError as error:
            return {"state": JobState.FAILED, "error": str(error)}
        except Exception:
            return {"state": JobState.FAILED, "error": "an unexpected error"}
        return {
            "state": JobState.DONE,
            "files": tuple(files),
            "settings": result.settings,
            "notes": (),
            "sha256": _hashes(files),
        }

    def _report(self, job_id: str, told: Progress) -> None:
        with self._change:
            job = self._jobs[job_id]
            job = replace(job, stage=told.stage, step=told.step, total=told.total, seconds_left=told.seconds_left)
            job = replace(job, reported=time.time())
            if told.preview is not None:
                job = replace(job, preview=told.preview, preview_number=job.preview_number + 1)
            self._update(job)


def _hashes(files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
