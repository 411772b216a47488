"""The page's handlers over a queue in memory, with a generator that goes step by step."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_queue import MemoryQueue
from stepwise import Steps

from opensora.ui import room
from opensora.ui.handlers import Handlers


@pytest.fixture
def steps() -> Steps:
    return Steps(total=2)


@pytest.fixture
def acts(steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Handlers]:
    monkeypatch.setattr(room, "require_weights", lambda bundle: None)
    queue = MemoryQueue(steps, tmp_path)
    yield Handlers(queue)
    queue.close()
