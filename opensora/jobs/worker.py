"""The process that makes the clips, started by the server, or by ``python -m opensora worker`` on any machine.

It keeps the networks in memory and takes one job after the other. While there is none it sleeps until it is woken, with
the engine shut down, so that waiting costs nothing.
"""

import argparse
import importlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbos import DBOS, DBOSConfig
from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from opensora.jobs import bell
from opensora.jobs.fleet import DATABASE
from opensora.jobs.places import Places
from opensora.jobs.serializer import JsonSerializer
from opensora.jobs.storage import open_storage
from opensora.jobs.store import BEAT, DEAD, JobStore, sqlite
from opensora.jobs.tickets import APPLICATION, QUEUE, VERSION, WORKFLOW, job_of

if TYPE_CHECKING:
    from opensora.jobs.crew import Crew

log = logging.getLogger(__name__)

LINGER = 1.5
"""Seconds without a job after which the engine is shut down."""
LOOK = 0.25
"""Seconds between two looks whether there is still a job."""
GENERATE = "opensora.pipelines.video:generate"


@dataclass(frozen=True)
class Settings:
    """Of a worker process."""

    output_dir: Path
    """Folder of the results; on a machine of its own, one for files on their way."""
    database: str | None = None
    """Address of PostgreSQL; ``None`` for the file below the output folder."""
    storage: str | None = None
    """Where files go, for fsspec; ``None``: the output folder, which all machines then share."""
    name: str | None = None
    """Id of the worker; ``None`` for one that nobody has."""
    generate: str = GENERATE
    """``module:function`` that makes the result of a request; loaded by the first job."""
    attempts: int = 3
    """Attempts at a job that ends the worker."""
    warm_up: str | None = None
    """Bundled model that is loaded at once."""
    span: int = 1
    """Processes that make each clip together, on a GPU each where there are any."""

    def __post_init__(self) -> None:
        if self.span < 1:
            raise ValueError(f"Got {self.span} processes for a clip; expected 1 or more.")

    @property
    def url(self) -> str:
        """Address of the database."""
        return self.database or sqlite(Places(self.output_dir).database)


class Worker:
    """Runs jobs.

    Args:
        settings: of this process.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.places = Places(settings.output_dir)
        self.places.work.mkdir(parents=True, exist_ok=True)
        self.storage = open_storage(self.places, settings.storage)
        self.id = settings.name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.awake = threading.Event()
        self.awake.set()
        self._stopping = threading.Event()
        self.store = JobStore(settings.url)
        """The jobs."""
        self.crew: Crew | None = None
        """The processes that make each clip together; ``None`` where this one makes them alone, or before the first."""
        self._current: dict[str, str] = {}
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._remote = settings.database is not None

    def load(self) -> Any:
        """What makes the result of a request; loading the pipeline behind it takes seconds the first time."""
        importlib.import_module("opensora.jobs.attempt")
        if self.settings.span > 1:
            from opensora.jobs.crew import Crew

            with self._loading:
                self.crew = self.crew or Crew(self.settings.span, self.settings.generate)
            return self.crew
        module, _, function = self.settings.generate.partition(":")
        return getattr(importlib.import_module(module), function)

    def run(self, ticket: str) -> dict[str, Any] | None:
        """One attempt at the job of a ticket; returns its outcome."""
        from opensora.jobs import attempt

        job_id, number = job_of(ticket)
        lease = secrets.token_hex(8)
        with self._lock:
            busy = bool(self._current)
            if not busy:
                self._current[job_id] = lease
        if busy:  # the engine counts a job only when its thread has begun, and may hand out another before that
            self.store.pass_on(job_id, number)
            return None
        try:
            generate = self.load()
            at = attempt.Workplace(
                self.places, self.store.board, self.storage, generate, self.id, self.settings.attempts
            )
            return attempt.run(job_id, number, at, lease)
        finally:
            with self._lock:
                self._current.pop(job_id, None)

    def serve(self) -> None:
        """Take jobs until :meth:`stop`."""
        _register(self)
        threading.Thread(target=self._beat, name="opensora-beat", daemon=True).start()
        while not self._stopping.is_set():
            self.awake.wait(timeout=bell.FALLBACK if self._remote else None)
            self.awake.clear()
            try:
                if self._remote:
                    self.store.board.beat(self.id)
                    self.store.mend()
                if self.store.work_for(self.id):
                    self.load()  # before a ticket is taken, which others could have had
                    self._work()
            except SQLAlchemyError as error:
                log.warning("the database does not answer: %s; trying again", error)
                time.sleep(BEAT)
                self.awake.set()
        if self.crew is not None:
            self.crew.end()

    def leave(self) -> None:
        """End now. Nothing is torn by that, and the present job's attempt does not count."""
        with self._lock:
            self._give_back()
            if self.crew is not None:
                self.crew.end()
            os._exit(0)

    def stop(self) -> None:
        """Take no more jobs, for a worker that is a thread; the present job's attempt ends soon and does not count."""
        self._stopping.set()
        with self._lock:
            self._give_back()
        self.awake.set()

    def _give_back(self) -> None:
        try:
            for job_id, lease in self._current.items():
                self.store.board.give_back(job_id, lease)
            self.store.board.leave(self.id, older=100 * DEAD)
        except SQLAlchemyError as error:
            log.warning("the database does not answer: %s", error)

    def _work(self) -> None:
        """Run the engine as long as there is something to do."""
        self.store.board.beat(self.id)
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": self.settings.url,
            "executor_id": self.id,
            "application_version": VERSION,
            "serializer": JsonSerializer(),
            "log_level": "WARNING",
            "run_migrations": False,
            "notification_listener_polling_interval_sec": 0.2,  # nothing comes there; the end waits for its sleep
        }
        DBOS(config=config)
        try:
            DBOS.listen_queues([QUEUE])
            DBOS.launch()
            idle = 0.0  # by looks, not by the clock, which goes on while a library is loaded
            while self._current or (idle < LINGER and not self._stopping.is_set()):
                idle = 0.0 if self._current or self.store.work_for(self.id) else idle + LOOK
                self.awake.clear()
                time.sleep(LOOK)
        finally:
            DBOS.destroy()
        while self._current:  # handed over in the moment in which the engine was shut down
            time.sleep(LOOK)
        if self.store.work_for(self.id):
            self.awake.set()

    def _beat(self) -> None:
        """Say that this worker lives, and look for jobs of machines that are gone."""
        while True:
            time.sleep(BEAT)
            try:
                if self._current or self._remote:
                    self.store.board.beat(self.id)
                if self._current and self._remote:
                    self.store.mend()
            except SQLAlchemyError as error:
                log.warning("the database does not answer: %s", error)


def _register(worker: Worker) -> None:
    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)
    def generate() -> dict[str, Any] | None:
        assert DBOS.workflow_id is not None
        return worker.run(DBOS.workflow_id)


def warm_up(worker: Worker, model: str) -> None:
    """Load what jobs run, and the networks if they are bundled."""
    worker.load()
    from opensora.jobs import warm

    if worker.crew is None:
        warm.warm_up(model)
        return
    try:
        worker.crew.warm_up(model)
    except RuntimeError as error:  # the job that comes next says it
        log.warning("%s could not be loaded: %s", model, error)


def main() -> None:
    """What the server starts: parse the arguments, wait for the worker before this one to end, and serve."""
    parser = argparse.ArgumentParser(description="Makes the clips of an output folder's queue.")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder of the results and the queue")
    parser.add_argument("--storage", help="where files go, for fsspec")
    parser.add_argument("--name", default="worker", help="id of this worker")
    parser.add_argument("--generate", default=GENERATE, help="module:function")
    parser.add_argument("--attempts", type=int, default=3, help="attempts at a job that ends the worker")
    parser.add_argument("--warm-up", metavar="MODEL", help="load a bundled model at once")
    parser.add_argument("--span", type=int, default=1, help="processes that make each clip together")
    settings = Settings(**vars(parser.parse_args()), database=os.environ.get(DATABASE))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("dbos").setLevel(logging.WARNING)
    worker = Worker(settings)
    threading.Thread(target=_until_closed, args=(worker,), name="opensora-leave", daemon=True).start()
    with FileLock(worker.places.worker_lock(worker.id)):
        run(worker)


def run(worker: Worker) -> None:
    """Serve with everything beside it: loading ahead, and being woken."""
    threading.Thread(target=_prepare, args=(worker,), name="opensora-warm-up", daemon=True).start()
    if worker.settings.database is not None:
        bell.listen(worker.settings.database, worker.awake)
    for asked in (signal.SIGTERM, signal.SIGINT):  # in a thread: this one may be talking to the database
        signal.signal(asked, lambda *_: threading.Thread(target=worker.leave).start())
    worker.serve()


def _prepare(worker: Worker) -> None:
    if worker.settings.warm_up:
        warm_up(worker, worker.settings.warm_up)
    worker.places.ready(worker.id).touch()


def _until_closed(worker: Worker) -> None:
    """The server writes something when there is a job; when it ends, so does this."""
    while os.read(sys.stdin.fileno(), 4096):
        worker.awake.set()
    worker.leave()


if __name__ == "__main__":
    main()
