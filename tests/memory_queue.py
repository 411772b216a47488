"""A queue that lives in the test's own process, for tests of the page: the protocol of JobQueue and one thread."""

import secrets
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from opensora.jobs.queue import Generate, JobState, JobView
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import Cancelled, GenerationError, Progress


class MemoryQueue:
    """Makes one job after the other with a generator of the test."""

    def __init__(self, generate: Generate, output_dir: Path) -> None:
        self._generate, self._output_dir = generate, output_dir
        self._jobs: dict[str, JobView] = {}
        self._wishes: dict[str, threading.Event] = {}
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest, owner: str) -> str:
        job = JobView(secrets.token_urlsafe(16), owner, request.validated(), created=time.time())
        self._wishes[job.id] = threading.Event()
        self._update(job)
        return job.id

    def view(self, job_id: str, owner: str) -> JobView | None:
        return next((job for job in self.jobs(owner) if job.id == job_id), None)

    def jobs(self, owner: str) -> list[JobView]:
        with self._change:
            before = [job.id for job in self._jobs.values() if not job.state.finished]
            own = [job for job in reversed(self._jobs.values()) if job.owner == owner]
        return [replace(job, position=before.index(job.id)) if job.state is JobState.QUEUED else job for job in own]

    def cancel(self, job_id: str, owner: str) -> bool:
        job = self.view(job_id, owner)
        if job is None or job.state.finished:
            return False
        self._wishes[job_id].set()
        queued = job.state is JobState.QUEUED
        self._update(replace(job, state=JobState.CANCELLED) if queued else replace(job, stopping=True))
        return True

    def wait(self, job_id: str, owner: str, timeout: float | None = None) -> JobView | None:
        with self._change:
            self._change.wait_for(lambda: self._jobs[job_id].state.finished, timeout)
        return self.view(job_id, owner)

    def remove(self, job_id: str, owner: str) -> bool:
        job = self.view(job_id, owner)
        if job is None or not job.state.finished:
            return False
        with self._change:
            del self._jobs[job_id]
        shutil.rmtree(self._output_dir / job_id, ignore_errors=True)
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
        return {"state": JobState.DONE, "files": tuple(files), "settings": result.settings, "notes": ()}

    def _report(self, job_id: str, told: Progress) -> None:
        job = self._jobs[job_id]
        job = replace(job, stage=told.stage, step=told.step, total=told.total, seconds_left=told.seconds_left)
        job = replace(job, reported=time.time())
        if told.preview is not None:
            job = replace(job, preview=told.preview, preview_number=job.preview_number + 1)
        self._update(job)
