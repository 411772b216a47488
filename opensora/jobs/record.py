"""One job as it is kept, without the engine: what order, retention and views are computed from."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

OPEN, CANCELLED, PUBLISHED = "open", "cancelled", "published"
"""A job's decision: it turns from the first into one of the others, exactly once."""


class Priority(IntEnum):
    """Which of an owner's own jobs is begun first. Owners take turns whatever it is, so everybody may ask for any."""

    HIGH = 0
    NORMAL = 1
    LOW = 2

    @property
    def word(self) -> str:
        """How pages and programs write it: ``low``, ``normal`` or ``high``."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> "Priority":
        """The priority of a word, for :meth:`opensora.jobs.queue.JobQueue.submit` and ``set_priority``.

        Raises:
            ValueError: there is none; lists those that there are.
        """
        words = {priority.word: priority for priority in reversed(cls)}
        if word not in words:
            raise ValueError(f"There is no priority {word!r:.40}; choose one of {', '.join(words)}.")
        return words[word]


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
