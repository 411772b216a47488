"""What pages ask for all the time costs what is new, not what was ever made."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from opensora.jobs import views
from opensora.jobs.board import JOBS
from opensora.jobs.durable import DurableQueue
from opensora.jobs.record import Record
from opensora.jobs.store import JobStore

COUNT = 5000
"""Jobs that were made before."""


class Idle:
    """A fleet whose workers have nothing to do."""

    names = ("worker-1",)

    def __init__(self, *_: object) -> None:
        pass

    def wake(self) -> None:
        """Nobody is there."""

    def stop(self) -> None:
        """Nobody is there."""


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[DurableQueue]:
    """A queue that is opened again after many jobs were made in its folder."""
    queue = DurableQueue(tmp_path, make_fleet=Idle)  # type: ignore[arg-type]
    store: JobStore = queue._store
    outcome = {"state": "done", "error": None, "attempts": 1, "started": 1.0, "finished": time.time(), "files": []}
    request = {"prompt": "a red ball", "model": "tiny", "mode": "t2v"}
    store.board.add([Record(f"job{n}", f"user{n % 2}", request, created=float(n)) for n in range(COUNT)])
    with store.board._engine.begin() as db:
        db.execute(sa.update(JOBS).values(outcome=json.dumps(outcome), finished=outcome["finished"]))
    queue.close()
    again = DurableQueue(tmp_path, make_fleet=Idle)  # type: ignore[arg-type]
    yield again
    again.close()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the jobs of which a snapshot is made, one after another."""
    ids: list[str] = []
    build = views.of

    def counted(record: Record, *more: Any) -> Any:
        ids.append(record.id)
        return build(record, *more)

    monkeypatch.setattr(views, "of", counted)
    return ids


def test_snapshots_of_ended_jobs_are_made_once_however_often_pages_ask(queue: DurableQueue, made: list[str]) -> None:
    first = queue.jobs("user0")
    assert [view.id for view in first] == [f"job{n}" for n in range(COUNT - 2, -1, -2)] and first[0].state == "done"
    assert len(queue.everybodys()) == COUNT == len(made)
    for _ in range(3):
        assert queue.jobs("user0") == first and len(queue.everybodys()) == COUNT
    assert len(made) == COUNT

    assert queue.pin("job4", "user0")
    assert [view.id for view in queue.jobs("user0") if view.pinned] == ["job4"] and made[COUNT:] == ["job4"]
    assert queue.remove("job4", "user0") and len(queue.jobs("user0")) == COUNT // 2 - 1
    assert "job4" not in queue._jobs._shown and len(made) == COUNT + 1
