"""One job as it is kept, without the engine: what order, retention and views are computed from."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

OPEN, CANCELLED, PUBLISHED = "open", "cancelled", "published"
"""A job's decision: it turns from the first into one of the others, exactly once."""


class Priority(IntEnum):
    """Jobs of a higher priority are begun first, whoever owns them; within one, owners take turns."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True)
class Record:
    """What is known of a job."""

    id: str
    owner: str
    packed: dict[str, Any] = field(default_factory=dict)
    """The request, see :mod:`opensora.jobs.given`."""
    created: float = 0.0
    batch: str | None = None
    """Id that the jobs of a batch share."""
    priority: int = Priority.NORMAL
    place: int = 0
    """Jobs of a lower place go first among those of a priority, see :mod:`opensora.jobs.order`."""
    revision: int = 0
    """Grows when the request is edited."""
    ticket: int = 1
    """Number of the engine's ticket that counts."""
    decision: str = OPEN
    paused: bool = False
    pinned: bool = False
    """Whether its results are kept whatever happens."""
    attempts: int = 0
    """How often it was begun, without attempts that were given back."""
    lease: str | None = None
    """Of the attempt that is at it."""
    worker: str | None = None
    """Id of the worker that began the last attempt."""
    outcome: dict[str, Any] | None = None
    """What it ended with, see :func:`opensora.jobs.attempt.run`."""
    finished: float | None = None

    @property
    def unfinished(self) -> bool:
        """Whether it waits, is paused or runs."""
        return self.outcome is None

    @property
    def running(self) -> bool:
        """Whether an attempt is at it."""
        return self.unfinished and self.lease is not None

    @property
    def waiting(self) -> bool:
        """Whether nobody is at it, paused or not."""
        return self.unfinished and self.lease is None

    @property
    def stopping(self) -> bool:
        """Whether an attempt is at it that was asked to stop."""
        return self.running and self.decision == CANCELLED

    @property
    def begun(self) -> bool:
        """Whether it was ever taken up."""
        return self.attempts > 0 or self.lease is not None or (self.outcome is not None and not self._left_waiting)

    @property
    def _left_waiting(self) -> bool:
        """Whether it was cancelled while it waited."""
        return self.outcome is not None and self.outcome["state"] == "cancelled" and not self.attempts
