"""The queue of a Space on ZeroGPU: the usual one, with its worker in the page's process."""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opensora.jobs.durable import DurableQueue
from opensora.jobs.fleet import Command, Fleet
from opensora.jobs.places import Places
from opensora.jobs.queue import JobView
from opensora.jobs.record import Priority
from opensora.jobs.retention import Retention
from opensora.jobs.tickets import job_of
from opensora.jobs.worker import Settings, Worker
from opensora.pipelines.request import GenerationRequest
from opensora.sentences import say
from opensora.space.zero import VISITOR, Visitors, ZeroGpu

log = logging.getLogger(__name__)


class ZeroWorker(Worker):
    """Makes every job in the circumstances of its owner."""

    def __init__(self, settings: Settings, gpu: ZeroGpu, visitors: Visitors) -> None:
        super().__init__(settings)
        self._gpu, self._visitors = gpu, visitors

    def load(self) -> ZeroGpu:
        """What makes the result of a request."""
        return self._gpu

    def run(self, ticket: str) -> dict[str, Any] | None:
        """One attempt at the job of a ticket; returns its outcome."""
        records = self.store.board.some([job_of(ticket)[0]])
        token = VISITOR.set(self._visitors.of(records[0].owner) if records else None)
        try:
            return super().run(ticket)
        finally:
            VISITOR.reset(token)


class ZeroFleet(Fleet):
    """One worker in a thread of this process."""

    def __init__(self, command: Command, gpu: ZeroGpu, visitors: Visitors, name: str = "worker") -> None:
        self._name, self._since = name, time.time()
        settings = Settings(command.output_dir, storage=command.storage, name=name, attempts=command.attempts)
        self._worker = ZeroWorker(settings, gpu, visitors)
        self._thread = threading.Thread(target=self._worker.serve, name="opensora-zero", daemon=True)
        self._thread.start()

    @property
    def names(self) -> list[str]:
        """Ids of the workers."""
        return [self._name]

    def wake(self) -> None:
        """Tell the worker that there is something to do."""
        self._worker.awake.set()

    def since(self, name: str | None) -> float:
        """When the worker was started, in seconds since 1970; 0 for another."""
        return self._since if name == self._name else 0.0

    def starting(self, name: str | None, broken_off: bool) -> str:
        """What is said of a job whose worker has not reported since it was started."""
        return "starting"

    def stop(self) -> None:
        """Give the present job back and end the worker."""
        self._worker.stop()
        self._thread.join(timeout=30)

    def trouble(self, places: Places, name: str) -> str | None:
        """Why the worker takes no job at present; ``None`` if it does."""
        return None if self._thread.is_alive() else say("space.worker")


class ZeroQueue(DurableQueue):
    """Jobs of a Space on ZeroGPU.

    Args:
        output_dir: folder of the results.
        gpu: what asks for GPUs.
        retention: what is deleted in time.
    """

    def __init__(self, output_dir: Path, gpu: ZeroGpu, retention: Retention) -> None:
        self._visitors = visitors = Visitors()

        def fleet(command: Command, gpus: Sequence[str | None], prefix: str) -> Fleet:
            return ZeroFleet(command, gpu, visitors)

        super().__init__(output_dir, retention=retention, make_fleet=fleet)

    def submit(self, request: GenerationRequest, owner: str, priority: Priority = Priority.NORMAL) -> str:
        """Check a request and queue it; returns the job id."""
        self._visitors.remember(owner)
        return super().submit(request, owner, priority)

    def jobs(self, owner: str) -> list[JobView]:
        """All jobs of an owner, newest first; their requests without pictures and clips."""
        self._visitors.remember(owner)
        return super().jobs(owner)
