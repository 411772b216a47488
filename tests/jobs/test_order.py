"""Turns of the owners and what is kept: pure functions of the known jobs."""

from dataclasses import replace
from typing import Any

import pytest

from opensora.jobs.order import ROUND, Move, ahead, by_priority, moved, next_place, rank
from opensora.jobs.record import Priority, Record
from opensora.jobs.retention import DAY, Retention


class Line:
    """Jobs as they are queued and served."""

    def __init__(self) -> None:
        self.jobs: list[Record] = []

    def add(self, owner: str, priority: Priority = Priority.NORMAL) -> str:
        number = len(self.jobs)
        place = next_place(self.jobs, owner)
        self.jobs.append(Record(f"{owner}{number}", owner, created=float(number), place=place, priority=priority))
        self.arrange(owner)
        return self.jobs[-1].id

    def arrange(self, owner: str, last: str = "") -> None:
        for job, place in by_priority(self.jobs, owner, last).items():
            self.change(job, place=place)

    def change(self, job_id: str, **values: Any) -> None:
        self.jobs = [replace(job, **values) if job.id == job_id else job for job in self.jobs]

    def serve(self) -> str:
        first = min((job for job in self.jobs if job.waiting and not job.paused), key=rank)
        assert ahead(self.jobs, first) == sum(job.running for job in self.jobs)
        self.change(first.id, attempts=1, outcome={"state": "done"})
        return first.id


def test_owners_take_turns_however_much_one_has_queued() -> None:
    line = Line()
    for owner in ("a", "a", "a", "a", "b", "b", "c"):
        line.add(owner)
    assert "".join(line.serve()[0] for _ in range(7)) == "abcabaa"


def test_who_comes_later_waits_for_no_backlog_and_gains_no_lead() -> None:
    line = Line()
    for _ in range(5):
        line.add("a")
    line.serve()
    line.serve()
    for _ in range(3):
        line.add("b")
    assert "".join(line.serve()[0] for _ in range(6)) == "ababab"


def test_nobody_starves_beside_owners_who_ask_again_and_again() -> None:
    line = Line()
    for owner in ("b", "b", "b", "c", "d"):
        line.add(owner)
    served = ""
    for _ in range(9):
        owner = line.serve()[0]
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
        served += line.serve()[0]
    assert served.count("a") == 3


def test_jobs_that_were_cancelled_while_they_waited_do_not_count() -> None:
    line = Line()
    for job in [line.add("a") for _ in range(9)]:
        line.change(job, outcome={"state": "cancelled"})
    line.add("b")
    line.add("a")
    assert [job.place for job in line.jobs[-2:]] == [ROUND, ROUND + 1]


def test_the_position_counts_what_runs_and_what_comes_first() -> None:
    line = Line()
    ids = [line.add(owner) for owner in ("a", "a", "b")]
    line.change(ids[0], lease="x", attempts=1)
    assert [ahead(line.jobs, line.jobs[i]) for i in (2, 1)] == [1, 2]


def test_a_priority_orders_an_owners_own_jobs_and_nobody_else_waits_longer() -> None:
    line = Line()
    for owner, priority in (
        ("a", Priority.LOW),
        ("a", Priority.NORMAL),
        ("b", Priority.LOW),
        ("b", Priority.NORMAL),
        ("a", Priority.HIGH),
        ("a", Priority.HIGH),
        ("c", Priority.NORMAL),
        ("a", Priority.NORMAL),
    ):
        line.add(owner, priority)
    assert [line.serve() for _ in range(8)] == ["a4", "b3", "c6", "a5", "b2", "a1", "a7", "a0"]


@pytest.mark.parametrize("priority", list(Priority))
def test_whatever_its_priority_a_job_leaves_others_where_they_are(priority: Priority) -> None:
    """One who asks for ``high`` every time has the same turns as one who never does."""
    line = Line()
    for owner in ("b", "b", "c"):
        line.add(owner)
    before = {job.id: job.place for job in line.jobs}
    for _ in range(4):
        line.add("a", priority)
    assert {job.id: job.place for job in line.jobs if job.owner != "a"} == before
    assert "".join(line.serve()[0] for _ in range(7)) == "bcabaaa"


def test_what_runs_keeps_its_place_and_a_priority_that_changes_goes_behind_its_equals() -> None:
    line = Line()
    for _ in range(4):
        line.add("a")
    line.change("a0", lease="x", attempts=1)
    for job, priority in (("a3", Priority.HIGH), ("a2", Priority.HIGH), ("a3", Priority.NORMAL)):
        line.change(job, priority=priority)
        line.arrange("a", last=job)
    assert {job.id: job.place for job in line.jobs}["a0"] == ROUND
    assert [line.serve() for _ in range(3)] == ["a2", "a1", "a3"]
    assert [p.word for p in Priority] == ["high", "normal", "low"] and Priority.of("low") is Priority.LOW
    with pytest.raises(ValueError, match="no priority 'urgent'; choose one of low, normal, high"):
        Priority.of("urgent")


def test_a_paused_job_is_nobodys_hindrance_and_keeps_its_place() -> None:
    line = Line()
    first, second, third = (line.add(owner) for owner in ("a", "b", "c"))
    line.change(first, paused=True)
    assert ahead(line.jobs, line.jobs[2]) == 1 and line.serve() == second
    line.change(first, paused=False)
    assert [line.serve(), line.serve()] == [first, third]


@pytest.mark.parametrize(
    ("move", "order"),
    [
        (Move.UP, "a0 b1 a3 a2 a4"),
        (Move.DOWN, "a0 b1 a2 a4 a3"),
        (Move.FRONT, "a3 b1 a0 a2 a4"),
        (Move.BACK, "a0 b1 a2 a4 a3"),
    ],
)
def test_an_owner_reorders_own_jobs_and_nobody_else_waits_longer(move: Move, order: str) -> None:
    line = Line()
    jobs = [line.add(owner) for owner in ("a", "b", "a", "a", "a")]
    before = {job.id: job.place for job in line.jobs if job.owner == "b"}
    for job, place in moved(line.jobs, line.jobs[3], move).items():
        line.change(job, place=place)
    assert {job.id: job.place for job in line.jobs if job.owner == "b"} == before
    served = [line.serve() for _ in jobs]
    assert served == order.split()


def test_the_first_and_the_last_job_move_no_further() -> None:
    line = Line()
    for _ in range(2):
        line.add("a")
    assert moved(line.jobs, line.jobs[0], Move.UP) == {} and moved(line.jobs, line.jobs[1], Move.BACK) == {}


def ended(number: int) -> Record:
    return Record(str(number), "a", created=float(number), place=1, outcome={"state": "done"}, finished=float(number))


def test_what_is_too_old_or_too_much_goes_oldest_first() -> None:
    jobs = [ended(number) for number in (3, 1, 2)]
    sizes = {"1": 10, "2": 10, "3": 10}
    assert Retention().expired(jobs, sizes, now=1e12) == []
    assert Retention(days=1).expired(jobs, sizes, now=DAY + 2.5) == ["1", "2"]
    assert Retention(size=20).expired(jobs, sizes, now=4) == ["1"]
    assert Retention(size=5).expired(jobs, sizes, now=4) == ["1", "2"]  # the newest stays


def test_unfinished_jobs_are_kept_and_failed_ones_take_no_room() -> None:
    waiting = replace(ended(1), outcome=None, finished=None)
    assert Retention(days=1, size=1).expired([waiting, ended(2)], {"1": 99, "2": 99}, now=9) == []
    assert Retention(size=15).expired([ended(1), ended(2), ended(3)], {"2": 10, "3": 10}, now=9) == ["2"]


def test_what_is_pinned_stays_whatever_its_age_and_size() -> None:
    pinned = replace(ended(1), pinned=True)
    assert Retention(days=1, size=1).expired([pinned, ended(2), ended(3)], {"1": 99, "2": 9, "3": 9}, now=1e9) == [
        "2",
        "3",
    ]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Retention(days=0)
