"""Who comes next: owners take turns, however many jobs each has queued.

Every job gets a round when it is queued, and the engine serves lower rounds first, within one in order. An owner's jobs
are in rounds that follow each other, from the first round on of which nothing was taken up yet. So a newcomer waits for
no backlog, a stream of newcomers holds nobody up, and nothing has to be reordered later.
"""

from collections.abc import Iterable

from opensora.jobs.store import Record

ROUND = 1000
"""Places of a round. The engine's own times have whole seconds, so jobs of a round are told apart by their place."""


def next_place(records: Iterable[Record], owner: str) -> int:
    """Place of a new job of an owner.

    Args:
        records: all known jobs. Those that were cancelled while they waited count for nothing.
    """
    counted = [record for record in records if record.unfinished or record.begun]
    fresh = max((record.place // ROUND + 1 for record in counted if record.begun), default=1)
    own = max((record.place // ROUND + 1 for record in counted if record.owner == owner), default=1)
    turn = max(fresh, own)
    last = max((record.place for record in counted if record.place // ROUND == turn), default=turn * ROUND - 1)
    return min(last + 1, (turn + 1) * ROUND - 1)


def ahead(records: Iterable[Record], job: Record) -> int:
    """Unfinished jobs that are served before one that waits."""
    return sum(
        other.id != job.id and other.unfinished and (other.begun or other.place < job.place) for other in records
    )
