"""Where jobs live on disk, and how files are written so that a kill at any moment leaves none of them torn.

Below the output folder, ``<id>/`` holds the finished files of a job and appears at once, by a rename. ``.jobs/`` holds
everything else: the database, and per job what it was given, how far it is, and what is being made.
"""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

OPEN, CANCELLED, PUBLISHED = "open", "cancelled", "published"
"""Names of a job's decision. It is taken by renaming the first to one of the others, which succeeds exactly once."""


@dataclass(frozen=True)
class Places:
    """Files and folders of the jobs of one output folder."""

    outputs: Path
    """Folder of the results."""

    @property
    def root(self) -> Path:
        """Everything that is no result."""
        return self.outputs / ".jobs"

    @property
    def database(self) -> Path:
        """The engine's SQLite file."""
        return self.root / "jobs.sqlite"

    @property
    def server_lock(self) -> Path:
        """Held by the process that serves this folder."""
        return self.root / "server.lock"

    @property
    def worker_lock(self) -> Path:
        """Held by the process that makes the clips."""
        return self.root / "worker.lock"

    @property
    def ready(self) -> Path:
        """Touched by every worker that has loaded what it needs."""
        return self.root / "ready"

    @property
    def work(self) -> Path:
        """Folders of all jobs."""
        return self.root / "work"

    def job(self, job_id: str) -> Path:
        """What a job was given, its decision, and how far it is."""
        return self.work / job_id

    def making(self, job_id: str) -> Path:
        """Files that are being written."""
        return self.root / "making" / job_id

    def result(self, job_id: str) -> Path:
        """Finished files."""
        return self.outputs / job_id

    def remove(self, job_id: str) -> None:
        """Delete everything of a job, its results last."""
        for folder in (self.making(job_id), self.job(job_id), self.result(job_id)):
            shutil.rmtree(folder, ignore_errors=True)


def write(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write a file that readers see whole or not at all.

    Args:
        durable: whether it has to outlive a power cut.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk; folders only where the system can."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def decide(folder: Path, decision: str, before: str = OPEN) -> bool:
    """Turn a job's decision from one into another; whether it was the first that is given."""
    try:
        (folder / before).rename(folder / decision)
    except FileNotFoundError:
        return False
    return True
