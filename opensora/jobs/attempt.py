"""One attempt at a job, in the worker: generate, tell how far it is, publish once.

An attempt may end at any moment by a kill, or lose its say. What it leaves is enough for the next to go on rightly.
"""

import contextlib
import hashlib
import io
import json
import logging
import secrets
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.exc import SQLAlchemyError

from opensora.jobs.board import Board
from opensora.jobs.crew import MemberLost
from opensora.jobs.given import unpack
from opensora.jobs.places import MANIFEST, Places, sha256, sync, write
from opensora.jobs.queue import Generate, JobState
from opensora.jobs.record import CANCELLED, PUBLISHED, Record
from opensora.jobs.storage import Storage
from opensora.pipelines.errors import RequestError
from opensora.pipelines.lean import OutOfMemory, free_memory, trim
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import (
    Cancelled,
    GenerationError,
    GenerationResult,
    Progress,
    SaveError,
    role_of,
)
from opensora.sentences import pack, say, stage_named

log = logging.getLogger(__name__)

LOOK = 0.2
"""Seconds between two looks for a wish to stop; layers ask thousands of times a second."""
TELL = 0.1
"""Seconds between two reports within a stage."""


@dataclass(frozen=True)
class Workplace:
    """What attempts of a worker share."""

    places: Places
    board: Board
    storage: Storage
    generate: Generate
    worker: str
    """Id of the worker."""
    most: int = 3
    """Attempts that may be broken off by the end of the worker."""


class Wish:
    """Whether to stop an attempt, and why; for the generation's cancel flag."""

    def __init__(self, board: Board, job_id: str, lease: str) -> None:
        self._board, self._job, self._lease, self._looked = board, job_id, lease, 0.0
        self.why: str | None = None
        """``cancelled``, or ``lost`` if the attempt has no say any more."""

    def is_set(self) -> bool:
        """Whether to stop."""
        now = time.monotonic()
        if self.why is None and now - self._looked >= LOOK:
            self._looked = now
            try:
                self.why = self._board.asked(self._job, self._lease)
            except SQLAlchemyError as error:  # the work goes on; publishing waits for the database
                log.warning("the database does not answer: %s", error)
        return self.why is not None


@dataclass
class Reports:
    """Writes how far an attempt is where the page's process reads it."""

    board: Board
    job: str
    attempt: int
    started: float = field(default_factory=time.time)
    previews: int = 0
    _told: float = 0.0
    _stage: str = ""
    _preview: bytes | None = None

    def __call__(self, progress: Progress) -> None:
        """Report; a disk that is full must not end the job here."""
        if progress.preview is not None:
            data = io.BytesIO()
            np.save(data, progress.preview, allow_pickle=False)
            self._preview = data.getvalue()
        now = time.time()
        if progress.stage == self._stage and 0 <= now - self._told < TELL:
            return
        self._told, self._stage = now, progress.stage
        self.previews += self._preview is not None
        told = {
            "attempt": self.attempt,
            "started": self.started,
            "stage": pack(progress.stage),
            "step": progress.step,
            "total": progress.total,
            "seconds_left": progress.seconds_left,
            "memory": progress.memory,
            "peak": progress.peak,
            "reported": now,
        }
        with contextlib.suppress(SQLAlchemyError):
            self.board.tell(self.job, told, self.previews, self._preview)
        self._preview = None


def run(job_id: str, ticket: int, at: Workplace, lease: str | None = None) -> dict[str, Any] | None:
    """Make a job's files and end it on the board.

    Args:
        ticket: number of the ticket that the worker was handed.
        lease: name of the attempt; ``None`` for a new one.

    Returns:
        The outcome as JSON values; ``None`` if the attempt had no say, or lost it: the job is somebody else's.
    """
    lease = lease or secrets.token_hex(8)
    record = at.board.take(job_id, ticket, at.worker, lease)
    if record is None:
        return None
    making = at.places.making(job_id, lease)
    try:
        outcome = _outcome(record, lease, at, making)
    except MemberLost as lost:  # which counts as an attempt, as the end of the worker itself does
        log.warning("%s It is begun again.", lost)
        return run(job_id, ticket, at, lease)
    finally:
        for folder in at.places.all_making.glob(f"{job_id}.*"):  # this attempt's, and what a kill left of others
            shutil.rmtree(folder, ignore_errors=True)
        trim()
    if outcome is None or not at.board.end(job_id, lease, outcome):
        log.info("job %s went on elsewhere; this attempt had no say", job_id)
        return None
    return outcome


def gave_up(most: int) -> str:
    """What is said of a job that ended its worker too often."""
    return say("failed.worker", most=most)


def seed_of(job_id: str) -> int:
    """Seed of a job that asks for any: the same in every attempt, so that each makes the same clip."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:4], "big") >> 1


def _outcome(record: Record, lease: str, at: Workplace, making: Path) -> dict[str, Any] | None:
    """What the attempt ends with; ``None`` if it has no say any more."""
    if (published := at.storage.published(record.id)) is not None:  # the worker ended before the board knew
        found: dict[str, Any] = published["outcome"]
        return found
    if record.decision == PUBLISHED:  # by an attempt that ended before it could act on it
        at.board.reopen(record.id, lease)
    reports = Reports(at.board, record.id, record.attempts)
    wish = Wish(at.board, record.id, lease)
    try:
        if record.decision == CANCELLED or wish.is_set():
            raise Cancelled()
        _begin(reports, at.most)
        result = _generated(record, at, making / "given", reports, wish)
        reports(Progress("saving"))
        return _published(record, lease, at, making, result, reports)
    except MemberLost as error:
        if reports.attempt < at.most:
            raise
        return _ended(JobState.FAILED, reports, say("failed.crew", reason=str(error), most=at.most))
    except Cancelled:
        lost = wish.why not in (None, CANCELLED) or at.board.asked(record.id, lease) not in (None, CANCELLED)
        return None if lost else _ended(JobState.CANCELLED, reports)
    except (RequestError, GenerationError) as error:
        return _ended(JobState.FAILED, reports, str(error))
    except Exception:
        log.exception("job %s failed", record.id)
        return _ended(JobState.FAILED, reports, say("failed.unexpected"))


def _begin(reports: Reports, most: int) -> None:
    """Refuse a job that ended its worker too often, and say that another is begun."""
    if reports.attempt > most:
        reports.attempt = most
        raise GenerationError("starting", gave_up(most))
    again = say("stage.again", attempt=reports.attempt, most=most)
    reports(Progress("starting" if reports.attempt == 1 else again))


def _generated(record: Record, at: Workplace, folder: Path, reports: Reports, wish: Wish) -> GenerationResult:
    """The clips; where the memory runs out, once more with less computed at once."""
    try:
        brought = at.storage.given(record.id, record.revision, folder)
    except OSError as error:
        raise GenerationError("starting", say("failed.given", reason=error.strerror or str(error))) from error
    request = unpack(record.packed, brought)
    if request.seed is None:
        request = replace(request, seed=seed_of(record.id))
    try:
        return at.generate(request, on_progress=reports, cancel=wish)
    except OutOfMemory as error:
        stage = error.stage
    # outside of the handler: the error holds the frames, and these the tensors
    return _generated_with_less(request, stage, at, reports, wish)


def _generated_with_less(
    request: GenerationRequest, stage: str, at: Workplace, reports: Reports, wish: Wish
) -> GenerationResult:
    free_memory()
    reports(Progress(say("stage.less", stage=stage_named(stage))))
    try:
        result = at.generate(request, on_progress=reports, cancel=wish, lean=True)
    except OutOfMemory as error:
        raise GenerationError(error.stage, say("failed.memory.again", stage=stage_named(error.stage))) from None
    finally:
        free_memory()
    return replace(result, notes=[*result.notes, say("made.lean", stage=stage_named(stage))])


def _published(
    record: Record, lease: str, at: Workplace, making: Path, result: GenerationResult, reports: Reports
) -> dict[str, Any]:
    """Write the files aside and bring all of them into place, unless the job was cancelled before."""
    try:
        making.mkdir(parents=True, exist_ok=True)
        files = result.save(making / "video")
        for file in files:
            sync(file)
        outcome = _ended(JobState.DONE, reports) | {
            "files": [
                {"name": f.name, "role": role_of(f), "sha256": sha256(f), "bytes": f.stat().st_size} for f in files
            ],
            "lease": lease,
            "worker": at.worker,
            "settings": result.settings,
            "plan": result.plan,
            "timings": result.timings,
            **_noted([*result.notes, *_said(reports.attempt)]),
        }
        manifest = {
            "id": record.id,
            "owner": record.owner,
            "batch": record.batch,
            "created": record.created,
            "request": record.packed,
            "outcome": outcome,
        }
        write(making / MANIFEST, json.dumps(manifest, indent=1).encode(), durable=True)
        if not at.board.publish(record.id, lease):
            raise Cancelled()
        at.storage.publish(record.id, lease, making)
    except (OSError, SaveError) as error:  # the words of a SaveError name the server's folder
        cause = error.__cause__ if isinstance(error, SaveError) else error
        reason = getattr(cause, "strerror", None) or say("writing.failed")
        raise GenerationError("saving", say("failed.saving", reason=reason)) from error
    published = at.storage.published(record.id)  # by an attempt that was thought dead, if it was faster
    return outcome if published is None else published["outcome"]


def _noted(notes: list[str]) -> dict[str, Any]:
    """Sentences on a finished clip: their English text, and what a page says in its language."""
    return {"notes": notes, "said": [pack(note) for note in notes]}


def _said(attempt: int) -> list[str]:
    if attempt == 1:
        return []
    return [say("made.again", attempt=attempt)]


def _ended(state: JobState, reports: Reports, error: str | None = None) -> dict[str, Any]:
    return {
        "state": str(state),
        "error": error,
        "why": None if error is None else pack(error),
        "attempts": reports.attempt,
        "started": reports.started,
        "finished": time.time(),
    }
