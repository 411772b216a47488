"""Downloads of models in the background: begun on the page, they go on whatever becomes of the tab."""

import contextlib
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from opensora.checkpoint import errors, hub
from opensora.models import zoo
from opensora.models.presets import Component
from opensora.sentences import say

WINDOW = 20.0
"""Seconds over which the speed is measured."""


class Phase(StrEnum):
    """Where a download is."""

    WAITING = "waiting"
    RUNNING = "running"
    CHECKING = "checking"
    PAUSED = "paused"
    FAILED = "failed"
    DONE = "done"

    @property
    def busy(self) -> bool:
        """Whether something is being done."""
        return self in (Phase.WAITING, Phase.RUNNING, Phase.CHECKING)


class _Stop(Exception):
    """Somebody paused or cancelled."""


@dataclass(frozen=True)
class Status:
    """What there is to say of a download."""

    phase: Phase
    done: int
    """Bytes that are here."""
    total: int
    """Bytes in all, of files that were not looked at yet about."""
    speed: float | None = None
    """Bytes a second; ``None`` until it can be told."""
    stopping: bool = False
    """Whether it was asked to stop, which it does with the next 10 MiB."""
    error: str = ""
    """Why it failed, as a sentence."""

    @property
    def seconds_left(self) -> float | None:
        """At the present speed."""
        return None if not self.speed else (self.total - self.done) / self.speed


@dataclass
class _Work:
    """One download that was begun since the server was started."""

    preset: zoo.Preset
    phase: Phase = Phase.WAITING
    wish: str = ""
    """``pause`` or ``cancel`` while that is asked for."""
    error: str = ""
    done: dict[str, int] = field(default_factory=dict)
    """Bytes here, by role of the network."""
    total: dict[str, int] = field(default_factory=dict)
    """Bytes in all, by role."""
    seen: deque[tuple[float, int]] = field(default_factory=deque)
    """When how much was here, of late."""


class Downloads:
    """Downloads, each in a thread of its own, one after the other: two would only share the line."""

    def __init__(self) -> None:
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._works: dict[str, _Work] = {}

    def begin(self, name: str) -> None:
        """Download what is missing of a model, from where an earlier download ended; nothing if that is being done."""
        preset = zoo.PRESETS.get(name)
        if preset is None or preset.bundled or zoo.status(preset).installed:
            return
        with self._lock:
            if (before := self._works.get(name)) is not None and before.phase.busy:
                return
            work = self._works[name] = _Work(preset)
            for component in _published(preset):
                work.done[component.role], work.total[component.role] = _here(component), component.bytes
        threading.Thread(target=self._run, args=(work,), name=f"opensora-download-{name}", daemon=True).start()

    def pause(self, name: str) -> None:
        """Stop a download; what has come is kept."""
        self._ask(name, "pause")

    def cancel(self, name: str) -> None:
        """Stop a download, or give up one that is paused, and delete the files that are not whole."""
        if not self._ask(name, "cancel") and (preset := zoo.PRESETS.get(name)) is not None:
            with self._lock:
                self._works.pop(name, None)
            _discard(preset)

    def status(self, preset: zoo.Preset) -> Status | None:
        """Of a model's download; ``None`` where none was begun. One of before the server was started is paused."""
        with self._lock:
            work = self._works.get(preset.name)
            if work is not None:
                done, total = sum(work.done.values()), sum(work.total.values())
                return Status(work.phase, done, total, _speed(work), bool(work.wish), work.error)
        if preset.bundled or not any(hub.held_bytes(c.source) for c in _published(preset) if not _present(c)):
            return None
        return Status(Phase.PAUSED, sum(map(_here, _published(preset))), preset.bytes)

    @property
    def busy(self) -> bool:
        """Whether something is being downloaded."""
        with self._lock:
            return any(work.phase.busy for work in self._works.values())

    def _ask(self, name: str, wish: str) -> bool:
        """Whether there was a download that can be asked."""
        with self._lock:
            work = self._works.get(name)
            if work is None or not work.phase.busy:
                return False
            work.wish = wish
            return True

    def _run(self, work: _Work) -> None:
        phase, error = Phase.DONE, ""
        try:
            with self._my_turn(work):
                _check_room(work.preset)
                for component in _published(work.preset):
                    self._fetch(work, component)
                zoo.weights(work.preset)
        except _Stop:
            phase = Phase.PAUSED
        except ValueError as refused:
            phase, error = Phase.FAILED, str(refused)
        except OSError as failed:
            phase, error = Phase.FAILED, say("files.failed", reason=f"{failed.strerror}")
        with self._lock:
            cancelled = work.wish == "cancel" and phase is not Phase.DONE
            work.phase, work.error, work.wish = phase, error, ""
            if cancelled:
                self._works.pop(work.preset.name, None)
        if cancelled:
            _discard(work.preset)

    @contextlib.contextmanager
    def _my_turn(self, work: _Work) -> Iterator[None]:
        """Wait for the download before this one."""
        while not self._turn.acquire(timeout=0.1):
            if work.wish:
                raise _Stop
        try:
            yield
        finally:
            self._turn.release()

    def _fetch(self, work: _Work, component: Component) -> None:
        """Download and verify one network."""

        def look(progress: hub.DownloadProgress) -> None:
            with self._lock:
                work.phase = Phase.CHECKING if progress.stage == "verify" else Phase.RUNNING
                work.total[component.role] = progress.total
                if progress.stage == "download":
                    work.done[component.role] = progress.done
                    now = time.monotonic()
                    work.seen.append((now, sum(work.done.values())))
                    while now - work.seen[0][0] > WINDOW and len(work.seen) > 2:
                        work.seen.popleft()
                stop = bool(work.wish)
            if stop:
                raise _Stop

        with self._lock:
            work.phase = Phase.RUNNING
        hub.download(component.source, component.layout, revision=component.revision, on_progress=look)
        with self._lock:
            work.done[component.role] = work.total[component.role]


def _published(preset: zoo.Preset) -> list[Component]:
    return [component for component in preset.components if not component.bundled]


def _present(component: Component) -> bool:
    return hub.snapshot(component.source, component.layout, revision=component.revision) is not None


def _here(component: Component) -> int:
    """About how much of a network is here."""
    return component.bytes if _present(component) else min(component.bytes, hub.held_bytes(component.source))


def _check_room(preset: zoo.Preset) -> None:
    """Refuse before anything is transferred what the disk has no room for."""
    missing = sum(component.bytes - _here(component) for component in _published(preset))
    place = hub.cache_dir().absolute()
    free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.is_dir())).free
    if missing > free:
        raise errors.no_room(missing, free)


def _discard(preset: zoo.Preset) -> None:
    """Delete what came in part; what another program is downloading stays."""
    for component in _published(preset):
        with contextlib.suppress(errors.BusyError, OSError):
            hub.discard(component.source)


def _speed(work: _Work) -> float | None:
    """Bytes a second, of late."""
    if work.phase is not Phase.RUNNING or len(work.seen) < 2:
        return None
    (began, before), (_, after) = work.seen[0], work.seen[-1]
    return (after - before) / (time.monotonic() - began) if after > before else None
