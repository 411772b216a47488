"""The workers of the server's own machine: one for each GPU or set of GPUs, or one on whatever there is."""

import contextlib
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opensora.jobs.places import Places
from opensora.jobs.supervisor import Supervisor
from opensora.sentences import say

DATABASE = "OPENSORA_DATABASE"
"""Variable of the environment with the address of PostgreSQL."""


GPUS = "CUDA_VISIBLE_DEVICES"
"""Variable of the environment with the numbers of the GPUs that a process sees."""


def gpu_sets(text: str, span: int = 1) -> tuple[str, ...]:
    """GPUs of each worker of a machine, from numbers such as ``0,1,2,3``: with a span of 2, ``0,1`` and ``2,3``.

    Args:
        span: GPUs that make each clip together.

    Raises:
        ValueError: not numbers, a GPU twice, or sets that do not come out even.
    """
    numbers = tuple(number.strip() for number in text.split(","))
    if not all(number.isdecimal() for number in numbers):
        raise ValueError(
            f"Got the GPUs {text!r}; expected numbers with commas, such as 0,1 for a worker on each of two, or, with "
            "--span 2, for one that makes each clip with both."
        )
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"Got the GPUs {text!r}; every GPU can belong to one worker only.")
    if len(numbers) % span:
        raise ValueError(
            f"Got {len(numbers)} GPUs for clips that span {span}; give {span} to each worker, so {span}, {2 * span} or "
            "another multiple of it."
        )
    return tuple(",".join(numbers[start : start + span]) for start in range(0, len(numbers), span))


@dataclass(frozen=True)
class Command:
    """How the server's workers are started."""

    output_dir: Path
    generate: str
    attempts: int
    warm_up: str | None = None
    database: str | None = None
    storage: str | None = None
    span: int = 1
    """Processes that make each clip together, see :mod:`opensora.jobs.crew`."""

    def words(self, name: str) -> list[str]:
        """Program and arguments of the worker of that name."""
        words = [sys.executable, "-m", "opensora.jobs.worker", "--output-dir", str(self.output_dir.absolute())]
        words += ["--name", name, "--generate", self.generate, "--attempts", str(self.attempts)]
        for option, value in (("--warm-up", self.warm_up), ("--storage", self.storage)):
            words += [option, value] if value else []
        return [*words, "--span", str(self.span)] if self.span > 1 else words


class Fleet:
    """Worker processes that are kept alive.

    Args:
        command: how one is started.
        gpus: GPUs of each worker, such as ``("0", "1")`` or ``("0,1",)``; a worker of ``None`` takes what it finds.
        prefix: of their names, which no other machine's workers have.
    """

    def __init__(self, command: Command, gpus: Sequence[str | None], prefix: str = "worker") -> None:
        names = [prefix if len(gpus) == 1 else f"{prefix}-{number}" for number in range(1, len(gpus) + 1)]
        environment = {name: value for name, value in os.environ.items() if name != DATABASE}
        if command.database is not None:  # it may hold a password, and everybody sees arguments
            environment[DATABASE] = command.database
        self._workers = {
            name: Supervisor(command.words(name), environment if gpu is None else environment | {GPUS: gpu})
            for name, gpu in zip(names, gpus, strict=True)
        }

    @property
    def names(self) -> list[str]:
        """Ids of the workers."""
        return list(self._workers)

    def wake(self) -> None:
        """Tell all workers that there is something to do."""
        for worker in self._workers.values():
            worker.wake()

    def since(self, name: str | None) -> float:
        """When a worker was started, in seconds since 1970; infinite while it is not there, 0 for another machine's."""
        worker = self._workers.get(name or "")
        return 0.0 if worker is None else worker.since

    def starting(self, name: str | None, broken_off: bool) -> str:
        """What is said of a job whose worker has not reported since it was started.

        Args:
            broken_off: whether it was begun before.
        """
        worker = self._workers.get(name or "")
        if worker is None:
            return "starting"
        ended = broken_off or math.isinf(worker.since)
        return say("worker.again", trouble=worker.trouble) if ended and worker.trouble else "starting"

    def stop(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.ask()
        for worker in self._workers.values():
            worker.stop()

    def trouble(self, places: Places, name: str) -> str | None:
        """Why a worker takes no job at present; ``None`` if it does."""
        worker = self._workers[name]
        if math.isinf(worker.since):
            return worker.trouble or say("worker.starting")
        with contextlib.suppress(OSError):
            if places.ready(name).stat().st_mtime >= worker.since:
                return None
        return say("worker.loading")
