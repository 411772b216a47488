"""The jobs as the page sees them: in memory, brought up to date from the database while something is unfinished."""

import functools
import logging
import shutil
import threading
import time
from dataclasses import replace

from sqlalchemy.exc import SQLAlchemyError

from opensora.jobs import given, order, views
from opensora.jobs.fleet import Fleet
from opensora.jobs.places import Places
from opensora.jobs.queue import JobState, JobView
from opensora.jobs.record import Record
from opensora.jobs.retention import Retention, size_of
from opensora.jobs.storage import Storage
from opensora.jobs.store import JobStore
from opensora.jobs.views import Running
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest

log = logging.getLogger(__name__)

REFRESH = 0.2
"""Seconds between two looks at the database while something is unfinished."""
MEND = 5.0
"""Seconds between two looks for jobs that no worker has, while something is unfinished."""
FETCH = 10.0
"""Seconds until files are asked for again that could not be had."""
TIDY = 3600.0
"""Seconds between two looks for what is too old, without a job that ends."""


class Mirror:
    """Records and reports of all jobs, and the thread that keeps them up to date.

    Args:
        places, storage, store, fleet: where the jobs are and who makes them.
        retention: what is deleted in time.
    """

    def __init__(self, places: Places, storage: Storage, store: JobStore, fleet: Fleet, retention: Retention) -> None:
        self._places, self._storage, self._store, self._fleet = places, storage, store, fleet
        self._retention = retention
        self.writing = threading.Lock()
        """Held by whoever changes jobs."""
        self.change = threading.Condition()
        """Held by whoever reads them; told of every change."""
        self.records = {record.id: record for record in store.board.all()}
        self.closed = False
        self._running: dict[str, Running] = {}
        self.request = functools.lru_cache(maxsize=4)(self._unpacked)
        """The request of a job's revision, with what it was given."""
        self._shown: dict[str, tuple[Record, JobView]] = {}
        """Snapshots of jobs that have ended, with the record that each shows."""
        self._unfetched: dict[str, float] = {}
        """When the files of a job are asked for again that could not be had."""
        self._absent = [r.id for r in self.records.values() if self._storage.lacks(r.id, r.outcome)]
        self._tidied = self._mended = 0.0
        self._ended = True
        self._sweep()
        store.mend(spared=fleet.names)
        self._thread = threading.Thread(target=self._follow, name="opensora-jobs", daemon=True)
        self._thread.start()

    def own(self, job_id: str, owner: str) -> Record | None:
        """A job of that owner."""
        record = self.records.get(job_id)
        return record if record is not None and record.owner == owner else None

    def view(self, record: Record) -> JobView:
        """Snapshot of a job; its request without pictures and clips. That of a job that has ended is made once, until
        its record changes: every poll of every page asks for all of them."""
        known = self._shown.get(record.id)
        if known is not None and known[0] is record:
            return known[1]
        view = views.of(record, self._places, self._running.get(record.id), self._fleet)
        if view.state is JobState.QUEUED:
            return replace(view, position=order.ahead(self.records.values(), record))
        if not record.unfinished:
            self._shown[record.id] = record, view
        return view

    def reread(self, ids: list[str]) -> bool:
        """Bring jobs up to date; whether one of them has finished. The caller holds ``writing``."""
        fresh = [record for record in self._store.board.some(ids) if self._fetched(record)]
        running = views.read(self._store.board, [r.id for r in fresh if r.running], self._running)
        with self.change:
            self.records |= {record.id: record for record in fresh}
            for record in fresh:
                self._running.pop(record.id, None)
            self._running |= running
            self.change.notify_all()
        return any(not record.unfinished for record in fresh)

    def _fetched(self, record: Record) -> bool:
        """Bring a finished job's files here; whether they are. One that waits for them goes on as it was."""
        if record.outcome is None or not record.outcome.get("files"):
            return True
        if self._unfetched.get(record.id, 0.0) > time.monotonic():
            return False
        try:
            self._storage.fetch(record.id, record.outcome)
        except OSError as error:
            log.warning("the files of job %s cannot be fetched: %s; trying again", record.id, error)
            self._unfetched[record.id] = time.monotonic() + FETCH
            return False
        self._unfetched.pop(record.id, None)
        return True

    def _fetch_next(self) -> None:
        """Bring back one of the results that are not here any more, as where the server got another disk."""
        for record in (self.records[job_id] for job_id in self._absent if job_id in self.records):
            if self._unfetched.get(record.id, 0.0) <= time.monotonic():
                if self._fetched(record):
                    self._absent.remove(record.id)
                return

    def forget(self, record: Record) -> None:
        """Delete a job and its files. The caller holds ``writing``.

        Raises:
            OSError: the storage cannot be reached; nothing was deleted.
            SQLAlchemyError: the database cannot be reached.
        """
        self._store.board.some([record.id])  # fails before anything is deleted
        self._storage.remove(record.id)
        self._store.delete(record)
        with self.change:
            del self.records[record.id]
            self._shown.pop(record.id, None)

    def close(self) -> bool:
        """Follow no more; whether it did until now."""
        with self.change:
            before, self.closed = self.closed, True
            self.change.notify_all()
        return not before

    def join(self) -> None:
        """Wait for the thread after :meth:`close`."""
        self._thread.join(timeout=60)

    def _unpacked(self, job_id: str, revision: int) -> GenerationRequest:
        packed = self.records[job_id].packed
        try:
            return given.unpack(packed, self._places.given(job_id, revision))
        except RequestError:
            return given.outline(packed)

    def _follow(self) -> None:
        """Keep everything up to date until the queue is closed."""
        while True:
            with self.change:
                self.change.wait_for(lambda: self.closed or self._ended or self._is_busy(), timeout=TIDY)
                if self.change.wait_for(lambda: self.closed, timeout=REFRESH):
                    return
                unfinished = [record.id for record in self.records.values() if record.unfinished]
            try:
                with self.writing:
                    self._mend(unfinished)
                    self._ended |= self.reread(unfinished)
                    self._fetch_next()
                    if self._ended or time.monotonic() - self._tidied > TIDY:
                        self._tidy()
                self._ended = False
            except (OSError, SQLAlchemyError) as error:
                log.warning("the jobs cannot be read: %s; trying again", error)

    def _is_busy(self) -> bool:
        if any(self._unfetched.get(job_id, 0.0) <= time.monotonic() for job_id in self._absent):
            return True
        return any(record.unfinished and not record.paused for record in self.records.values())

    def _mend(self, unfinished: list[str]) -> None:
        if unfinished and time.monotonic() - self._mended > MEND:
            self._mended = time.monotonic()
            self._store.mend(spared=self._fleet.names)

    def _tidy(self) -> None:
        """Delete what is too old or too much."""
        self._tidied = time.monotonic()
        records = list(self.records.values())
        sizes = {r.id: size_of(self._places.result(r.id)) for r in records if not r.unfinished}
        for job_id in self._retention.expired(records, sizes, time.time()):
            try:
                self.forget(self.records[job_id])
            except OSError as error:
                log.warning("job %s is too old or too much, and cannot be deleted: %s", job_id, error)
                return  # the next look asks again

    def _sweep(self) -> None:
        """Delete what was left behind: folders of jobs that were not queued yet, tickets of jobs that were deleted."""
        for folder in self._places.work.iterdir():
            if folder.name not in self.records:
                shutil.rmtree(folder, ignore_errors=True)
        self._store.sweep(self.records)
