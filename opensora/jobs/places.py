"""Where jobs live on disk, and how files are written so that a kill at any moment leaves none of them torn.

Below the output folder, ``<id>/`` holds the finished files of a job and appears at once, by a rename. ``.jobs/`` holds
everything else: the database, what jobs were given, and what is being made.
"""

import hashlib
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "job.json"
"""File beside the results: everything that is known of the job."""


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

    def worker_lock(self, worker: str) -> Path:
        """Held by the process that is this worker."""
        return self.root / f"{worker}.lock"

    def ready(self, worker: str) -> Path:
        """Touched by a worker that has loaded what it needs."""
        return self.root / f"{worker}.ready"

    @property
    def work(self) -> Path:
        """Folders of all jobs."""
        return self.root / "work"

    def job(self, job_id: str) -> Path:
        """What a job was given, in a folder for every time that its request was edited."""
        return self.work / job_id

    def given(self, job_id: str, revision: int) -> Path:
        """What a request was given."""
        return self.job(job_id) / str(revision)

    @property
    def all_making(self) -> Path:
        """Folders of files that are being written."""
        return self.root / "making"

    def making(self, job_id: str, lease: str) -> Path:
        """Files that an attempt is writing."""
        return self.all_making / f"{job_id}.{lease}"

    def result(self, job_id: str) -> Path:
        """Finished files."""
        return self.outputs / job_id

    def remove(self, job_id: str) -> None:
        """Delete everything of a job, its results last."""
        for folder in (*self.all_making.glob(f"{job_id}.*"), self.job(job_id), self.result(job_id)):
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


def sha256(file: Path) -> str:
    """Hash of a file's bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What is known of the job whose results lie in a folder; ``None`` if there are none."""
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    return found
