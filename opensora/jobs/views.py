"""What is shown of a job: its row in the database, and while it runs what the worker wrote beside it."""

import contextlib
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from opensora.jobs import attempt, given
from opensora.jobs.places import CANCELLED, Places
from opensora.jobs.queue import JobState, JobView
from opensora.jobs.store import WAITING, Record
from opensora.jobs.supervisor import Supervisor


@dataclass(frozen=True)
class Running:
    """What the worker wrote of a job."""

    told: dict[str, Any] = field(default_factory=dict)
    """The last report, see :class:`opensora.jobs.attempt.Reports`; empty before the first."""
    preview: np.ndarray | None = None
    attempts: int = 0
    stopping: bool = False


def read(folder: Path, before: Running | None) -> Running:
    """What the worker wrote into a job's folder.

    Args:
        before: as it was at the last look; a preview that did not change is not read again.
    """
    told: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        told = json.loads((folder / attempt.PROGRESS).read_bytes())
    preview = None
    if told.get("previews"):
        if before is not None and all(before.told.get(key) == told[key] for key in ("started", "previews")):
            preview = before.preview
        else:
            with contextlib.suppress(OSError, ValueError):
                preview = np.load(folder / attempt.PREVIEW, allow_pickle=False)
    return Running(told, preview, attempt.attempts(folder), (folder / CANCELLED).exists())


def of(record: Record, places: Places, running: Running | None, worker: Supervisor) -> JobView:
    """Snapshot of a job, with the request's outline; its position in the queue is not known here."""
    view = JobView(record.id, record.owner, given.outline(record.packed), created=record.created)
    if record.outcome is not None:
        return _ended(view, record.outcome, places)
    if record.status == "CANCELLED":
        return replace(view, state=JobState.CANCELLED, finished=record.finished)
    if not record.unfinished:
        return replace(view, state=JobState.FAILED, finished=record.finished, error=attempt.UNEXPECTED)
    running = running or Running()
    if record.status in WAITING:
        return replace(view, attempts=running.attempts)
    view = replace(view, state=JobState.RUNNING, attempts=running.attempts, stopping=running.stopping)
    told = running.told
    if not told or told["reported"] < worker.since:
        return replace(view, stage=_restarting(worker, bool(told)), started=told.get("started", record.created))
    return replace(
        view,
        stage=told["stage"],
        step=told["step"],
        total=told["total"],
        seconds_left=told["seconds_left"],
        reported=told["reported"],
        started=told["started"],
        preview=running.preview,
        preview_number=told["previews"],
    )


def _restarting(worker: Supervisor, broken_off: bool) -> str:
    ended = broken_off or math.isinf(worker.since)
    return f"{worker.trouble}; it is started again" if ended and worker.trouble else "starting"


def _ended(view: JobView, outcome: dict[str, Any], places: Places) -> JobView:
    files = outcome.get("files", [])
    state = JobState(outcome["state"])
    return replace(
        view,
        state=state,
        error=outcome["error"],
        attempts=outcome["attempts"],
        started=outcome["started"],
        finished=outcome["finished"],
        files=tuple(places.result(view.id) / file["name"] for file in files),
        sha256=tuple(file["sha256"] for file in files),
        settings=outcome.get("settings"),
        notes=tuple(outcome.get("notes", ())),
        timings=outcome.get("timings", {}),
        seconds_left=0.0 if state is JobState.DONE else None,
    )
