"""One attempt at a job, in the worker: generate, tell how far it is, publish once.

An attempt may end at any moment by a kill. What it leaves in the job's folders is enough for the next to go on rightly.
"""

import contextlib
import hashlib
import io
import json
import logging
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from opensora.jobs.given import unpack
from opensora.jobs.places import CANCELLED, OPEN, PUBLISHED, Places, decide, sync, write
from opensora.jobs.queue import Generate, JobState
from opensora.pipelines.errors import RequestError
from opensora.pipelines.result import Cancelled, GenerationError, GenerationResult, Progress, SaveError

log = logging.getLogger(__name__)

MANIFEST = "job.json"
"""File beside the results: everything that is known of the job."""
PROGRESS, PREVIEW, ATTEMPTS = "progress.json", "preview.npy", "attempts"
LOOK = 0.05
"""Seconds between two looks for a wish to cancel; layers ask thousands of times a second."""
UNEXPECTED = "Generation stopped because of an unexpected error; the server's log has the details."


class CancelWish:
    """Whether somebody asked to stop a job; for the generation's cancel flag."""

    def __init__(self, folder: Path) -> None:
        self._file, self._looked, self._is_set = folder / CANCELLED, 0.0, False

    def is_set(self) -> bool:
        """Whether to stop."""
        now = time.monotonic()
        if not self._is_set and now - self._looked >= LOOK:
            self._looked, self._is_set = now, self._file.exists()
        return self._is_set


@dataclass
class Reports:
    """Writes how far an attempt is where the page reads it."""

    folder: Path
    attempt: int
    started: float = field(default_factory=time.time)
    previews: int = 0

    def __call__(self, progress: Progress) -> None:
        """Report; a disk that is full must not end the job here."""
        with contextlib.suppress(OSError):
            if progress.preview is not None:
                data = io.BytesIO()
                np.save(data, progress.preview, allow_pickle=False)
                write(self.folder / PREVIEW, data.getvalue())
                self.previews += 1
            told = {
                "attempt": self.attempt,
                "started": self.started,
                "stage": progress.stage,
                "step": progress.step,
                "total": progress.total,
                "seconds_left": progress.seconds_left,
                "reported": time.time(),
                "previews": self.previews,
            }
            write(self.folder / PROGRESS, json.dumps(told).encode())


def run(job_id: str, job: dict[str, Any], places: Places, generate: Generate, most: int) -> dict[str, Any]:
    """Make a job's files; returns its outcome as JSON values.

    Args:
        job: ``request``, see :mod:`opensora.jobs.given`, and when it was ``created``.
        generate: makes the result.
        most: attempts that may be broken off by the end of the worker.
    """
    folder = places.job(job_id)
    if (published := places.result(job_id) / MANIFEST).exists():  # the worker ended before the database knew
        outcome: dict[str, Any] = json.loads(published.read_bytes())["outcome"]
        return outcome
    decide(folder, OPEN, before=PUBLISHED)  # decided by an attempt that ended before it could act on it
    reports = Reports(folder, attempts(folder) + 1)
    try:
        _begin(reports, most)
        return _made(job_id, job, places, generate, reports)
    except Cancelled:
        return _ended(JobState.CANCELLED, reports)
    except (RequestError, GenerationError) as error:
        return _ended(JobState.FAILED, reports, str(error))
    except Exception:
        log.exception("job %s failed", job_id)
        return _ended(JobState.FAILED, reports, UNEXPECTED)
    finally:
        shutil.rmtree(places.making(job_id), ignore_errors=True)


def forget(folder: Path) -> None:
    """Delete the reports of a job that has ended, and what a kill left of one."""
    with contextlib.suppress(OSError):
        for file in (folder / PROGRESS, folder / PREVIEW, *folder.glob(".*")):
            file.unlink(missing_ok=True)


def attempts(folder: Path) -> int:
    """How often a job was begun, without attempts that were given back."""
    try:
        return int((folder / ATTEMPTS).read_text())
    except (OSError, ValueError):
        return 0


def give_back(folder: Path) -> None:
    """Do not count the present attempt: the worker ends because it is told to, the job is not to blame."""
    with contextlib.suppress(OSError):
        write(folder / ATTEMPTS, str(max(0, attempts(folder) - 1)).encode())


def gave_up(most: int) -> str:
    """What is said of a job that ended its worker too often."""
    return (
        f"The worker ended {most} times in the middle of this clip, so it is not tried again. The memory probably ran "
        "out: choose a smaller resolution or a shorter clip. The server's log has the details."
    )


def _begin(reports: Reports, most: int) -> None:
    """Count the attempt before anything of it can end the worker."""
    if reports.attempt > most:
        reports.attempt = most
        raise GenerationError("starting", gave_up(most))
    try:
        write(reports.folder / ATTEMPTS, str(reports.attempt).encode(), durable=True)
    except OSError as error:
        raise GenerationError(
            "starting",
            f"The clip was not begun, because nothing can be written to the output folder: {error.strerror}. Make "
            "room or give the server another --output-dir, then generate it again.",
        ) from error
    again = f"beginning again, attempt {reports.attempt} of {most}"
    reports(Progress("starting" if reports.attempt == 1 else again))


def _made(job_id: str, job: dict[str, Any], places: Places, generate: Generate, reports: Reports) -> dict[str, Any]:
    """Generate and publish."""
    wish = CancelWish(reports.folder)
    if wish.is_set():
        raise Cancelled()
    result = generate(unpack(job["request"], reports.folder), on_progress=reports, cancel=wish)
    reports(Progress("saving"))
    try:
        return _publish(job_id, job, places, result, reports)
    except (OSError, SaveError) as error:  # the words of a SaveError name the server's folder
        cause = error.__cause__ if isinstance(error, SaveError) else error
        reason = getattr(cause, "strerror", None) or "writing failed"
        raise GenerationError(
            "saving",
            f"The clip was made but could not be written to the output folder: {reason}. "
            "Make room or give the server another --output-dir, then generate it again.",
        ) from error


def _publish(
    job_id: str, job: dict[str, Any], places: Places, result: GenerationResult, reports: Reports
) -> dict[str, Any]:
    """Write the files aside and bring all of them into place by one rename, unless the job was cancelled before."""
    making = places.making(job_id)
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    files = result.save(making / "video")
    for file in files:
        sync(file)
    outcome = _ended(JobState.DONE, reports) | {
        "files": [{"name": f.name, "sha256": sha256(f), "bytes": f.stat().st_size} for f in files],
        "settings": result.settings,
        "plan": result.plan,
        "timings": result.timings,
        "notes": [*result.notes, *_said(reports.attempt)],
    }
    manifest = {"id": job_id, **job, "outcome": outcome}
    write(making / MANIFEST, json.dumps(manifest, indent=1).encode(), durable=True)
    sync(making)
    if not decide(reports.folder, PUBLISHED):
        raise Cancelled()
    making.rename(places.result(job_id))
    sync(places.outputs)
    return outcome


def _said(attempt: int) -> list[str]:
    if attempt == 1:
        return []
    return [f"The worker ended in the middle of this clip and was started again; this is attempt {attempt}."]


def _ended(state: JobState, reports: Reports, error: str | None = None) -> dict[str, Any]:
    return {
        "state": str(state),
        "error": error,
        "attempts": reports.attempt,
        "started": reports.started,
        "finished": time.time(),
    }


def sha256(file: Path) -> str:
    """Hash of a file's bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
