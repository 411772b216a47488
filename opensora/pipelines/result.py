"""What a generation reports on its way, what it ends with, and how it can fail."""

import contextlib
import errno
import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import av
import numpy as np

from opensora import __version__
from opensora.datasets.video_io import write_mp4, write_png
from opensora.pipelines import embedded


@dataclass(frozen=True)
class Progress:
    """How far a generation is."""

    stage: str
    """``loading``, ``text``, ``reference``, ``sampling`` or ``decoding``."""
    step: int = 0
    """Steps of the stage that are done."""
    total: int = 0
    """Steps of the stage; 0 where it has none."""
    seconds_left: float | None = None
    """Until the end of the generation; ``None`` while nothing is known."""
    preview: np.ndarray | None = field(default=None, repr=False, compare=False)
    """Small forming frames, uint8 (T, H, W, 3)."""
    memory: int | None = None
    """Bytes that the generating process holds: on a GPU what torch has allocated there, else main memory. ``None``
    where it is not known."""
    peak: int | None = None
    """The most that it held in this generation; of main memory, as far as its reports saw."""


OnProgress = Callable[[Progress], None]


class CancelFlag(Protocol):
    """Anything that can be asked whether to stop, such as :class:`threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...


class Cancelled(Exception):
    """The caller asked a generation to stop."""

    def __init__(self, message: str = "The generation was cancelled.") -> None:
        super().__init__(message)


class GenerationError(RuntimeError):
    """A stage failed. The message is a sentence for people.

    Attributes:
        stage: name of the stage.
    """

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


class SaveError(GenerationError):
    """The files of a finished generation cannot be written. The message names the path as the caller gave it."""

    def __init__(self, message: str) -> None:
        super().__init__("saving", message)


@dataclass(frozen=True)
class GenerationResult:
    """Finished clips and how they were made."""

    videos: list[np.ndarray] = field(repr=False)
    """uint8 (T, H, W, 3) each."""
    fps: float
    """Frames per second."""
    seeds: list[int]
    """Seed of every clip; the request with it makes the clip again."""
    settings: dict[str, Any] = field(repr=False)
    """Everything that was asked for, with every choice made."""
    plan: dict[str, Any] = field(repr=False)
    """Where and how it was computed, see :class:`opensora.pipelines.plan.ExecutionPlan`."""
    timings: dict[str, float]
    """Seconds of every stage."""
    notes: list[str] = field(default_factory=list)
    """What a person should know, such as that a clip was made in parts."""
    picture: np.ndarray | None = field(repr=False, default=None)
    """The picture that was painted first and set in motion, uint8 (H, W, 3)."""
    given: Mapping[str, np.ndarray] = field(repr=False, default_factory=dict)
    """What the clips began or end with, by field of the request: uint8 (T, H, W, 3) of the clip's size."""

    @property
    def frames(self) -> np.ndarray:
        """The first clip, uint8 (T, H, W, 3)."""
        return self.videos[0]

    @property
    def seed(self) -> int:
        """Seed of the first clip."""
        return self.seeds[0]

    def save(self, path: str | Path) -> list[Path]:
        """Write every clip as MP4, or as PNG where it is one frame, with its settings inside; returns the files.

        A missing suffix is added and missing folders are made. Several clips get ``-1``, ``-2`` … after the name. A
        picture that was painted first is the last file, ``-picture.png``, see :func:`role_of`. An existing file is
        replaced, and stays as it was if writing fails.

        Raises:
            ValueError: the suffix is of another format.
            SaveError: the files cannot be written there.
        """
        still = len(self.frames) == 1
        stem, suffix = _stem(path, still), _suffix(still)
        files = []
        with _explained(path):
            stem.parent.mkdir(parents=True, exist_ok=True)
            for number, (video, seed) in enumerate(zip(self.videos, self.seeds, strict=True), start=1):
                name = stem.name if len(self.videos) == 1 else f"{stem.name}-{number}"
                file = stem.with_name(name + suffix)
                if still:
                    write_png(file, video[0], self.metadata(seed))
                else:
                    write_mp4(file, video, self.fps, self.metadata(seed))
                files.append(file)
            if self.picture is not None:
                told = self.metadata(self.seed) | {"shows": PICTURE, "pixels_sha256": pixels_sha256(self.picture)}
                files.append(stem.with_name(stem.name + _PICTURE_END))
                write_png(files[-1], self.picture, told)
        return files

    def metadata(self, seed: int) -> dict[str, Any]:
        """What a file of the clip with this seed says about itself; nothing in it changes from run to run.

        It is enough to make the clip again, see :mod:`opensora.pipelines.reproduce`: settings, plan with versions and
        hashes of weights, a hash of the pixels before they were encoded, and the pictures that were given.
        """
        number = self.seeds.index(seed)
        settings = {**self.settings, "seed": seed, "num_videos": 1}
        if "pictures_kept" in settings:
            settings["pictures_kept"] = self.settings["pictures_kept"][number : number + 1]
        told = {
            "program": f"opensora {__version__}",
            "settings": settings,
            "plan": self.plan,
            "pixels_sha256": pixels_sha256(self.videos[number]),
        }
        given = {name: embedded.pack(frames) for name, frames in self.given.items()}
        return told | ({"given": given} if given else {})


PICTURE = "the picture that was painted first"
"""What the metadata of such a picture say that its file shows."""


_PICTURE_END = "-picture.png"


def role_of(file: Path) -> Literal["clip", "picture"]:
    """What a file of a result is: one of the clips (or pictures) that were asked for, or the picture painted first."""
    return "picture" if file.name.endswith(_PICTURE_END) else "clip"


def pixels_sha256(frames: np.ndarray) -> str:
    """Hash of uint8 frames and of their shape."""
    digest = hashlib.sha256(repr(frames.shape).encode())
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()


def check_destination(path: str | Path, still: bool) -> None:
    """Say before the work starts that :meth:`GenerationResult.save` will not be able to write there.

    Args:
        path: as for ``save``.
        still: whether the clips are single frames.

    Raises:
        ValueError: the suffix is of another format.
        SaveError: nothing can be written there.
    """
    stem = _stem(path, still)
    folder = stem.parent
    with _explained(path):
        if stem.with_name(stem.name + _suffix(still)).is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder")
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        # as long as the longest name that writing several clips uses, so that a long one is known now
        probe = folder / f".{stem.name}-16{_suffix(still)}.{secrets.token_hex(6)}"
        try:
            probe.write_bytes(b"")
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)


_OTHER_FORMATS = {".mp4", ".png", ".gif", ".webm", ".mov", ".mkv", ".avi", ".jpg", ".jpeg", ".webp"}

_REASONS = {
    errno.ENOSPC: "the disk is full. Free some space, or choose another place",
    errno.EDQUOT: "your share of the disk is full. Free some space, or choose another place",
    errno.EROFS: "the disk is read-only. Choose another place",
    errno.EACCES: "writing there is not allowed. Choose a folder of your own",
    errno.EPERM: "writing there is not allowed. Choose a folder of your own",
    errno.ENOTDIR: "part of the path is a file, not a folder. Choose another place",
    errno.EEXIST: "part of the path is a file, not a folder. Choose another place",
    errno.EISDIR: "there is a folder of that name. Choose another name",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter one",
}


def home(path: str | Path) -> Path:
    """A path with ``~`` replaced by the user's folder.

    Raises:
        ValueError: ``~name`` of somebody who is not here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"Got the path {str(path)!r:.80}, but nobody of that name has a folder here.") from None


def _suffix(still: bool) -> str:
    return ".png" if still else ".mp4"


def _stem(path: str | Path, still: bool) -> Path:
    """The path without the suffix of its format."""
    suffix, stem = _suffix(still), home(path)
    if not stem.name:
        raise ValueError(f"Got the path {str(path)!r}, which has no file name; add one.")
    if "\0" in str(stem):
        raise ValueError(f"Got the path {str(path)!r:.80}, which no file can have; choose another.")
    if stem.suffix.lower() == suffix:
        return stem.with_suffix("")
    if stem.suffix.lower() in _OTHER_FORMATS:
        kind = "one frame, which is written as PNG" if still else "a clip, which is written as MP4"
        raise ValueError(f"Got {stem.name} for {kind}; end the name in {suffix}, or leave the ending out.")
    return stem


@contextlib.contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    """Turn an error of the operating system or the encoder into a sentence with the path as it was given."""
    try:
        yield
    except (OSError, av.error.FFmpegError) as error:
        reason = _REASONS.get(error.errno or 0, (error.strerror or "writing failed").lower())
        raise SaveError(f"Cannot write {path}: {reason}.") from error
