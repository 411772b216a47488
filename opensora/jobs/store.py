"""The jobs as the engine (DBOS Transact) keeps them in its database: the page's side, which runs nothing."""

import time
from dataclasses import dataclass
from typing import Any

from dbos import DBOS, DBOSClient, EnqueueOptions
from dbos import WorkflowStatus as Row

from opensora.jobs.places import Places
from opensora.jobs.serializer import JsonSerializer

APPLICATION = "opensora"
VERSION = "1"
"""Of how jobs are stored. It stays when the code changes, so that jobs of an older installation run on."""
EXECUTOR = "worker"
QUEUE, WORKFLOW = "generation", "generate"
WAITING = ("ENQUEUED", "DELAYED")
UNFINISHED = (*WAITING, "PENDING")


@dataclass(frozen=True)
class Record:
    """One job as it is in the database."""

    id: str
    owner: str
    status: str
    """The engine's own word."""
    place: int
    """Jobs of a lower place go first; see :mod:`opensora.jobs.order`."""
    created: float
    finished: float | None
    packed: dict[str, Any]
    """The request, see :mod:`opensora.jobs.given`."""
    outcome: dict[str, Any] | None
    """What the worker ended with, see :func:`opensora.jobs.attempt.run`."""

    @property
    def unfinished(self) -> bool:
        """Whether it waits or runs."""
        return self.status in UNFINISHED

    @property
    def begun(self) -> bool:
        """Whether it was ever taken up, as far as the database says."""
        return self.status not in (*WAITING, "CANCELLED")


def url(places: Places) -> str:
    """Address of the database."""
    return f"sqlite:///{places.database.absolute()}"


class JobStore:
    """Adds, reads, cancels and deletes jobs."""

    def __init__(self, places: Places) -> None:
        DBOS.migrate(url(places))
        self._client = DBOSClient(
            system_database_url=url(places),
            serializer=JsonSerializer(),
            application_name=APPLICATION,
            retry_connection_errors=False,
        )

    def add(self, job_id: str, owner: str, packed: dict[str, Any], place: int) -> None:
        """Queue a job. When this returns it cannot be lost."""
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": QUEUE,
            "workflow_id": job_id,
            "workflow_id_reuse_policy": "reject",
            "app_version": VERSION,
            "authenticated_user": owner,
            "priority": place,
        }
        self._client.enqueue(options, {"created": time.time(), "request": packed})

    def all(self) -> list[Record]:
        """Every job, the oldest first."""
        return [_record(row) for row in self._client.list_workflows(name=WORKFLOW)]

    def some(self, ids: list[str]) -> list[Record]:
        """The jobs of these ids."""
        return [_record(row) for row in self._client.list_workflows(workflow_ids=ids)] if ids else []

    def cancel(self, job_id: str) -> None:
        """Take a job off the queue."""
        self._client.cancel_workflow(job_id)

    def delete(self, job_id: str) -> None:
        """Forget a job."""
        self._client.delete_workflow(job_id)

    def close(self) -> None:
        """Close the database."""
        self._client.destroy()


def _record(row: Row) -> Record:
    assert row.input is not None
    job = row.input["args"][0]
    return Record(
        id=row.workflow_id,
        owner=row.authenticated_user or "",
        status=row.status,
        place=row.priority or 0,
        created=job["created"],  # the engine's own time has whole seconds
        finished=None if row.completed_at is None else row.completed_at / 1000,
        packed=job["request"],
        outcome=row.output if isinstance(row.output, dict) else None,
    )
