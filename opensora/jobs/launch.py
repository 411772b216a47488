"""Starts the processes of a crew by ``torchrun`` and links each of them to this one; ends them, whatever they do."""

import contextlib
import logging
import os
import queue
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from opensora.distributed.processors import usable_processors
from opensora.jobs.messages import ADDRESS, KEY, Here
from opensora.pipelines.result import GenerationError
from opensora.sentences import say

log = logging.getLogger(__name__)

START = 600.0
"""Seconds in which all processes have to say a first word; a busy machine needs a minute to load torch."""
LOOK = 0.1
"""Seconds between two looks whether torchrun has ended."""
LEAVE = 3.0
"""Seconds in which torchrun ends by itself, and says how its processes ended, when one has or all are let go."""


class Launched:
    """Processes that ``torchrun`` started.

    Args:
        size: how many.
        generate: ``module:function`` that they run.

    Raises:
        GenerationError: they do not start.
    """

    def __init__(self, size: int, generate: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="opensora-crew-"))
        self._pids: list[int] = []
        self.links: list[Connection] = []
        """To each process, in the order of their ranks."""
        key = secrets.token_hex(32)
        listener = Listener(None if os.name == "nt" else str(self._folder / "crew"), authkey=bytes.fromhex(key))
        address = str(listener.address)
        self._torchrun = subprocess.Popen(
            _command(size, generate, self._folder / "log"),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": _threads(size), ADDRESS: address, KEY: key},
            start_new_session=True,  # Ctrl-C in the terminal is for the worker
        )
        came: queue.SimpleQueue[tuple[Here, Connection]] = queue.SimpleQueue()
        threading.Thread(target=_welcome, args=(listener, size, came), name="opensora-welcome", daemon=True).start()
        try:
            self._meet(size, came)
        except BaseException:
            _dismiss(address, bytes.fromhex(key), size)
            self.end()
            raise

    @property
    def alive(self) -> bool:
        """Whether none of them has ended since, as far as torchrun knows, which ends all of them when one does."""
        return self._torchrun.poll() is None

    def end(self) -> None:
        """Let the processes go, and end those that do not go. Safe to call from any thread, and again."""
        for link in self.links:
            with contextlib.suppress(OSError):
                link.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._torchrun.wait(LEAVE)
        if self._torchrun.poll() is None:  # it may not be there to end them; numbers of ended ones may be others'
            for pid in self._pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._torchrun.wait(LEAVE)
        self._torchrun.kill()
        self._torchrun.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _meet(self, size: int, came: "queue.SimpleQueue[tuple[Here, Connection]]") -> None:
        """Wait until every process is here."""
        here: dict[int, tuple[Here, Connection]] = {}
        deadline = time.monotonic() + START
        while len(here) < size:
            with contextlib.suppress(queue.Empty):
                word, link = came.get(timeout=LOOK)
                here[word.rank] = word, link
            status = self._torchrun.poll()
            if status is not None or time.monotonic() > deadline:
                reason = "they are silent" if status is None else f"torchrun ended with status {status}"
                log.error("the %d processes of a crew do not start: %s", size, reason)
                self.links = [link for _, link in here.values()]
                raise GenerationError("starting", say("crew.start", size=size))
        self._pids = [here[rank][0].pid for rank in range(size)]
        self.links = [here[rank][1] for rank in range(size)]


def _command(size: int, generate: str, logs: Path) -> list[str]:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    words += ["--nproc-per-node", str(size), "--max-restarts", "0", "--log-dir", str(logs)]
    return [*words, "--module", "opensora.jobs.member", "--generate", generate]


def _threads(size: int) -> str:
    """Threads of each process: the processor is shared, unless the environment says otherwise."""
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_processors() // size))


def _welcome(listener: Listener, size: int, came: "queue.SimpleQueue[tuple[Here, Connection]]") -> None:
    """Take the links of processes that know the key, and hear their first words."""
    with listener:
        for _ in range(size):
            with contextlib.suppress(OSError, EOFError, AuthenticationError):
                link = listener.accept()
                came.put((link.recv(), link))


def _dismiss(address: str, key: bytes, size: int) -> None:
    """Let nobody wait any more for processes that did not come."""
    for _ in range(size):
        with contextlib.suppress(OSError, EOFError):
            Client(address, authkey=key).close()
