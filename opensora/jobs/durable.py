"""The queue behind the page: jobs in a database, made by a worker process, never lost.

The page's process adds jobs and reads them; it never computes. What it shows is kept in memory and brought up to date
from the database and the worker's files a few times a second, so that asking is cheap however many pages are open.
"""

import contextlib
import functools
import logging
import math
import secrets
import shutil
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

from opensora.jobs import attempt, given, order, views
from opensora.jobs.places import CANCELLED, OPEN, Places, decide
from opensora.jobs.queue import JobState, JobView, QueueFull
from opensora.jobs.retention import Retention, size_of
from opensora.jobs.store import WAITING, JobStore, Record
from opensora.jobs.supervisor import Supervisor
from opensora.jobs.views import Running
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest

log = logging.getLogger(__name__)

REFRESH = 0.2
"""Seconds between two looks at the database while something is unfinished."""
TIDY = 3600.0
"""Seconds between two looks for what is too old, without a job that ends."""


@dataclass(frozen=True)
class Limits:
    """How much is taken on."""

    waiting: int = 32
    """Jobs that may wait in all."""
    waiting_each: int = 16
    """Jobs of one owner that may wait."""
    attempts: int = 3
    """Attempts at a job that ends the worker."""


LIMITS, KEEP_ALL = Limits(), Retention()


class FolderInUse(RuntimeError):
    """Another server works in this output folder."""


class DurableQueue:
    """Jobs of one output folder.

    Args:
        output_dir: folder of the results; the queue itself is in ``.jobs`` below it.
        generate: ``module:function`` with the signature of :class:`opensora.jobs.queue.Generate`, for the worker.
        warm_up: bundled model that the worker loads at once.
        limits: how much is taken on.
        retention: what is deleted in time.

    Raises:
        FolderInUse: another server works in this folder.
    """

    def __init__(
        self,
        output_dir: Path,
        generate: str = "opensora.pipelines.video:generate",
        *,
        warm_up: str | None = None,
        limits: Limits = LIMITS,
        retention: Retention = KEEP_ALL,
    ) -> None:
        self._places, self._limits, self._retention = Places(output_dir), limits, retention
        self._places.work.mkdir(parents=True, exist_ok=True)
        self._lock = _taken(self._places)
        self._store = JobStore(self._places)
        self._writing, self._change = threading.Lock(), threading.Condition()
        self._records = {record.id: record for record in self._store.all()}
        self._running: dict[str, Running] = {}
        self._request = functools.lru_cache(maxsize=4)(self._unpacked)
        self._closed = False
        self._tidied = 0.0
        self._sweep()
        command = [sys.executable, "-m", "opensora.jobs.worker", "--output-dir", str(output_dir.absolute())]
        command += ["--generate", generate, "--attempts", str(limits.attempts)]
        self._worker = Supervisor([*command, *(("--warm-up", warm_up) if warm_up else ())])
        self._thread = threading.Thread(target=self._follow, name="opensora-jobs", daemon=True)
        self._thread.start()

    def submit(self, request: GenerationRequest, owner: str) -> str:
        """Check a request and queue it; returns the job id. From then on the job cannot be lost.

        Raises:
            RuntimeError: the queue was closed.
            RequestError: the request cannot be served or stored; nothing was queued.
            QueueFull: too many jobs wait.
        """
        request = request.validated()
        job_id = secrets.token_urlsafe(16)
        folder = self._places.job(job_id)
        try:
            folder.mkdir()
            (folder / OPEN).touch()
            packed = given.pack(request, folder)
            with self._writing:
                self._check_room(owner)
                self._store.add(job_id, owner, packed, order.next_place(self._records.values(), owner))
                self._reread([job_id])
        except (OSError, SQLAlchemyError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise _not_stored(error) from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job_id

    def view(self, job_id: str, owner: str) -> JobView | None:
        """Snapshot of a job; ``None`` when there is none of that id for that owner."""
        with self._change:
            record = self._records.get(job_id)
            if record is None or record.owner != owner:
                return None
            return replace(self._view(record), request=self._request(job_id))

    def jobs(self, owner: str) -> list[JobView]:
        """All jobs of an owner, newest first; their requests without pictures and clips."""
        with self._change:
            own = [record for record in self._records.values() if record.owner == owner]
            return [self._view(record) for record in sorted(own, key=lambda record: record.created, reverse=True)]

    def cancel(self, job_id: str, owner: str) -> bool:
        """Ask a job to stop; a running one stops within a step. Returns whether there was anything to stop."""
        with self._writing:
            record = self._records.get(job_id)
            if record is None or record.owner != owner or not record.unfinished:
                return False
            folder = self._places.job(job_id)
            if not decide(folder, CANCELLED) and not (folder / CANCELLED).exists():
                return False  # its files are being put into place
            if record.status in WAITING:
                self._store.cancel(job_id)
            self._reread([job_id])
        return True

    def wait(self, job_id: str, owner: str, timeout: float | None = None) -> JobView | None:
        """Block until a job has finished, or for ``timeout`` seconds; returns its snapshot."""
        with self._change:
            self._change.wait_for(
                lambda: job_id not in self._records or not self._records[job_id].unfinished, timeout=timeout
            )
        return self.view(job_id, owner)

    def remove(self, job_id: str, owner: str) -> bool:
        """Forget a finished job and delete its files. Returns whether there was one."""
        with self._writing:
            record = self._records.get(job_id)
            if record is None or record.owner != owner or record.unfinished:
                return False
            self._forget(job_id)
        return True

    def everybodys(self) -> list[JobView]:
        """The jobs of all owners, for counting; their requests without pictures and clips."""
        with self._change:
            return [self._view(record) for record in self._records.values()]

    def trouble(self) -> str | None:
        """Why nothing can be made at present, such as a worker that loads; ``None`` when all is well."""
        since = self._worker.since
        if math.isinf(since):
            return self._worker.trouble or "the worker is being started"
        with contextlib.suppress(OSError):
            if self._places.ready.stat().st_mtime >= since:
                return None
        return "the worker is loading the model"

    def close(self) -> None:
        """Stop the worker. The running job and the waiting ones go on when the folder is served again."""
        with self._change:
            if self._closed:
                return
            self._closed = True
            self._change.notify_all()
        self._worker.stop()
        self._thread.join(timeout=60)
        with self._writing:
            self._store.close()
        self._lock.release()

    def _check_room(self, owner: str) -> None:
        if self._closed:
            raise RuntimeError("the queue is closed")
        waiting = [record for record in self._records.values() if record.status in WAITING]
        own = sum(record.owner == owner for record in waiting)
        if own >= self._limits.waiting_each:
            raise QueueFull(own, own=True)
        if len(waiting) >= self._limits.waiting:
            raise QueueFull(len(waiting))

    def _unpacked(self, job_id: str) -> GenerationRequest:
        packed = self._records[job_id].packed
        try:
            return given.unpack(packed, self._places.job(job_id))
        except RequestError:
            return given.outline(packed)

    def _view(self, record: Record) -> JobView:
        view = views.of(record, self._places, self._running.get(record.id), self._worker)
        if view.state is JobState.QUEUED:
            return replace(view, position=order.ahead(self._records.values(), record))
        return view

    def _reread(self, ids: list[str]) -> bool:
        """Bring jobs up to date; whether one of them has finished."""
        fresh = self._store.some(ids)
        running = {r.id: views.read(self._places.job(r.id), self._running.get(r.id)) for r in fresh if r.unfinished}
        for record in fresh:
            if not record.unfinished:
                attempt.forget(self._places.job(record.id))
        with self._change:
            self._records |= {record.id: record for record in fresh}
            for record in fresh:
                self._running.pop(record.id, None)
            self._running |= running
            self._change.notify_all()
        return len(running) < len(fresh)

    def _follow(self) -> None:
        """Keep what is shown up to date until the queue is closed."""
        ended = True
        while True:
            with self._change:
                unfinished = [record.id for record in self._records.values() if record.unfinished]
                if self._change.wait_for(lambda: self._closed, timeout=REFRESH):
                    return
            try:
                with self._writing:
                    ended |= self._reread(unfinished)
                    if ended or time.monotonic() - self._tidied > TIDY:
                        self._tidy()
                ended = False
            except (OSError, SQLAlchemyError) as error:
                log.warning("the jobs cannot be read: %s; trying again", error)

    def _tidy(self) -> None:
        """Delete what is too old or too much."""
        self._tidied = time.monotonic()
        records = list(self._records.values())
        sizes = {r.id: size_of(self._places.result(r.id)) for r in records if not r.unfinished}
        for job_id in self._retention.expired(records, sizes, time.time()):
            self._forget(job_id)

    def _forget(self, job_id: str) -> None:
        self._places.remove(job_id)
        self._store.delete(job_id)
        with self._change:
            del self._records[job_id]

    def _sweep(self) -> None:
        """Delete what a kill left behind: folders of jobs that were not queued yet, and reports of ended ones."""
        for folder in self._places.work.iterdir():
            record = self._records.get(folder.name)
            if record is None:
                shutil.rmtree(folder, ignore_errors=True)
            elif not record.unfinished:
                attempt.forget(folder)


def _taken(places: Places) -> FileLock:
    """The folder's lock; a server that was just killed may take a moment to let go of it."""
    lock = FileLock(places.server_lock, timeout=5, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise FolderInUse(
            f"Another server works in {places.outputs}. Stop it, or choose another folder for one of them."
        ) from None
    return lock


def _not_stored(error: Exception) -> RequestError:
    log.error("a job could not be stored: %s", error)
    reason = getattr(error, "strerror", None) or "the database cannot be written"
    return RequestError(
        "queue", f"The job was not taken, because it cannot be stored: {reason}. Make room and try again."
    )
