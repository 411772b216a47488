"""What is shown of a job: its row on the board, and while it runs what the worker reports."""

import io
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from opensora.jobs import given
from opensora.jobs.board import Board
from opensora.jobs.fleet import Fleet
from opensora.jobs.places import Places
from opensora.jobs.queue import JobState, JobView
from opensora.jobs.record import CANCELLED, Priority, Record
from opensora.sentences import unpack


@dataclass(frozen=True)
class Running:
    """What the worker reported of a job."""

    told: dict[str, Any] = field(default_factory=dict)
    """The last report, see :class:`opensora.jobs.attempt.Reports`; empty before the first."""
    previews: int = 0
    preview: np.ndarray | None = None


def read(board: Board, ids: Iterable[str], before: dict[str, Running]) -> dict[str, Running]:
    """What workers reported of jobs.

    Args:
        before: as it was at the last look; a preview that did not change is not read again.
    """
    found = {}
    for job_id, (told, previews) in board.told(ids).items():
        known = before.get(job_id)
        if known is not None and (known.told["started"], known.previews) == (told["started"], previews):
            preview = known.preview
        else:
            preview = _array(board.preview(job_id)) if previews else None
        found[job_id] = Running(told, previews, preview)
    return found


def of(record: Record, places: Places, running: Running | None, fleet: Fleet) -> JobView:
    """Snapshot of a job, with the request's outline; its position in the queue is not known here."""
    view = JobView(
        record.id,
        record.owner,
        given.outline(record.packed),
        created=record.created,
        attempts=record.attempts,
        batch=record.batch,
        priority=Priority(record.priority),
        pinned=record.pinned,
        worker=record.worker,
    )
    if record.outcome is not None:
        return _ended(view, record.outcome, places)
    if record.paused:
        return replace(view, state=JobState.PAUSED)
    if not record.running:
        return view
    view = replace(view, state=JobState.RUNNING, stopping=record.decision == CANCELLED)
    running = running or Running()
    told, since = running.told, fleet.since(record.worker)
    if not told or told["reported"] < since or told["attempt"] != record.attempts:
        return replace(view, stage=fleet.starting(record.worker, bool(told)), started=told.get("started"))
    return replace(
        view,
        stage=unpack(told["stage"], "starting"),
        step=told["step"],
        total=told["total"],
        seconds_left=told["seconds_left"],
        memory=told.get("memory"),
        peak=told.get("peak"),
        reported=told["reported"],
        started=told["started"],
        preview=running.preview,
        preview_number=running.previews,
    )


def _ended(view: JobView, outcome: dict[str, Any], places: Places) -> JobView:
    files, error, notes = outcome.get("files", []), outcome["error"], outcome.get("notes", [])
    said = outcome.get("said") or notes  # jobs of versions that kept the English alone
    state = JobState(outcome["state"])
    return replace(
        view,
        state=state,
        error=None if error is None else unpack(outcome.get("why"), error),
        attempts=outcome["attempts"],
        started=outcome["started"],
        finished=outcome["finished"],
        files=tuple(places.result(view.id) / file["name"] for file in files),
        sha256=tuple(file["sha256"] for file in files),
        settings=outcome.get("settings"),
        plan=outcome.get("plan"),
        notes=tuple(unpack(told, note) for told, note in zip(said, notes, strict=True)),
        timings=outcome.get("timings", {}),
        seconds_left=0.0 if state is JobState.DONE else None,
    )


def _array(data: bytes | None) -> np.ndarray | None:
    if data is None:
        return None
    array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    return array
