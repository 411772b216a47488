"""``app.py`` in a process of its own, as somebody starts it, and what it holds."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

ROOT = Path(__file__).parents[2]
PATIENCE = 900.0
"""Seconds for anything, on a machine that is busy with other things."""


@dataclass(frozen=True)
class Held:
    """What a server and its workers hold at a moment."""

    at: float
    """Seconds since the first look."""
    server: float
    """Main memory of the server, MB."""
    workers: float
    """Of the processes that it started, MB."""
    handles: int
    """Open files, sockets and pipes of the server and its workers."""


@dataclass
class Running:
    """A server that answers."""

    url: str
    process: "subprocess.Popen[str]"
    lines: list[str]
    """What it printed."""

    def held(self, since: float = 0.0) -> Held:
        """What it holds now."""
        here = psutil.Process(self.process.pid)
        workers, handles = 0.0, _handles(here)
        for process in here.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                workers += process.memory_info().rss / 1e6
                handles += _handles(process)
        return Held(time.monotonic() - since, here.memory_info().rss / 1e6, workers, handles)

    @contextmanager
    def watched(self, every: float) -> Iterator[list[Held]]:
        """Look at what it holds until the block ends."""
        found: list[Held] = []
        ended, since = threading.Event(), time.monotonic()

        def look() -> None:
            while not ended.is_set():
                with contextlib.suppress(psutil.Error):
                    found.append(self.held(since))
                ended.wait(every)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()


def _handles(process: psutil.Process) -> int:
    return int(process.num_handles() if sys.platform == "win32" else process.num_fds())


@contextmanager
def app(folder: Path, *options: str) -> Iterator[Running]:
    """Start the page and stop it when the block ends.

    Args:
        folder: of the results, and of everything temporary.
        options: of ``app.py``.

    Raises:
        RuntimeError: it did not start; with what it printed.
    """
    for below in ("outputs", "temporary"):
        (folder / below).mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(folder / "temporary"), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "app.py", "--port", "0", "--output-dir", str(folder / "outputs"), *options]
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    running = Running("", process, [])
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            running.lines.append(line)
            if found := re.search(r"ready: http://localhost:(\d+)", line):
                running.url = f"http://127.0.0.1:{found[1]}"
                ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        if not ready.wait(PATIENCE) or not running.url:
            raise RuntimeError("app.py did not start: " + "".join(running.lines[-20:]))
        yield running
    finally:
        process.terminate() if sys.platform == "win32" else process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(10)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true.

    Raises:
        TimeoutError: it does not.
    """
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("waited too long")
        time.sleep(0.1)


def slope(points: list[tuple[float, float]]) -> float:
    """Growth per minute of values over seconds: the median of all slopes between two points (Theil and Sen), which
    few outliers do not turn."""
    points = points[:: max(1, len(points) // 400)]
    found = [
        60 * (b[1] - a[1]) / (b[0] - a[0]) for n, a in enumerate(points) for b in points[n + 1 :] if b[0] - a[0] > 1e-9
    ]
    return median(found) if found else 0.0
