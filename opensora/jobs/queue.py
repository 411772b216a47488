"""What a job is to people, and what a queue of jobs does for a page.

Whoever submits a request keeps the job id and polls :meth:`JobQueue.view`; nothing is lost when a browser tab closes,
because no job belongs to a connection.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from opensora.jobs.order import Move
from opensora.jobs.record import Priority
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import CancelFlag, GenerationResult, Progress
from opensora.sentences import say


class JobState(StrEnum):
    """States that people understand."""

    QUEUED = "queued"
    PAUSED = "paused"
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
    memory: int | None = field(default=None, compare=False)
    """Bytes that the worker holds, see :class:`opensora.pipelines.result.Progress`; ``None`` where it is not known."""
    peak: int | None = field(default=None, compare=False)
    """The most that it held."""
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
    plan: dict[str, Any] | None = field(default=None, compare=False)
    """Where and how it was computed, see :class:`opensora.pipelines.plan.ExecutionPlan`; of a finished job."""
    batch: str | None = None
    """Id that the jobs of a batch share."""
    priority: Priority = Priority.NORMAL
    pinned: bool = False
    """Whether its results are kept whatever the retention says."""
    worker: str | None = None
    """Id of the worker that began the last attempt."""
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

    def __init__(self, waiting: int, own: bool = False, asked: int = 1, most: int = 0) -> None:
        self.waiting, self.own, self.asked = waiting, own, asked
        code = f"queue.full{'.own' if own else ''}{'.more' if asked > 1 else ''}"
        super().__init__("queue", say(code, waiting=waiting, **({"most": most, "asked": asked} if asked > 1 else {})))


class Generate(Protocol):
    """The pipeline's entry point, :func:`opensora.pipelines.video.generate`."""

    def __call__(
        self,
        request: GenerationRequest,
        *,
        on_progress: Callable[[Progress], None],
        cancel: CancelFlag,
        lean: bool = False,
    ) -> GenerationResult: ...


class JobQueue(Protocol):
    """What the page needs of a queue; :class:`opensora.jobs.durable.DurableQueue` is the one behind it.

    Whatever takes an id and an owner answers ``False`` or ``None`` where that owner has no such job, or where the job
    is past that: nothing is guessed, nothing fails.
    """

    @property
    def processes(self) -> int:
        """Processes that make each clip together, for :class:`opensora.pipelines.verdict.Limits`."""
        ...

    def submit(self, request: GenerationRequest, owner: str, priority: Priority = Priority.NORMAL) -> str:
        """Check a request and queue it; returns the job id.

        Args:
            priority: which of the owner's own jobs goes first, so everybody may ask for any: nobody else waits longer
                by it. ``Priority.of("high")`` is that of a word.

        Raises:
            RuntimeError: the queue was closed.
            RequestError: the request cannot be served; nothing was queued.
            QueueFull: too many jobs wait.
        """
        ...

    def submit_batch(
        self, requests: Sequence[GenerationRequest], owner: str, priority: Priority = Priority.NORMAL
    ) -> tuple[str, list[str]]:
        """Check requests and queue all of them or none; returns the batch id and the job ids, in order.

        :func:`opensora.jobs.batch.grid` makes the requests of several seeds or of a small grid of settings.

        Raises: as :meth:`submit`.
        """
        ...

    def batch(self, batch_id: str, owner: str) -> list[JobView]:
        """The jobs of a batch in the order of its requests; none if that owner has no such batch."""
        ...

    def view(self, job_id: str, owner: str) -> JobView | None:
        """Snapshot of a job; ``None`` when there is none of that id for that owner."""
        ...

    def jobs(self, owner: str) -> list[JobView]:
        """All known jobs of an owner, newest first; their requests without pictures and clips."""
        ...

    def cancel(self, job_id: str, owner: str) -> bool:
        """Ask a job to stop; a running one stops within a step. Returns whether there was anything to stop."""
        ...

    def pause(self, job_id: str, owner: str) -> bool:
        """Let a job wait until it is resumed. A running one stops within a step and gives its worker to the next job.

        Nothing half made is kept: when it is resumed the clip is made from its beginning, with the same seed.
        """
        ...

    def resume(self, job_id: str, owner: str) -> bool:
        """Let a paused job have its turn again; it has kept its place."""
        ...

    def pause_queue(self) -> None:
        """Begin nothing until :meth:`resume_queue`, also after a restart. What runs stops within a step and keeps its
        place, and is then made from its beginning."""
        ...

    def resume_queue(self) -> None:
        """Begin jobs again."""
        ...

    def queue_paused(self) -> bool:
        """Whether nothing is begun."""
        ...

    def move(self, job_id: str, owner: str, move: Move) -> bool:
        """Move a waiting job among its owner's own of the same priority; nobody else waits longer by it."""
        ...

    def set_priority(self, job_id: str, owner: str, priority: Priority) -> bool:
        """Let a waiting job go before or behind its owner's others; last among those of its new priority.

        Whether it waits still and has that priority now.
        """
        ...

    def edit(self, job_id: str, owner: str, request: GenerationRequest) -> bool:
        """Replace the request of a job that waits or is paused; it keeps its place. ``False`` if it was begun.

        Raises:
            RequestError: the request cannot be served; the job stays as it was.
        """
        ...

    def pin(self, job_id: str, owner: str, pinned: bool = True) -> bool:
        """Keep a job and its files whatever the retention says, or no longer."""
        ...

    def remove(self, job_id: str, owner: str) -> bool:
        """Forget a finished job and delete its files. Returns whether there was one.

        Raises:
            RequestError: the storage or the database cannot be reached; the job is there as it was.
        """
        ...

    def wait(self, job_id: str, owner: str, timeout: float | None = None) -> JobView | None:
        """Block until a job has finished, or for ``timeout`` seconds; returns its snapshot."""
        ...

    def everybodys(self) -> list[JobView]:
        """The jobs of all owners, for counting; their requests without pictures and clips."""
        ...

    def trouble(self) -> str | None:
        """Why nothing can be made at present, such as a worker that loads; ``None`` when all is well."""
        ...

    def close(self) -> None:
        """Stop; nothing is taken any more."""
        ...
