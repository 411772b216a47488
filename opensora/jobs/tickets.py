"""The engine (DBOS Transact) as the queue of tickets: it orders them, hands each to one worker, again after a crash.

A ticket is a workflow whose id is the job's id and the ticket's number. What the job is stands on the board.
"""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, EnqueueOptions

from opensora.jobs.order import rank
from opensora.jobs.record import Record
from opensora.jobs.serializer import JsonSerializer

APPLICATION = "opensora"
VERSION = "2"
"""Of what a ticket is. It stays when the code changes, so that jobs of an older installation run on."""
QUEUE, WORKFLOW = "generation", "generate"
POLL = 0.1
"""Seconds between two looks of a worker for a ticket, while there are any."""
AT_ONCE = 500
"""Tickets that are deleted by one statement."""
_NOBODYS = ("ENQUEUED", "SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
"""States of a ticket that no worker has."""


def name_of(job_id: str, number: int) -> str:
    """The engine's id of a ticket."""
    return f"{job_id}.{number}"


def job_of(name: str) -> tuple[str, int]:
    """The job's id and the ticket's number."""
    job_id, _, number = name.rpartition(".")
    return job_id, int(number)


@dataclass(frozen=True)
class Ticket:
    """A ticket that is not done with."""

    job: str
    number: int
    worker: str | None
    """Worker that has it; ``None`` while it waits."""


class Tickets:
    """Hands out tickets and takes them back; runs nothing.

    Args:
        url: of the database, whose tables are made if they are not there.
    """

    def __init__(self, url: str) -> None:
        DBOS.migrate(url)
        self._client = DBOSClient(
            system_database_url=url,
            serializer=JsonSerializer(),
            application_name=APPLICATION,
            retry_connection_errors=False,
        )
        self._client.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=POLL, on_conflict="never_update")

    def hand_out(self, record: Record) -> None:
        """Queue a job's present ticket."""
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": QUEUE,
            "workflow_id": name_of(record.id, record.ticket),
            "workflow_id_reuse_policy": "reject",
            "app_version": VERSION,
            "authenticated_user": record.owner,
            "priority": rank(record),
        }
        self._client.enqueue(options)

    def withdraw(self, job_id: str, number: int) -> None:
        """Take a ticket back that waits.

        One that a worker was handed stays until the worker is done with it: the board tells the worker that it does not
        count, and the engine would report the end of a ticket that is gone as an error of its own.
        """
        self._delete([name_of(job_id, number)], "ENQUEUED")

    def open(self) -> list[Ticket]:
        """Tickets that wait or that a worker has."""
        rows = self._client.list_workflows(
            name=WORKFLOW, status=["ENQUEUED", "PENDING"], load_input=False, load_output=False
        )
        return [
            Ticket(*job_of(row.workflow_id), row.executor_id if row.status == "PENDING" else None)
            for row in rows
            if "." in row.workflow_id
        ]

    def hold(self, held: bool) -> None:
        """Whether no ticket is given to a worker for now."""
        queue = self._client.retrieve_queue(QUEUE)
        assert queue is not None
        queue.set_worker_concurrency(0 if held else 1)

    def forget(self, record: Record) -> None:
        """Delete every ticket that a job ever had; for one that a worker has there is :meth:`sweep`."""
        self._delete([name_of(record.id, number) for number in range(1, record.ticket + 1)], *_NOBODYS)

    def sweep(self, known: Collection[str]) -> None:
        """Delete tickets of other jobs than these, which a worker still had when the job was deleted."""
        rows = self._client.list_workflows(name=WORKFLOW, status=list(_NOBODYS), load_input=False, load_output=False)
        names = [row.workflow_id for row in rows if row.workflow_id.rpartition(".")[0] not in known]
        self._delete(names, *_NOBODYS)

    def close(self) -> None:
        """Close the database."""
        self._client.destroy()

    def _delete(self, names: list[str], *states: str) -> None:
        """Delete tickets that are in one of these states; in one statement, so that no worker is handed one meanwhile.

        The client itself deletes whatever the state is.
        """
        database = self._client._sys_db
        table = database.tables.workflow_status
        for start in range(0, len(names), AT_ONCE):
            allowed = table.c.workflow_uuid.in_(names[start : start + AT_ONCE]) & table.c.status.in_(states)
            with database.engine.begin() as db:
                deleted = db.execute(sa.delete(table).where(allowed).returning(table.c.workflow_uuid)).scalars().all()
            if deleted:
                self._client.delete_workflows(list(deleted))  # what else is kept of them
