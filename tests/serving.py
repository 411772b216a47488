"""A real server on loopback, with a queue in the test's own process whose generator does what the prompt says."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fake_jobs
import httpx
import uvicorn
from memory_queue import MemoryQueue

from opensora.jobs.queue import JobQueue
from opensora.server.app import create_server
from opensora.server.errors import ApiError
from opensora.server.settings import Rates, ServerSettings
from opensora.server.users import Users

WAIT = 60
PASSWORD = "correct horse"
MANY = Rates(requests=1_000_000, heavy=100_000, megabytes=1_000_000)
"""Where a test is not about rates: it asks again and again whether something has come true."""


@dataclass
class Running:
    """A server that answers."""

    url: str
    folder: Path
    """Of the results."""
    queue: JobQueue
    control: Path
    """A file ``go`` here lets prompts that wait go on."""
    keys: dict[str, str] = field(default_factory=dict)
    """API keys by user."""

    def client(self, user: str | None = None, **more: Any) -> httpx.Client:
        """A client, with a user's key."""
        headers = {"Authorization": f"Bearer {self.keys[user]}"} if user else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=WAIT, verify=False, **more)

    def ended(self, client: httpx.Client, job: str) -> dict[str, Any]:
        """A video when it has ended."""
        found: dict[str, Any] = {}

        def over() -> bool:
            found.update(client.get(f"/v1/videos/{job}").json())
            return found["status"] in ("done", "failed", "cancelled")

        until(over)
        return found


def until(condition: Callable[[], bool], seconds: float = WAIT) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def users_file(path: Path, *names: str) -> dict[str, str]:
    """A file with users that share one password; their keys by name."""
    users = Users(path)
    return {users.add(name, PASSWORD).name: users.new_key(name) for name in names}


@contextmanager
def serving(
    folder: Path,
    page: bool = False,
    keys: dict[str, str] | None = None,
    make_queue: Callable[[Path], JobQueue] = lambda outputs: MemoryQueue(fake_jobs.generate, outputs),
    **settings: Any,
) -> Iterator[Running]:
    """Serve until the block ends.

    Args:
        page: whether Gradio's page is in it.
        keys: API keys by user.
        make_queue: the queue of an output folder.
        settings: of the server.
    """
    outputs, control = folder / "outputs", folder / "control"
    outputs.mkdir(parents=True, exist_ok=True)
    control.mkdir(exist_ok=True)
    os.environ["FAKE_JOBS"] = str(control)
    queue = make_queue(outputs)
    closed = None
    if page:
        from opensora.ui.web import CLOSED as closed
    settings = {"rates": MANY, **settings}
    app, videos = create_server(queue, ServerSettings(outputs, **settings), closed)
    if page:
        from opensora.ui.web import add_page

        add_page(app, queue, outputs, programs=(videos, ApiError))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", outputs, queue, control, keys or {})
    finally:
        (control / "go").touch()
        server.should_exit = True
        thread.join(timeout=WAIT)
        queue.close()
        listener.close()
