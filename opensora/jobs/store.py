"""Board and tickets together: every change of a job that people or machines ask for, safe to break off anywhere.

The board changes first, the tickets after it. Whatever is broken off in between is put right by :meth:`JobStore.mend`,
which the server does when it starts and both sides do while anything is unfinished.
"""

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from opensora.jobs.board import Board, engine_of
from opensora.jobs.record import OPEN, Record
from opensora.jobs.tickets import Tickets

log = logging.getLogger(__name__)

DEAD = 30.0
"""Seconds without a word after which a worker is thought dead."""
BEAT = 5.0
"""Seconds between two words of a worker that is at work."""
SERVER = 0x0FE5_50FA
"""Number of the lock that PostgreSQL keeps for the server."""
CHANNEL = "opensora_jobs"
"""What PostgreSQL's NOTIFY wakes waiting workers by."""


def sqlite(database: Path) -> str:
    """Address of a database file."""
    return f"sqlite:///{database.absolute()}"


class JobStore:
    """Adds, changes and hands out jobs.

    Args:
        url: of the database, ``sqlite:///…`` or ``postgresql://…``.
        wake: tells the workers of this machine that there is something to do.
    """

    def __init__(self, url: str, wake: Callable[[], None] | None = None) -> None:
        self.board = Board(url)
        self._tickets = Tickets(url)
        self._wake = wake or (lambda: None)
        self._bell = None if url.startswith("sqlite") else engine_of(url)
        self._claimed: sa.Connection | None = None

    def claim(self) -> bool:
        """Be the one server of the database while this is open; whether there was none. A file has a lock beside it."""
        if self._bell is None:
            return True
        self._claimed = self._bell.connect()
        return bool(self._claimed.execute(sa.select(sa.func.pg_try_advisory_lock(SERVER))).scalar())

    def ring(self) -> None:
        """Wake the workers that wait."""
        self._wake()
        if self._bell is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError), self._bell.begin() as db:
                db.execute(sa.select(sa.func.pg_notify(CHANNEL, "")))

    def add(self, records: Sequence[Record]) -> None:
        """Queue jobs, all or none. When this returns they cannot be lost."""
        self.board.add(records)
        for record in records:
            self._tickets.hand_out(record)
        self.ring()

    def cancel(self, record: Record) -> bool:
        """Decide that a job is cancelled; whether there was anything to stop."""
        if not self.board.cancel(record.id):
            return False
        for ended in self.board.some([record.id]):
            if not ended.unfinished:
                self._tickets.withdraw(ended.id, ended.ticket)  # which a worker may have changed since it was read
        return True

    def pause(self, record: Record) -> bool:
        """Let a job wait until it is resumed; a running attempt ends without result."""
        if not self.board.pause(record.id):
            return False
        self._tickets.withdraw(record.id, record.ticket)
        return True

    def resume(self, record: Record) -> bool:
        """Let a paused job wait for its turn again."""
        return self.board.resume(record.id) and self._hand_out(record.id)

    def move(self, record: Record, priority: int, place: int) -> bool:
        """Give a job that nobody has begun another place."""
        if not self.board.move(record.id, record.ticket, priority, place):
            return False
        self._tickets.withdraw(record.id, record.ticket)
        return record.paused or self._hand_out(record.id)

    def edit(self, job_id: str, packed: Mapping[str, Any], revision: int) -> bool:
        """Replace the request of a job that nobody has begun."""
        return self.board.edit(job_id, dict(packed), revision)

    def hold(self, held: bool) -> None:
        """Whether nothing is begun for now. What runs goes back to its place, and the attempt does not count."""
        self.board.hold(held)
        self._tickets.hold(held)
        if not held:
            self.ring()
            return
        for record in self.board.unfinished():
            if record.running and record.decision == OPEN:
                self._call_back(record, counts=False)

    def work_for(self, worker: str) -> bool:
        """Whether there is a ticket that a worker has or could be handed."""
        held = self.board.held()
        return any(ticket.worker == worker or (ticket.worker is None and not held) for ticket in self._tickets.open())

    def mend(self, spared: Collection[str] = ()) -> None:
        """Hand out anew what no living worker has and what no ticket stands for.

        Args:
            spared: workers that are not thought dead whatever they say, because somebody else starts them again.
        """
        records = [record for record in self.board.unfinished() if not record.paused]
        if not records:
            return
        tickets = {(ticket.job, ticket.number): ticket for ticket in self._tickets.open()}
        alive = self.board.alive(DEAD) | set(spared)
        for record in records:
            ticket = tickets.get((record.id, record.ticket))
            if ticket is not None and (ticket.worker is None or ticket.worker in alive):
                continue
            if ticket is not None:
                log.warning("worker %s is not heard of; job %s goes to another", ticket.worker, record.id)
            self._call_back(record, counts=True)
        if any(ticket.worker is None for ticket in tickets.values()) and not self.board.held():
            self.ring()  # a worker may have gone to sleep in the moment in which the ticket came

    def pass_on(self, job_id: str, ticket: int) -> None:
        """Queue a job again whose ticket a worker was handed that has another job."""
        record = self._now(job_id)
        if record is not None and record.ticket == ticket:
            self._call_back(record, counts=False)

    def sweep(self, known: Collection[str]) -> None:
        """Delete what is left of other jobs than these."""
        self._tickets.sweep(known)

    def delete(self, record: Record) -> None:
        """Forget a job."""
        self.board.delete(record.id)
        self._tickets.forget(record)

    def close(self) -> None:
        """Close the database."""
        self._tickets.close()
        self.board.close()
        if self._claimed is not None:
            self._claimed.close()
        if self._bell is not None:
            self._bell.dispose()

    def _call_back(self, record: Record, counts: bool) -> None:
        if self.board.call_back(record.id, record.ticket, counts):
            self._tickets.withdraw(record.id, record.ticket)
            self._tickets.hand_out(replace(record, ticket=record.ticket + 1))
            self.ring()

    def _hand_out(self, job_id: str) -> bool:
        record = self._now(job_id)
        if record is not None:
            self._tickets.hand_out(record)
            self.ring()
        return record is not None

    def _now(self, job_id: str) -> Record | None:
        """A job as it is, if it is unfinished."""
        return next((record for record in self.board.some([job_id]) if record.unfinished), None)
