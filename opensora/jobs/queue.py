"""A queue of generation jobs with one worker thread.

The page (or any other caller) submits a request, keeps the job id and polls :meth:`JobQueue.view`; nothing is lost when
a browser tab closes, because no job belongs to a connection. Jobs live as long as the process.
"""

import logging
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import CancelFlag, Cancelled, GenerationError, GenerationResult, Progress, SaveError

log = logging.getLogger(__name__)


class JobState(StrEnum):
    """States that people understand."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether the job will change no more."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class JobView:
    """A snapshot of one job."""

    id: str
    owner: str
    request: GenerationRequest
    state: JobState = JobState.QUEUED
    position: int = 0
    """Jobs in front of this one; 0 for the next and for one that runs."""
    stage: str = ""
    step: int = 0
    total: int = 0
    seconds_left: float | None = None
    """As it was when the generation last reported; ``None`` while nothing is known."""
    reported: float = 0.0
    """When the generation last reported."""
    stopping: bool = False
    """Whether it was asked to stop and has not yet."""
    preview: np.ndarray | None = field(default=None, repr=False, compare=False)
    """uint8 (H, W, 3) or (T, H, W, 3) preview of the forming frames."""
    preview_number: int = 0
    """Grows with every new preview, so that a page redraws only when there is something new."""
    files: tuple[Path, ...] = ()
    settings: dict[str, Any] | None = None
    """What was really used, seed included."""
    notes: tuple[str, ...] = ()
    error: str | None = None
    attempts: int = 0
    """How often it was begun."""
    timings: dict[str, float] = field(default_factory=dict, compare=False)
    """Seconds of every stage of a finished job."""
    sha256: tuple[str, ...] = ()
    """Hash of every file."""
    created: float = 0.0
    started: float | None = None
    finished: float | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds of work so far; ``None`` before the start."""
        return None if self.started is None else (self.finished or time.time()) - self.started

    @property
    def seconds_left_now(self) -> float | None:
        """Seconds left, counted down since the last report."""
        if self.seconds_left is None:
            return None
        return max(0.0, self.seconds_left - max(0.0, time.time() - self.reported))


class QueueFull(RequestError):
    """No more jobs are taken for now."""

    def __init__(self, waiting: int, own: bool = False) -> None:
        self.waiting, self.own = waiting, own
        which = f"{waiting} of your jobs" if own else f"{waiting} jobs"
        cancel = " or were cancelled" if own else ""
        super().__init__("queue", f"{which} are waiting already; try again when some of them have finished{cancel}.")


class Generate(Protocol):
    """The pipeline's entry point, :func:`opensora.pipelines.video.generate`."""

    def __call__(
        self, request: GenerationRequest, *, on_progress: Callable[[Progress], None], cancel: CancelFlag
    ) -> GenerationResult: ...


class JobQueue:
    """Runs jobs one after the other in a thread of its own.

    Args:
        generate: makes the result of a request, reporting progress and honouring the cancel flag within a step.
        output_dir: folder for the files; each job has a folder named by its unguessable id.
        max_waiting: jobs that may wait at once.
        keep: finished jobs remembered (their files stay on disk).
    """

    def __init__(self, generate: Generate, output_dir: Path, max_waiting: int = 32, keep: int = 200) -> None:
        self._generate, self._output_dir = generate, output_dir
        self._max_waiting, self._keep = max_waiting, keep
        self._jobs: OrderedDict[str, JobView] = OrderedDict()
        self._cancel: dict[str, threading.Event] = {}
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="opensora-worker", daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest, owner: str) -> str:
        """Check a request and queue it; returns the job id.

        Raises:
            RuntimeError: the queue was closed.
            RequestError: the request cannot be served; nothing was queued.
            QueueFull: too many jobs wait.
        """
        request = request.validated()
        with self._change:
            if self._closed:
                raise RuntimeError("the queue is closed")
            waiting = sum(job.state is JobState.QUEUED for job in self._jobs.values())
            if waiting >= self._max_waiting:
                raise QueueFull(waiting)
            job = JobView(id=secrets.token_urlsafe(16), owner=owner, request=request, created=time.time())
            self._jobs[job.id] = job
            self._cancel[job.id] = threading.Event()
            self._forget_oldest()
            self._change.notify_all()
        return job.id

    def view(self, job_id: str, owner: str) -> JobView | None:
        """Snapshot of a job; ``None`` when there is none of that id for that owner."""
        with self._change:
            job = self._jobs.get(job_id)
            return self._placed(job) if job is not None and job.owner == owner else None

    def jobs(self, owner: str) -> list[JobView]:
        """All remembered jobs of an owner, newest first."""
        with self._change:
            return [self._placed(job) for job in reversed(self._jobs.values()) if job.owner == owner]

    def cancel(self, job_id: str, owner: str) -> bool:
        """Ask a job to stop; a running one stops within a step. Returns whether there was anything to stop."""
        with self._change:
            job = self._jobs.get(job_id)
            if job is None or job.owner != owner or job.state.finished:
                return False
            self._cancel[job_id].set()
            if job.state is JobState.QUEUED:
                self._jobs[job_id] = replace(job, state=JobState.CANCELLED, finished=time.time())
            else:
                self._jobs[job_id] = replace(job, stopping=True)
            self._change.notify_all()
        return True

    def wait(self, job_id: str, owner: str, timeout: float | None = None) -> JobView | None:
        """Block until a job has finished, or for ``timeout`` seconds; returns its snapshot."""
        with self._change:
            self._change.wait_for(
                lambda: job_id not in self._jobs or self._jobs[job_id].state.finished, timeout=timeout
            )
        return self.view(job_id, owner)

    def close(self) -> None:
        """Stop the worker; the running job is cancelled and waiting ones stay unserved."""
        with self._change:
            self._closed = True
            for flag in self._cancel.values():
                flag.set()
            self._change.notify_all()
        self._thread.join(timeout=60)

    def _placed(self, job: JobView) -> JobView:
        if job.state is not JobState.QUEUED:
            return job
        ahead = 0
        for other in self._jobs.values():
            if other.id == job.id:
                break
            ahead += not other.state.finished
        return replace(job, position=ahead)

    def _forget_oldest(self) -> None:
        finished = [job.id for job in self._jobs.values() if job.state.finished]
        for job_id in finished[: max(0, len(finished) - self._keep)]:
            del self._jobs[job_id], self._cancel[job_id]

    def _update(self, job_id: str, **changes: Any) -> None:
        with self._change:
            self._jobs[job_id] = replace(self._jobs[job_id], **changes)
            self._change.notify_all()

    def _next(self) -> JobView | None:
        """Wait for a queued job and mark it as running; ``None`` when the queue is closed."""
        with self._change:
            while not self._closed:
                for job in self._jobs.values():
                    if job.state is JobState.QUEUED:
                        running = replace(job, state=JobState.RUNNING, started=time.time(), stage="starting")
                        self._jobs[job.id] = running
                        return running
                self._change.wait()
        return None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._run(job)
            except Cancelled:
                self._end(job.id, JobState.CANCELLED)
            except (RequestError, GenerationError) as error:
                self._end(job.id, JobState.FAILED, str(error))
            except Exception:
                log.exception("job %s failed", job.id)
                message = "Generation stopped because of an unexpected error; the server's log has the details."
                self._end(job.id, JobState.FAILED, message)

    def _end(self, job_id: str, state: JobState, error: str | None = None) -> None:
        self._update(job_id, state=state, finished=time.time(), error=error, preview=None, stopping=False)

    def _run(self, job: JobView) -> None:
        def on_progress(progress: Progress) -> None:
            changes: dict[str, Any] = {
                "stage": progress.stage,
                "step": progress.step,
                "total": progress.total,
                "seconds_left": progress.seconds_left,
                "reported": time.time(),
            }
            if progress.preview is not None:
                changes["preview"] = progress.preview
                changes["preview_number"] = self._jobs[job.id].preview_number + 1
            self._update(job.id, **changes)

        result = self._generate(job.request, on_progress=on_progress, cancel=self._cancel[job.id])
        self._update(job.id, stage="saving", step=0, total=0)
        files = self._save(job, result)
        self._update(
            job.id,
            state=JobState.DONE,
            stopping=False,
            finished=time.time(),
            files=tuple(files),
            settings=result.settings,
            notes=tuple(result.notes),
            preview=None,
            seconds_left=0.0,
        )

    def _save(self, job: JobView, result: GenerationResult) -> list[Path]:
        """Write the files into the job's own folder; leaves nothing behind when that fails."""
        folder = self._output_dir / job.id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return result.save(folder / "video")
        except (OSError, SaveError) as error:  # the words of a SaveError name the server's folder
            shutil.rmtree(folder, ignore_errors=True)
            cause = error.__cause__ if isinstance(error, SaveError) else error
            reason = getattr(cause, "strerror", None) or "writing failed"
            raise GenerationError(
                "saving",
                f"The clip was made but could not be written to the output folder: {reason}. "
                "Make room or give the server another --output-dir, then generate it again.",
            ) from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
