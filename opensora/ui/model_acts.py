"""What is done with models on the page: their files are looked at, downloaded, and tried with a known clip."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from opensora.jobs.queue import JobQueue, JobState
from opensora.models import zoo
from opensora.pipelines import self_test
from opensora.pipelines.self_test import LEAST, Finding, Verdict
from opensora.sentences import say
from opensora.ui.model_downloads import Downloads
from opensora.ui.room import Room
from opensora.ui.words import Words

FOUND = {
    Finding.AS_RECORDED: "test.recorded",
    Finding.OTHER: "test.other",
    Finding.STALE: "test.stale",
    Finding.FIRST: "test.first",
    Finding.AS_BEFORE: "test.before",
    Finding.CHANGED: "test.changed",
}
"""Texts by what a self-test found."""


CHECK_AGAIN = 3600.0
"""Seconds before the files of a model are looked at anew for somebody who is no administrator."""


class Checks:
    """Looks at the hashes of models, each in a thread of its own: of 25 GB that takes a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._verdicts: dict[str, str | None] = {}
        self._begun: dict[str, float] = {}

    def begin(self, name: str, admin: bool) -> bool:
        """Look at a model, unless that is being done. Returns whether that is allowed: to somebody who is no
        administrator while no other model is looked at, and each model once an hour."""
        if name not in zoo.PRESETS:
            return True
        with self._lock:
            if self._verdicts.get(name, "") is None:
                return True
            recent = time.monotonic() - self._begun.get(name, -CHECK_AGAIN) < CHECK_AGAIN
            if not admin and (recent or None in self._verdicts.values()):
                return False
            self._verdicts[name], self._begun[name] = None, time.monotonic()
        threading.Thread(target=self._look, args=(name,), name=f"opensora-check-{name}", daemon=True).start()
        return True

    def _look(self, name: str) -> None:
        try:
            zoo.weights(zoo.PRESETS[name])
            verdict = ""
        except ValueError as error:
            verdict = str(error)
        except OSError as error:
            verdict = say("files.unread", reason=f"{error.strerror}")
        with self._lock:
            self._verdicts[name] = verdict

    def state(self, w: Words, name: str) -> str:
        """What is known of a model's files; nothing before a look."""
        with self._lock:
            if name not in self._verdicts:
                return ""
            verdict = self._verdicts[name]
        if verdict is None:
            return w("models.checking")
        return w.tell(verdict) or w("models.whole")

    @property
    def busy(self) -> bool:
        """Whether a look is going on."""
        with self._lock:
            return None in self._verdicts.values()


class Tests:
    """Follows the clips of self-tests, and compares each with its record when it is there.

    Args:
        queue: makes them.
        room: where.
    """

    def __init__(self, queue: JobQueue, room: Room) -> None:
        self._queue, self._room, self._lock = queue, room, threading.Lock()
        self._jobs: dict[str, tuple[str, str]] = {}
        self._found: dict[str, Verdict | str] = {}

    def begin(self, name: str, owner: str) -> str:
        """Queue the clip of a model; returns the job's id.

        Raises:
            RequestError: it cannot be made now.
        """
        request = self._room.require(self_test.request_of(name))
        job_id = self._queue.submit(request, owner)
        with self._lock:
            self._jobs[name] = job_id, owner
            self._found.pop(name, None)
        return job_id

    def state(self, w: Words, name: str) -> str:
        """What is known of a model's test; nothing before one."""
        self._look(name)
        with self._lock:
            found = self._found.get(name)
            running = name in self._jobs
        if isinstance(found, Verdict):
            return found_by(w, found)
        return w.tell(found) if found is not None else w("test.running") if running else ""

    @property
    def busy(self) -> bool:
        """Whether a test goes on."""
        for name in list(self._jobs):
            self._look(name)
        with self._lock:
            return bool(self._jobs)

    def _look(self, name: str) -> None:
        """Compare the clip of a test that has ended."""
        with self._lock:
            if name not in self._jobs:
                return
            job_id, owner = self._jobs[name]
            view = self._queue.view(job_id, owner)
            if view is not None and not view.state.finished:
                return
            del self._jobs[name]
            if view is None or view.state is JobState.CANCELLED:
                return
            if view.state is JobState.FAILED or not view.files:
                self._found[name] = view.error or ""
                return
            try:
                made = self_test.taken(view.files[0], view.plan or {})
                self._found[name] = self_test.examine(zoo.PRESETS[name], made)
            except (ValueError, KeyError, OSError) as error:
                self._found[name] = str(error)


def found_by(w: Words, verdict: Verdict) -> str:
    """What a self-test found, as sentences."""
    values = {"ratio": "", "least": f"{LEAST:.0f}"}
    if verdict.decibels is not None:
        values["ratio"] = w("test.equal.ratio") if verdict.decibels == float("inf") else f"{verdict.decibels:.1f} dB"
    text = w(FOUND[verdict.finding]).format(**values)
    if verdict.equal is None:
        return text
    return f"{text} {w('test.equal') if verdict.equal else w('test.unequal')}"


@dataclass
class Models:
    """Everything that goes on about the models of a server, whoever has begun it."""

    queue: JobQueue
    room: Room = field(default_factory=Room)
    checks: Checks = field(default_factory=Checks)
    downloads: Downloads = field(default_factory=Downloads)
    tests: Tests = field(init=False)

    def __post_init__(self) -> None:
        self.tests = Tests(self.queue, self.room)

    @property
    def busy(self) -> bool:
        """Whether the list may change by itself."""
        return self.checks.busy or self.downloads.busy or self.tests.busy

    def act(self, w: Words, act: str, name: str, admin: bool) -> str:
        """A button of the list was pressed; returns why it was refused.

        Args:
            admin: whether whoever pressed it may change what is installed.
        """
        if act == "check":
            if self.checks.begin(name, admin):
                return ""
            return w("models.wait", model=zoo.PRESETS[name].title)
        change: dict[str, Any] = {
            "download": self.downloads.begin,
            "pause-download": self.downloads.pause,
            "cancel-download": self.downloads.cancel,
        }
        if act not in change:
            return ""
        if not admin:
            return w("fetch.refused", command=f"python -m opensora models --download {name[:60]}")
        change[act](name)
        return ""
