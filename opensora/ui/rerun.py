"""A file's request is run again, and the new file is compared with it: equal to the byte, or why not.

The request and what the file says of itself are kept while the file's settings are in the inputs; of a second run the
browser remembers the hash and the plan that it has to meet.
"""

import dataclasses
import hashlib
from html import escape
from pathlib import Path
from typing import Any

from opensora.jobs.queue import JobQueue, JobView
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest
from opensora.sentences import say
from opensora.ui.browser import Browser
from opensora.ui.room import Room
from opensora.ui.said import button
from opensora.ui.words import Words

REMEMBERED = 20
"""Second runs whose first one a browser remembers."""


@dataclasses.dataclass(frozen=True)
class Dropped:
    """A file that was given to the page, and what it says of itself."""

    request: GenerationRequest
    sha256: str
    """Of the whole file."""
    plan: dict[str, Any]
    program: str


def dropped(path: Path, request: GenerationRequest, record: dict[str, Any]) -> Dropped:
    """What is kept of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Dropped(request, digest, record.get("plan") or {}, str(record.get("program"))[:40])


def offer(w: Words, file: Dropped | None) -> str:
    """The button, where the file holds all that its request needs."""
    return "" if file is None else button(w("do.again"), "os-button os-small", act="again-file")


def start(queue: JobQueue, room: Room, browser: Browser, file: object) -> Browser:
    """Queue a file's request; returns the browser's state, which shows the job.

    Raises:
        RequestError: the file is no longer known, or its request cannot be served.
    """
    if not isinstance(file, Dropped):
        raise RequestError("file", say("again.gone"))
    job = queue.submit(room.require(file.request), browser["owner"])
    first = {"sha256": file.sha256, "plan": file.plan | {"program": file.program}}
    kept = [*_remembered(browser).items(), (job, first)][-REMEMBERED:]
    return {**browser, "job": job, "batch": None, "files": dict(kept)}


def of_file(w: Words, browser: Browser | None, view: JobView) -> str:
    """The verdict on a second run of a file; nothing for any other job."""
    first = _remembered(browser).get(view.id)
    if first is None:
        return ""
    from opensora import __version__

    now = {**(view.plan or {}), "program": f"opensora {__version__}"}
    plan = first.get("plan")
    return compared(w, str(first.get("sha256")), plan if isinstance(plan, dict) else {}, view, now)


def compared(w: Words, sha256: str, before: dict[str, Any], view: JobView, now: dict[str, Any]) -> str:
    """Whether a clip that was made again is equal, and what was different.

    Args:
        sha256: of the first file.
        before: how it was computed.
        view: the second run.
        now: how that was computed.
    """
    if view.sha256[:1] == (sha256,):
        return f"<p class='os-note os-good' role='status'>{w('verdict.equal', sha=sha256[:16])}</p>"
    changed = list(_changes(before, now))
    reasons = "".join(f"<li>{escape(name)}: {escape(old)} → {escape(new)}</li>" for name, old, new in changed)
    why = f"<ul>{reasons}</ul>" if reasons else f" {w('verdict.why')}"
    return f"<div class='os-note' role='status'>{w('verdict.other')}{why}</div>"


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What differs, down to single versions and weights."""
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += [(f"{name} {key}", a, b) for key, a, b in _changes(old, new)]
        elif old != new:
            found.append((name, str(old)[:64], str(new)[:64]))
    return found


def _remembered(browser: Browser | None) -> dict[str, dict[str, Any]]:
    files = browser.get("files") if isinstance(browser, dict) else None
    return {str(k): v for k, v in files.items() if isinstance(v, dict)} if isinstance(files, dict) else {}
