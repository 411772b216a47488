"""Turns of the owners and what is kept: pure functions of the known jobs."""

from dataclasses import replace

import pytest

from opensora.jobs.order import ROUND, ahead, next_place
from opensora.jobs.retention import DAY, Retention
from opensora.jobs.store import Record


class Line:
    """Jobs as they are queued and served."""

    def __init__(self) -> None:
        self.jobs: list[Record] = []

    def add(self, owner: str) -> str:
        number = len(self.jobs)
        place = next_place(self.jobs, owner)
        self.jobs.append(Record(f"{owner}{number}", owner, "ENQUEUED", place, float(number), None, {}, None))
        return self.jobs[-1].id

    def change(self, job_id: str, status: str) -> None:
        self.jobs = [replace(job, status=status) if job.id == job_id else job for job in self.jobs]

    def serve(self) -> str:
        waiting = [job for job in self.jobs if job.status == "ENQUEUED"]
        first = min(waiting, key=lambda job: job.place)
        assert ahead(self.jobs, first) == sum(job.status == "PENDING" for job in self.jobs)
        self.change(first.id, "SUCCESS")
        return first.owner


def test_owners_take_turns_however_much_one_has_queued() -> None:
    line = Line()
    for owner in ("a", "a", "a", "a", "b", "b", "c"):
        line.add(owner)
    assert "".join(line.serve() for _ in range(7)) == "abcabaa"


def test_who_comes_later_waits_for_no_backlog_and_gains_no_lead() -> None:
    line = Line()
    for _ in range(5):
        line.add("a")
    line.serve()
    line.serve()
    for _ in range(3):
        line.add("b")
    assert "".join(line.serve() for _ in range(6)) == "ababab"


def test_nobody_starves_beside_owners_who_ask_again_and_again() -> None:
    line = Line()
    for owner in ("b", "b", "b", "c", "d"):
        line.add(owner)
    served = ""
    for _ in range(9):
        owner = line.serve()
        served += owner
        if owner != "b":
            line.add(owner)
    assert served.count("b") == 3


def test_a_stream_of_new_owners_holds_nobody_up() -> None:
    line = Line()
    for owner in ("a", "a", "a"):
        line.add(owner)
    served = ""
    for number in range(8):
        line.add(f"{number}")
        served += line.serve()
    assert served.count("a") == 3


def test_jobs_that_were_cancelled_while_they_waited_do_not_count() -> None:
    line = Line()
    for job in [line.add("a") for _ in range(9)]:
        line.change(job, "CANCELLED")
    line.add("b")
    line.add("a")
    assert [job.place for job in line.jobs[-2:]] == [ROUND, ROUND + 1]


def test_the_position_counts_what_runs_and_what_comes_first() -> None:
    line = Line()
    ids = [line.add(owner) for owner in ("a", "a", "b")]
    line.change(ids[0], "PENDING")
    assert [ahead(line.jobs, line.jobs[i]) for i in (2, 1)] == [1, 2]


def ended(number: int) -> Record:
    return Record(str(number), "a", "SUCCESS", 1, float(number), float(number), {}, None)


def test_what_is_too_old_or_too_much_goes_oldest_first() -> None:
    jobs = [ended(number) for number in (3, 1, 2)]
    sizes = {"1": 10, "2": 10, "3": 10}
    assert Retention().expired(jobs, sizes, now=1e12) == []
    assert Retention(days=1).expired(jobs, sizes, now=DAY + 2.5) == ["1", "2"]
    assert Retention(size=20).expired(jobs, sizes, now=4) == ["1"]
    assert Retention(size=5).expired(jobs, sizes, now=4) == ["1", "2"]  # the newest stays


def test_unfinished_jobs_are_kept_and_failed_ones_take_no_room() -> None:
    waiting = replace(ended(1), status="ENQUEUED", finished=None)
    assert Retention(days=1, size=1).expired([waiting, ended(2)], {"1": 99, "2": 99}, now=9) == []
    assert Retention(size=15).expired([ended(1), ended(2), ended(3)], {"2": 10, "3": 10}, now=9) == ["2"]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Retention(days=0)
