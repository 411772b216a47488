"""The engine (DBOS Transact) as the queue of tickets: it orders them, hands each to one worker, again after a crash.

A ticket is a workflow whose id is the job's id and the ticket's number. What the job is stands on the board.
"""

from dataclasses import dataclass

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
        """Take a ticket back; a worker that has it is not stopped by that."""
        name = name_of(job_id, number)
        self._client.cancel_workflow(name)
        self._client.delete_workflow(name)

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
        """Delete every ticket that a job ever had."""
        names = [name_of(record.id, number) for number in range(1, record.ticket + 1)]
        self._client.delete_workflows(names)

    def close(self) -> None:
        """Close the database."""
        self._client.destroy()
