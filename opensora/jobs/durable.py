"""The queue behind the page: jobs in a database, made by worker processes, never lost.

The page's process adds jobs and reads them; it never computes. What it shows is kept in memory by the mirror, so that
asking is cheap however many pages are open.
"""

import logging
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

from opensora.jobs import given, order
from opensora.jobs.bell import FALLBACK
from opensora.jobs.fleet import Command, Fleet
from opensora.jobs.mirror import Mirror
from opensora.jobs.order import Move
from opensora.jobs.places import Places
from opensora.jobs.queue import JobView, QueueFull
from opensora.jobs.record import Priority, Record
from opensora.jobs.retention import Retention
from opensora.jobs.storage import check_storage, open_storage
from opensora.jobs.store import JobStore, sqlite
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest
from opensora.sentences import say

log = logging.getLogger(__name__)


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
    """Jobs of one output folder; see :class:`opensora.jobs.queue.JobQueue` for what its methods do.

    Args:
        output_dir: folder of the results; the queue itself is in ``.jobs`` below it.
        generate: ``module:function`` with the signature of :class:`opensora.jobs.queue.Generate`, for the workers.
        warm_up: bundled model that the workers load at once.
        limits: how much is taken on.
        retention: what is deleted in time.
        database: address of PostgreSQL, for workers on several machines; ``None`` for a file in ``.jobs``.
        storage: where files go, for fsspec, where the machines share no folder; copies come to ``output_dir``.
        gpus: GPUs of each worker of this machine, such as ``("0", "1")``; ``(None,)`` is one worker on what it finds,
            and ``()`` leaves the work to other machines.
        span: GPUs that make each clip of a worker together, as many processes; processes on a machine without.
        make_fleet: starts the workers of this machine.

    Raises:
        FolderInUse: another server works in this folder.
        ValueError: a storage that cannot be used.
    """

    def __init__(
        self,
        output_dir: Path,
        generate: str = "opensora.pipelines.video:generate",
        *,
        warm_up: str | None = None,
        limits: Limits = LIMITS,
        retention: Retention = KEEP_ALL,
        database: str | None = None,
        storage: str | None = None,
        gpus: Sequence[str | None] = (None,),
        span: int = 1,
        make_fleet: Callable[[Command, Sequence[str | None], str], Fleet] = Fleet,
    ) -> None:
        self._places, self._limits, self._span = Places(output_dir), limits, span
        self._places.work.mkdir(parents=True, exist_ok=True)
        self._storage = open_storage(self._places, storage)
        check_storage(self._storage, storage)
        self._lock = _taken(self._places)
        self._store = JobStore(database or sqlite(self._places.database), lambda: self._fleet.wake())
        try:
            self._claim()
            command = Command(output_dir, generate, limits.attempts, warm_up, database, storage, span)
            prefix = "worker" if database is None else f"{socket.gethostname()}-worker"
            self._fleet = make_fleet(command, gpus, prefix)
        except BaseException:
            self._store.close()
            self._lock.release()
            raise
        self._jobs = Mirror(self._places, self._storage, self._store, self._fleet, retention)
        self._writing = self._jobs.writing

    @property
    def processes(self) -> int:
        """Processes that make each clip together."""
        return self._span

    def submit(self, request: GenerationRequest, owner: str, priority: Priority = Priority.NORMAL) -> str:
        """Check a request and queue it; returns the job id. From then on the job cannot be lost."""
        return self._add([request], owner, priority, None)[0]

    def submit_batch(
        self, requests: Sequence[GenerationRequest], owner: str, priority: Priority = Priority.NORMAL
    ) -> tuple[str, list[str]]:
        """Check requests and queue all of them or none; returns the batch id and the job ids."""
        if not requests:
            raise RequestError("batch", say("batch.none"))
        batch = secrets.token_urlsafe(12)
        return batch, self._add(requests, owner, priority, batch)

    def view(self, job_id: str, owner: str) -> JobView | None:
        """Snapshot of a job; ``None`` when there is none of that id for that owner."""
        with self._jobs.change:
            record = self._jobs.own(job_id, owner)
            return (
                None
                if record is None
                else replace(self._jobs.view(record), request=self._jobs.request(job_id, record.revision))
            )

    def jobs(self, owner: str) -> list[JobView]:
        """All jobs of an owner, newest first; their requests without pictures and clips."""
        with self._jobs.change:
            own = [record for record in self._jobs.records.values() if record.owner == owner]
            return [self._jobs.view(record) for record in sorted(own, key=lambda record: record.created, reverse=True)]

    def batch(self, batch_id: str, owner: str) -> list[JobView]:
        """The jobs of a batch in the order of its requests."""
        return [view for view in reversed(self.jobs(owner)) if view.batch == batch_id]

    def everybodys(self) -> list[JobView]:
        """The jobs of all owners, for counting; their requests without pictures and clips."""
        with self._jobs.change:
            return [self._jobs.view(record) for record in self._jobs.records.values()]

    def cancel(self, job_id: str, owner: str) -> bool:
        """Ask a job to stop; a running one stops within a step. Returns whether there was anything to stop."""
        return self._changed(
            job_id, owner, lambda r: r.unfinished and (self._store.cancel(r) or self._is_stopping(job_id))
        )

    def pause(self, job_id: str, owner: str) -> bool:
        """Let a job wait until it is resumed; a running one stops within a step and is later made anew."""
        return self._changed(job_id, owner, self._store.pause)

    def resume(self, job_id: str, owner: str) -> bool:
        """Let a paused job have its turn again."""
        return self._changed(job_id, owner, self._store.resume)

    def pause_queue(self) -> None:
        """Begin nothing; what runs stops within a step and goes back to its place."""
        self._hold(True)

    def resume_queue(self) -> None:
        """Begin jobs again."""
        self._hold(False)

    def queue_paused(self) -> bool:
        """Whether nothing is begun."""
        return self._store.board.held()

    def move(self, job_id: str, owner: str, move: Move) -> bool:
        """Move a waiting job among its owner's own."""

        def change(record: Record) -> bool:
            if not record.waiting:
                return False
            self._move(order.moved(self._jobs.records.values(), record, move))
            return True

        return self._changed(job_id, owner, change)

    def set_priority(self, job_id: str, owner: str, priority: Priority) -> bool:
        """Let a waiting job go before or behind its owner's others."""

        def change(record: Record) -> bool:
            if not record.waiting or record.priority == priority:
                return record.waiting
            known = {**self._jobs.records, job_id: replace(record, priority=priority)}
            places = order.by_priority(known.values(), owner, last=job_id)
            done = self._store.move(record, priority, places.pop(job_id, record.place))
            if done:
                self._move(places)
            return done

        return self._changed(job_id, owner, change)

    def edit(self, job_id: str, owner: str, request: GenerationRequest) -> bool:
        """Replace the request of a job that waits or is paused."""
        request = request.validated()

        def change(record: Record) -> bool:
            if not record.waiting:
                return False
            revision = record.revision + 1
            folder = self._places.given(job_id, revision)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            packed = given.pack(request, folder)
            self._storage.keep_given(job_id, revision)
            return self._store.edit(job_id, packed, revision)

        try:
            return self._changed(job_id, owner, change)
        except (OSError, SQLAlchemyError) as error:
            raise _not_stored(error) from error

    def pin(self, job_id: str, owner: str, pinned: bool = True) -> bool:
        """Keep a job and its files whatever the retention says, or no longer."""
        return self._changed(job_id, owner, lambda record: self._store.board.pin(record.id, pinned))

    def remove(self, job_id: str, owner: str) -> bool:
        """Forget a finished job and delete its files. Returns whether there was one."""
        with self._writing:
            record = self._jobs.own(job_id, owner)
            if record is None or record.unfinished:
                return False
            try:
                self._jobs.forget(record)
            except (OSError, SQLAlchemyError) as error:
                log.error("job %s could not be deleted: %s", job_id, error)
                raise RequestError("queue", say("queue.undeleted", reason=_reason(error))) from error
        return True

    def wait(self, job_id: str, owner: str, timeout: float | None = None) -> JobView | None:
        """Block until a job has finished, or for ``timeout`` seconds; returns its snapshot."""
        with self._jobs.change:
            self._jobs.change.wait_for(
                lambda: job_id not in self._jobs.records or not self._jobs.records[job_id].unfinished, timeout=timeout
            )
        return self.view(job_id, owner)

    def trouble(self) -> str | None:
        """Why nothing can be made at present, such as a worker that loads; ``None`` when all is well."""
        if self.queue_paused():
            return say("queue.held")
        reasons = [self._fleet.trouble(self._places, name) for name in self._fleet.names]
        if reasons:
            return None if None in reasons else reasons[0]
        return None if self._store.board.alive(2 * FALLBACK) else say("worker.none")

    def close(self) -> None:
        """Stop the workers. The running jobs and the waiting ones go on when the folder is served again."""
        if not self._jobs.close():
            return
        self._fleet.stop()
        self._jobs.join()
        with self._writing:
            self._store.close()
        self._lock.release()

    def _claim(self) -> None:
        """Be the only server of the database, and let its queue be as it was left."""
        if not self._store.claim():
            raise FolderInUse("Another server uses this database. Stop it, or give one of them another database.")

    def _add(
        self, requests: Sequence[GenerationRequest], owner: str, priority: Priority, batch: str | None
    ) -> list[str]:
        checked = [request.validated() for request in requests]
        ids = [secrets.token_urlsafe(16) for _ in checked]
        try:
            packed = []
            for job_id, request in zip(ids, checked, strict=True):
                folder = self._places.given(job_id, 0)
                folder.mkdir(parents=True)
                packed.append(given.pack(request, folder))
                self._storage.keep_given(job_id, 0)
            with self._writing:
                self._check_room(owner, len(ids))
                fresh, others = self._placed(ids, packed, owner, priority, batch)
                self._store.add(fresh)
                self._jobs.reread(ids)
                self._move(others)
        except (OSError, SQLAlchemyError) as error:
            self._discard(ids)
            raise _not_stored(error) from error
        except BaseException:
            self._discard(ids)
            raise
        return ids

    def _placed(
        self, ids: list[str], packed: list[dict[str, object]], owner: str, priority: Priority, batch: str | None
    ) -> tuple[list[Record], dict[str, int]]:
        """Records of new jobs, each with its place, and new places of the owner's others that they go before."""
        known, now = list(self._jobs.records.values()), time.time()
        fresh: list[Record] = []
        for index, (job_id, request) in enumerate(zip(ids, packed, strict=True)):
            place = order.next_place([*known, *fresh], owner)
            created = now + index * 1e-6
            fresh.append(Record(job_id, owner, request, created, batch=batch, priority=priority, place=place))
        places = order.by_priority([*known, *fresh], owner)
        return [replace(record, place=places.pop(record.id, record.place)) for record in fresh], places

    def _move(self, places: dict[str, int]) -> None:
        """Give waiting jobs other places. The caller holds ``writing``."""
        for job_id, place in places.items():
            record = self._jobs.records[job_id]
            self._store.move(record, record.priority, place)
        self._jobs.reread(list(places))

    def _discard(self, ids: list[str]) -> None:
        """Delete what was written for jobs that were not queued."""
        queued = {record.id for record in self._store.board.some(ids)}
        for job_id in ids:
            if job_id not in queued:
                try:
                    self._storage.remove(job_id)
                except OSError as error:  # the reason why the job was not queued is said
                    log.warning("what was stored for job %s stays: %s", job_id, error)

    def _check_room(self, owner: str, count: int) -> None:
        if self._jobs.closed:
            raise RuntimeError("the queue is closed")
        waiting = [record for record in self._jobs.records.values() if record.waiting]
        own = sum(record.owner == owner for record in waiting)
        if own + count > self._limits.waiting_each:
            raise QueueFull(own, own=True, asked=count, most=self._limits.waiting_each)
        if len(waiting) + count > self._limits.waiting:
            raise QueueFull(len(waiting), asked=count, most=self._limits.waiting)

    def _changed(self, job_id: str, owner: str, change: Callable[[Record], bool]) -> bool:
        """Change a job, and show it; whether there was anything to change."""
        with self._writing:
            record = self._jobs.own(job_id, owner)
            if record is None:
                return False
            done = change(record)
            self._jobs.reread([job_id])
        return done

    def _is_stopping(self, job_id: str) -> bool:
        return any(record.stopping for record in self._store.board.some([job_id]))

    def _hold(self, held: bool) -> None:
        with self._writing:
            self._store.hold(held)
            self._jobs.reread([record.id for record in self._jobs.records.values() if record.unfinished])


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
    return RequestError("queue", say("queue.unstored", reason=_reason(error)))


def _reason(error: Exception) -> str:
    """Why files or the database could not be changed, without their addresses."""
    reason: str = getattr(error, "strerror", None) or say("queue.database")
    return reason
