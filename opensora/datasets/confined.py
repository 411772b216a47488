"""Reading files of strangers: a process apart decodes them, with bounds on its time and memory.

A file that makes a decoder run for ever, take all memory or crash costs that process, and the person who brought it
gets a sentence. The process is kept for the next file, so that an ordinary picture takes no longer than without it.
"""

import dataclasses
import functools
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil
from PIL import Image

from opensora.datasets.clip_limits import ClipLimits
from opensora.datasets.confined_worker import DONE, FAILED, PICTURE, REFUSED
from opensora.datasets.sniff import shown_name
from opensora.datasets.video_io import Clip
from opensora.sentences import say, unpack

log = logging.getLogger(__name__)

LOOK = 0.1
"""Seconds between two looks at what a busy process uses."""
PIPE = 2**20
"""Bytes that may be under way from a process, where the system can be told: with few, large pictures take seconds."""
KEPT = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL")
"""Variables of the environment that the process is given; keys and tokens are not among them."""


@dataclass(frozen=True)
class Bounds:
    """What decoding one file may take."""

    image_seconds: float = 30.0
    """Of a picture."""
    clip_seconds: float = 120.0
    """Of a clip."""
    memory: int = 3 * 2**29
    """Bytes beyond those of an idle process. The largest picture that is taken needs two thirds of them."""
    at_once: int = 2
    """Files that are read at the same time; others wait."""
    files: int = 200
    """Files that a process reads before a new one takes its place."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"Got {getattr(self, field.name)} for {field.name}; expected more than 0.")


BOUNDS = Bounds()


class DecoderError(RuntimeError):
    """What a decoder raised that nobody foresaw; the name of its class."""


class Reader:
    """One decoding process."""

    def __init__(self, bounds: Bounds) -> None:
        environment = {name: value for name, value in os.environ.items() if name.upper() in KEPT}
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        environment |= {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.bounds, self.files = bounds, 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "opensora.datasets.confined_worker", str(bounds.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            pipesize=PIPE,
        )
        try:
            self._line()
        except EOFError:
            self.close()
            raise ValueError(say("reader.start", status=self._process.returncode)) from None
        self._idle = self._used()

    @property
    def usable(self) -> bool:
        """Whether it can take another file."""
        return self._process.poll() is None and self.files < self.bounds.files

    def read(
        self, kind: str, source: Path | bytes, seconds: float, **order: Any
    ) -> tuple[list[np.ndarray], dict[str, Any]]:
        """Pictures of a file, and what else is said of it.

        Raises:
            ValueError: the file cannot be read, or reading it took too much; a sentence for people.
        """
        self.files += 1
        name = say("the.file") if isinstance(source, bytes) else shown_name(source)
        with self._watching(seconds) as why:
            try:
                self._write({"kind": kind, **order}, source)
                return self._answer()
            except ValueError:
                raise
            except DecoderError as error:
                log.warning("a file could not be read: %s", error)
                raise ValueError(say("file.damaged", file=name)) from error
            except (OSError, EOFError) as error:
                raise ValueError(self._ended(name, why, seconds)) from error

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _answer(self) -> tuple[list[np.ndarray], dict[str, Any]]:
        pictures: list[np.ndarray] = []
        while True:
            said = self._line()
            if PICTURE not in said:
                return pictures, self._expect(said)
            height, width, channels = said[PICTURE]
            picture = np.empty((height, width, channels), np.uint8)
            view = picture.data.cast("B")
            filled = 0
            while filled < len(view):
                got = self._out.readinto(view[filled:])  # type: ignore[attr-defined]  # of a BufferedReader
                if not got:
                    raise EOFError
                filled += got
            pictures.append(picture)

    def _expect(self, said: dict[str, Any]) -> dict[str, Any]:
        if REFUSED in said:
            raise ValueError(unpack(said[REFUSED], say("file.damaged", file=say("the.file"))))
        if FAILED in said:
            raise DecoderError(said[FAILED])
        done: dict[str, Any] = said[DONE]
        return done

    @contextmanager
    def _watching(self, seconds: float) -> Iterator[list[str]]:
        """Kill the process when it takes too long or too much; the list then says which."""
        done, why = threading.Event(), []

        def watch() -> None:
            end = time.monotonic() + seconds
            while not done.wait(LOOK):
                if time.monotonic() > end:
                    why.append("time")
                elif self._used() > self._idle + self.bounds.memory:
                    why.append("memory")
                if why:
                    self._process.kill()
                    return

        thread = threading.Thread(target=watch, name="opensora-confined", daemon=True)
        thread.start()
        try:
            yield why
        finally:
            done.set()
            thread.join()

    def _ended(self, name: str, why: list[str], seconds: float) -> str:
        self.close()
        if why == ["time"]:
            return say("reader.time", file=name, seconds=f"{seconds:g}")
        if why == ["memory"]:
            return say("reader.memory", file=name)
        log.warning("the process that reads files ended with %s at one", self._process.returncode)
        return say("file.damaged", file=name)

    def _used(self) -> int:
        """Bytes of memory that the process and those below it use."""
        try:
            process = psutil.Process(self._process.pid)
            return sum(p.memory_info().rss for p in (process, *process.children(recursive=True)))
        except psutil.Error:
            return 0

    @property
    def _out(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _line(self) -> dict[str, Any]:
        line = self._out.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        said: dict[str, Any] = json.loads(line)
        return said

    def _write(self, order: dict[str, Any], source: Path | bytes) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        data = source if isinstance(source, bytes) else b""
        where = {"bytes": len(data)} if isinstance(source, bytes) else {"path": str(source.absolute())}
        pipe.write(json.dumps(order | where).encode() + b"\n")
        pipe.write(data)
        pipe.flush()


class Readers:
    """The processes of a program, started when they are needed."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.bounds = bounds
        self._room = threading.BoundedSemaphore(bounds.at_once)
        self._idle: list[Reader] = []
        self._lock = threading.Lock()

    def image(self, source: Path | bytes) -> Image.Image:
        """:func:`opensora.datasets.image_io.load_image` of a file or its bytes."""
        (picture,), _ = self._read("image", source, self.bounds.image_seconds)
        return Image.fromarray(picture)

    def clip(self, path: Path, limits: ClipLimits) -> Clip:
        """:func:`opensora.datasets.video_io.read_video` of a file."""
        pictures, said = self._read("clip", path, self.bounds.clip_seconds, limits=dataclasses.asdict(limits))
        return Clip(_joined(pictures), said["fps"])

    def settings(self, source: Path | bytes) -> dict[str, Any]:
        """:func:`opensora.datasets.video_io.read_metadata` of a file or its bytes."""
        found: dict[str, Any] = self._read("settings", source, self.bounds.image_seconds)[1]["settings"]
        return found

    def close(self) -> None:
        """End the idle processes."""
        with self._lock:
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.close()

    def _read(
        self, kind: str, source: Path | bytes, seconds: float, **order: Any
    ) -> tuple[list[np.ndarray], dict[str, Any]]:
        with self._room:
            with self._lock:
                reader = self._idle.pop() if self._idle else None
            if reader is None or not reader.usable:
                reader = Reader(self.bounds)
            try:
                return reader.read(kind, source, seconds, **order)
            finally:
                self._put_back(reader)

    def _put_back(self, reader: Reader) -> None:
        if not reader.usable:
            reader.close()
            return
        with self._lock:
            self._idle.append(reader)


def _joined(pictures: list[np.ndarray]) -> np.ndarray:
    """One array of frames; the list is emptied on the way, so that a long clip is not in memory twice."""
    frames = np.empty((len(pictures), *pictures[0].shape), np.uint8)
    for at in reversed(range(len(pictures))):
        frames[at] = pictures.pop()
    return frames


@functools.cache
def readers() -> Readers:
    """Those of this program."""
    return Readers()


def read_image(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """A picture that somebody brought; result and refusals as of :func:`opensora.datasets.image_io.load_image`.

    Raises:
        ValueError: it is no picture, damaged, too large, or decoding it takes too much; a sentence for people.
    """
    return readers().image(source if isinstance(source, bytes) else Path(source))


def read_clip(source: str | os.PathLike[str], limits: ClipLimits) -> Clip:
    """A clip that somebody brought; result and refusals as of :func:`opensora.datasets.video_io.read_video`.

    Raises:
        ValueError: it is no clip, damaged, beyond the limits, or decoding it takes too much; a sentence for people.
    """
    return readers().clip(Path(source), limits)


def read_settings(source: str | os.PathLike[str] | bytes) -> dict[str, Any]:
    """The settings in a file that somebody brought, see :func:`opensora.datasets.video_io.read_metadata`.

    Raises:
        ValueError: there are none, or the file is damaged; a sentence for people.
    """
    return readers().settings(source if isinstance(source, bytes) else Path(source))
