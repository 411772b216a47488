"""Tickets that are taken back while a worker has them, with the real engine and a worker that is a thread."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_jobs
import pytest

from opensora.jobs import given
from opensora.jobs.record import Priority, Record
from opensora.jobs.store import JobStore
from opensora.jobs.tickets import Ticket
from opensora.jobs.worker import Settings, Worker
from opensora.pipelines.request import GenerationRequest

WAIT = 60
"""Seconds for anything."""


class Held(Worker):
    """Begins the attempt at a ticket only when the test says so."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.handed, self.go = threading.Event(), threading.Event()

    def run(self, ticket: str) -> dict[str, Any] | None:
        """One attempt, later."""
        self.handed.set()
        assert self.go.wait(WAIT)
        return super().run(ticket)


class Kept(logging.Handler):
    """What the engine says went wrong."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))


@pytest.fixture
def said() -> Iterator[list[str]]:
    kept, engine = Kept(), logging.getLogger("dbos")
    engine.addHandler(kept)
    yield kept.said
    engine.removeHandler(kept)


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    (tmp_path / "control").mkdir()
    monkeypatch.setenv("FAKE_JOBS", str(tmp_path / "control"))
    worker = Held(Settings(tmp_path / "out", generate=fake_jobs.GENERATE, name="worker"))
    thread = threading.Thread(target=worker.serve, daemon=True)
    thread.start()
    yield worker
    worker.go.set()
    worker.stop()
    thread.join(WAIT)
    worker.store.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def queue(worker: Worker, job_id: str = "job", place: int = 1) -> Record:
    folder = worker.places.given(job_id, 0)
    folder.mkdir(parents=True)
    record = Record(job_id, "me", given.pack(GenerationRequest(prompt="a"), folder), created=1.0, place=place)
    worker.store.add([record])
    worker.awake.set()
    return record


def now(store: JobStore, job_id: str = "job") -> Record:
    return store.board.some([job_id])[0]


def test_a_job_that_is_cancelled_while_it_is_handed_out_makes_nothing_and_no_trace(
    worker: Held, said: list[str]
) -> None:
    record = queue(worker)
    assert worker.handed.wait(WAIT)
    assert worker.store.cancel(record) and not worker.store.cancel(record)
    assert now(worker.store).outcome is not None and now(worker.store).outcome["state"] == "cancelled"  # type: ignore[index]
    worker.store.delete(record)  # at once, while the worker still has the ticket
    worker.go.set()
    client = worker.store._tickets._client
    until(lambda: [row.status for row in client.list_workflows()] == ["SUCCESS"])
    assert fake_jobs.begun() == [] and said == []
    worker.store.sweep([])
    assert client.list_workflows() == []


def test_a_job_that_is_paused_while_it_is_handed_out_waits_and_is_made_once(worker: Held, said: list[str]) -> None:
    record = queue(worker)
    assert worker.handed.wait(WAIT)
    assert worker.store.pause(record)
    worker.go.set()
    until(lambda: not worker.store._tickets.open())
    assert fake_jobs.begun() == [] and now(worker.store).waiting
    assert worker.store.resume(now(worker.store))
    worker.awake.set()
    until(lambda: not now(worker.store).unfinished and not worker.store._tickets.open())
    assert fake_jobs.begun() == ["a"] and now(worker.store).outcome["state"] == "done" and said == []  # type: ignore[index]


def test_a_ticket_that_waits_is_gone_when_it_is_taken_back(tmp_path: Path) -> None:
    store = JobStore(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    jobs = [Record(name, "me", place=place, created=float(place)) for place, name in enumerate(("one", "two"), 1)]
    store.add(jobs)
    assert store.move(jobs[1], Priority.NORMAL, 0) and store.cancel(jobs[0])
    assert store._tickets.open() == [Ticket("two", 2, None)]
    store.sweep(["one"])
    assert store._tickets.open() == []
    store.close()
