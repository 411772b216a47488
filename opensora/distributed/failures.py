"""What one process of a run says when it fails, so that the others end with its sentence and wait no longer.

A process that fails leaves its sentence in the store through which the processes found each other. One that waits for
another looks there every :data:`LOOK` seconds.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch.distributed as dist

LOOK = 0.2
"""Seconds between two looks at the store."""
GRACE = 5.0
"""Seconds that a failing process stays for the others to read its sentence."""

_SENTENCE, _READ, _DONE, _LEFT = "sentence", "read", "done", "left"


class RankFailure(RuntimeError):
    """Another process of the run failed; the message is what it said."""


class Failures:
    """The sentence of the process that failed first, for all processes of a run."""

    def __init__(self, store: dist.Store, rank: int, count: int, patience: timedelta) -> None:
        self.store, self.rank, self.count, self.patience = store, rank, count, patience
        self._read = False
        self._meetings = 0

    @classmethod
    def of_this_run(cls, rank: int, count: int, patience: timedelta) -> "Failures":
        """Through the store of a started run (at MASTER_ADDR and MASTER_PORT), by a connection of its own."""
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(*address, is_master=False, timeout=patience)
        return cls(dist.PrefixStore("opensora/failures", store), rank, count, patience)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Run a body on every process: it ends on all of them, or raises on all of them.

        Raises:
            RankFailure: the body raised in another process, or that process is gone.
        """
        try:
            yield
            self._meet()
        except BaseException as error:
            if not isinstance(error, RankFailure):
                self.say(error)
            self._stay()
            raise

    def say(self, error: BaseException) -> None:
        """Leave the sentence of an error, unless another process was first."""
        with suppress(dist.DistError):
            text = f"process {self.rank} of {self.count} failed with {type(error).__name__}: {error}"
            self.store.compare_set(_SENTENCE, "", text)
            self._have_read()

    def check(self) -> None:
        """Go on if no process failed.

        Raises:
            RankFailure: one did, or the process that keeps the store is gone.
        """
        try:
            if not self.store.check([_SENTENCE]):
                return
            text = self.store.get(_SENTENCE).decode()
            self._have_read()
        except dist.DistError as error:
            raise self.lost(error) from error
        raise RankFailure(text)

    def lost(self, error: BaseException) -> RankFailure:
        """What is raised when a process ended without a sentence."""
        reason = str(error).strip().split(". ")[0] or type(error).__name__
        return RankFailure(
            "another process of the run ended without a word, or was silent for too long; look at its output for why "
            f"({reason})."
        )

    def _have_read(self) -> None:
        if not self._read:
            self._read = True
            self.store.add(_READ, 1)

    def _meet(self) -> None:
        """Wait until every process is here."""
        self._meetings += 1
        done, left = (f"{name}/{self._meetings}" for name in (_DONE, _LEFT))
        try:
            self.store.add(done, 1)
            end = time.monotonic() + self.patience.total_seconds()
            while self.store.add(done, 0) < self.count:
                self.check()
                if time.monotonic() > end:
                    raise RankFailure(f"waited {self.patience} for another process to finish; it may hang.")
                time.sleep(LOOK / 4)
            self.store.add(left, 1)
            if self.rank == 0:  # which may keep the store
                self._until(left)
        except dist.DistError as error:
            raise self.lost(error) from error

    def _stay(self) -> None:
        with suppress(dist.DistError):
            self._until(_READ)

    def _until(self, counter: str) -> None:
        """Wait until all processes have added to a counter, or for :data:`GRACE` seconds."""
        end = time.monotonic() + GRACE
        while self.store.add(counter, 0) < self.count and time.monotonic() < end:
            time.sleep(LOOK / 4)
