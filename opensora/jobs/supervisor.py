"""Keeps a worker process alive: starts it, notices its end, says why, and starts it again."""

import contextlib
import logging
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from opensora.sentences import say

log = logging.getLogger(__name__)

PAUSE, LONGEST_PAUSE, HEALTHY = 0.5, 30.0, 60.0
"""Seconds before a new start; they double while the worker ends before it was healthy for so long."""


class Supervisor:
    """A worker process and the thread that watches it.

    Args:
        command: starts the worker, which has to end when its standard input is closed.
        environment: of the worker; ``None`` for this process's own.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._command, self._environment = list(command), environment
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._started = threading.Lock()
        self._since = math.inf
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._watch, name="opensora-supervisor", daemon=True)
        self._thread.start()

    @property
    def since(self) -> float:
        """When the present worker was started, in seconds since 1970; infinite while there is none."""
        return self._since

    @property
    def trouble(self) -> str | None:
        """How the worker before this one ended; ``None`` if there was none."""
        return self._trouble

    def wake(self) -> None:
        """Write something to the worker, which waits for that."""
        with self._started, contextlib.suppress(OSError, ValueError):
            if self._process is not None and self._process.stdin is not None:
                os.write(self._process.stdin.fileno(), b"\n")

    def ask(self) -> None:
        """Ask the worker to end."""
        self._stopping.set()
        with self._started:
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()

    def stop(self, timeout: float = 20) -> None:
        """Ask the worker to end, and make it."""
        self.ask()
        process = self._process
        if process is not None:
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                log.warning("the worker does not end by itself and is killed")
                process.kill()
                process.wait()
        self._thread.join(timeout=5)

    def _watch(self) -> None:
        pause = PAUSE
        while True:
            with self._started:
                if self._stopping.is_set():
                    return
                self._since = time.time()
                # a session of its own: Ctrl-C in the terminal is for the server, which then ends the worker
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, start_new_session=True, env=self._environment
                )
                assert self._process.stdin is not None
                if os.name != "nt":  # a worker that hangs must not make the server wait
                    os.set_blocking(self._process.stdin.fileno(), False)
            began = time.monotonic()
            status = self._process.wait()
            if self._stopping.is_set():
                return
            self._since = math.inf
            self._trouble = reason(status)
            log.warning("%s; it is started again", self._trouble)
            pause = PAUSE if time.monotonic() - began > HEALTHY else min(2 * pause, LONGEST_PAUSE)
            self._stopping.wait(pause)


def reason(status: int) -> str:
    """How a process ended, in words."""
    if status == -getattr(signal, "SIGKILL", 9):
        return say("worker.killed")
    if status < 0:
        try:
            return say("worker.crashed", signal=signal.Signals(-status).name)
        except ValueError:
            return say("worker.signal", number=-status)
    return say("worker.status", status=status)
