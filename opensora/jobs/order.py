"""Who comes next: owners take turns, however many jobs each has queued; a higher priority goes before all of that.

Every job gets a round when it is queued, and the engine serves lower rounds first, within one in order. An owner's jobs
are in rounds that follow each other, from the first round on of which nothing was taken up yet. So a newcomer waits for
no backlog, a stream of newcomers holds nobody up, and nothing has to be reordered later. Owners reorder their own jobs
among the places that these have, so that nobody else waits longer.
"""

from collections.abc import Iterable
from enum import StrEnum

from opensora.jobs.record import Priority, Record

ROUND = 1000
"""Places of a round. The engine's own times have whole seconds, so jobs of a round are told apart by their place."""
SPAN = 700_000_000
"""Places of a priority; the engine knows one number, up to 2³¹ − 1."""


class Move(StrEnum):
    """Where a job goes among its owner's waiting jobs of the same priority."""

    UP = "up"
    DOWN = "down"
    FRONT = "front"
    BACK = "back"


def next_place(records: Iterable[Record], owner: str, priority: int = Priority.NORMAL) -> int:
    """Place of a new job of an owner.

    Args:
        records: all known jobs. Those that were cancelled while they waited count for nothing.
    """
    counted = [r for r in records if r.priority == priority and (r.unfinished or r.begun)]
    fresh = max((record.place // ROUND + 1 for record in counted if record.begun), default=1)
    own = max((record.place // ROUND + 1 for record in counted if record.owner == owner), default=1)
    turn = max(fresh, own)
    last = max((record.place for record in counted if record.place // ROUND == turn), default=turn * ROUND - 1)
    return min(last + 1, (turn + 1) * ROUND - 1, SPAN - 1)


def rank(record: Record) -> int:
    """The one number by which the engine orders jobs; lower is first."""
    return record.priority * SPAN + record.place


def ahead(records: Iterable[Record], job: Record) -> int:
    """Unfinished jobs that are served before one that waits."""
    return sum(
        other.id != job.id and other.unfinished and not other.paused and (other.running or rank(other) < rank(job))
        for other in records
    )


def moved(records: Iterable[Record], job: Record, move: Move) -> dict[str, int]:
    """New places of the jobs that change theirs; none if the job is there already."""
    own = [r for r in records if r.owner == job.owner and r.priority == job.priority and r.waiting]
    own.sort(key=lambda record: record.place)
    places = [record.place for record in own]
    index = next(i for i, record in enumerate(own) if record.id == job.id)
    target = {Move.UP: index - 1, Move.DOWN: index + 1, Move.FRONT: 0, Move.BACK: len(own) - 1}[move]
    own.insert(min(max(target, 0), len(own) - 1), own.pop(index))
    return {record.id: place for record, place in zip(own, places, strict=True) if record.place != place}
