"""Who comes next: owners take turns, however many jobs each has queued and of whatever priority.

Every job gets a round when it is queued, and the engine serves lower rounds first, within one in order. An owner's jobs
are in rounds that follow each other, from the first round on of which nothing was taken up yet. So a newcomer waits for
no backlog, a stream of newcomers holds nobody up, and nothing has to be reordered later. Owners reorder their own jobs
among the places that these have, by moving them and by their priority, so that nobody else waits longer.
"""

from collections.abc import Iterable
from enum import StrEnum

from opensora.jobs.record import Record

ROUND = 1000
"""Places of a round. The engine's own times have whole seconds, so jobs of a round are told apart by their place."""
FIRST = 700_000_000
"""What is added to every place; waiting tickets of earlier versions have it."""
SPAN = 700_000_000
"""Places; the engine knows one number, up to 2³¹ − 1."""


class Move(StrEnum):
    """Where a job goes among its owner's waiting jobs of the same priority."""

    UP = "up"
    DOWN = "down"
    FRONT = "front"
    BACK = "back"


def next_place(records: Iterable[Record], owner: str) -> int:
    """Place of a new job of an owner, behind the owner's others.

    Args:
        records: all known jobs. Those that were cancelled while they waited count for nothing.
    """
    counted = [record for record in records if record.unfinished or record.begun]
    fresh = max((record.place // ROUND + 1 for record in counted if record.begun), default=1)
    own = max((record.place // ROUND + 1 for record in counted if record.owner == owner), default=1)
    turn = max(fresh, own)
    last = max((record.place for record in counted if record.place // ROUND == turn), default=turn * ROUND - 1)
    return min(last + 1, (turn + 1) * ROUND - 1, SPAN - 1)


def rank(record: Record) -> int:
    """The one number by which the engine orders jobs; lower is first."""
    return FIRST + record.place


def ahead(records: Iterable[Record], job: Record) -> int:
    """Unfinished jobs that are served before one that waits."""
    return sum(
        other.id != job.id and other.unfinished and not other.paused and (other.running or rank(other) < rank(job))
        for other in records
    )


def by_priority(records: Iterable[Record], owner: str, last: str = "") -> dict[str, int]:
    """New places of an owner's waiting jobs that change theirs when the higher priorities have the first of them.

    Args:
        last: id of a job that goes behind the others of its priority.
    """
    own = [record for record in records if record.owner == owner and record.waiting]
    return _placed(sorted(own, key=lambda record: (record.priority, record.id == last, record.place)))


def moved(records: Iterable[Record], job: Record, move: Move) -> dict[str, int]:
    """New places of the jobs that change theirs; none if the job is there already."""
    own = [r for r in records if r.owner == job.owner and r.priority == job.priority and r.waiting]
    own.sort(key=lambda record: record.place)
    index = next(i for i, record in enumerate(own) if record.id == job.id)
    target = {Move.UP: index - 1, Move.DOWN: index + 1, Move.FRONT: 0, Move.BACK: len(own) - 1}[move]
    own.insert(min(max(target, 0), len(own) - 1), own.pop(index))
    return _placed(own)


def _placed(jobs: list[Record]) -> dict[str, int]:
    """New places of jobs that share theirs in this order."""
    places = sorted(record.place for record in jobs)
    return {record.id: place for record, place in zip(jobs, places, strict=True) if record.place != place}
