"""The process that makes the clips: ``python -m opensora.jobs.worker --output-dir outputs``, started by the queue.

It keeps the networks in memory, takes one job after the other from the database, and ends at once when its standard
input is closed, which also happens when the process that started it is killed. The job that it was at runs again later.
"""

import argparse
import importlib
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSConfig
from filelock import FileLock

from opensora.jobs.places import Places
from opensora.jobs.serializer import JsonSerializer
from opensora.jobs.store import APPLICATION, EXECUTOR, QUEUE, VERSION, WORKFLOW, url

log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between two looks for a new job."""


class Worker:
    """Runs jobs of one output folder.

    Args:
        places: the folder.
        generate: ``module:function`` that makes the result of a request; loaded by the first job.
        most: attempts at a job.
    """

    def __init__(self, places: Places, generate: str, most: int) -> None:
        self.places, self.most = places, most
        self._module, _, self._function = generate.partition(":")
        self._current: set[str] = set()
        self._lock = threading.Lock()

    def load(self) -> Any:
        """What makes the result of a request; loading the pipeline behind it takes seconds the first time."""
        importlib.import_module("opensora.jobs.attempt")
        return getattr(importlib.import_module(self._module), self._function)

    def run(self, job_id: str, job: dict[str, Any]) -> dict[str, Any]:
        """One attempt at a job; returns its outcome."""
        from opensora.jobs import attempt

        generate = self.load()
        with self._lock:
            self._current.add(job_id)
        try:
            return attempt.run(job_id, job, self.places, generate, self.most)
        finally:
            with self._lock:
                self._current.discard(job_id)

    def leave(self) -> None:
        """End now. Nothing is torn by that, and the present job's attempt does not count."""
        with self._lock:
            if self._current:
                from opensora.jobs.attempt import give_back

                for job_id in self._current:
                    give_back(self.places.job(job_id))
            os._exit(0)


def serve(worker: Worker) -> None:
    """Take jobs until the end; never returns."""
    config: DBOSConfig = {
        "name": APPLICATION,
        "system_database_url": url(worker.places),
        "executor_id": EXECUTOR,
        "application_version": VERSION,
        "serializer": JsonSerializer(),
        "log_level": "WARNING",
    }
    DBOS(config=config)

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)
    def generate(job: dict[str, Any]) -> dict[str, Any]:
        assert DBOS.workflow_id is not None
        return worker.run(DBOS.workflow_id, job)

    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=POLL)
    log.info("the worker is ready")
    threading.Event().wait()


def warm_up(worker: Worker, model: str) -> None:
    """Load what jobs run, and the networks if they are bundled, while the first visitor is still typing."""
    worker.load()
    from opensora.models import zoo
    from opensora.pipelines.build import build_models

    preset = zoo.PRESETS[model]
    if not preset.bundled or not zoo.status(preset).installed:
        return
    try:
        build_models(preset.modes[0], preset.resolutions[0], enable_optimization=True, model=model)
    except ValueError as error:  # the page says it when somebody generates
        log.warning("%s could not be loaded: %s", model, error)


def main() -> None:
    """Parse the arguments, wait for the worker before this one to end, and serve."""
    parser = argparse.ArgumentParser(description="Makes the clips of an output folder's queue.")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of the results and the queue")
    parser.add_argument("--generate", default="opensora.pipelines.video:generate", help="module:function")
    parser.add_argument("--attempts", type=int, default=3, help="attempts at a job that ends the worker")
    parser.add_argument("--warm-up", metavar="MODEL", help="load a bundled model at once")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    worker = Worker(Places(options.output_dir), options.generate, options.attempts)
    threading.Thread(target=_until_closed, args=(worker,), name="opensora-leave", daemon=True).start()
    with FileLock(worker.places.worker_lock):
        threading.Thread(target=_prepare, args=(worker, options.warm_up), name="opensora-warm-up", daemon=True).start()
        serve(worker)


def _prepare(worker: Worker, model: str | None) -> None:
    if model:
        warm_up(worker, model)
    worker.places.ready.touch()


def _until_closed(worker: Worker) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    worker.leave()


if __name__ == "__main__":
    main()
