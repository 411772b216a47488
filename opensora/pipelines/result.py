"""What a generation reports on its way, what it ends with, and how it can fail."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from opensora import __version__
from opensora.datasets.video_io import write_mp4, write_png


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

        A missing suffix is added and missing folders are made. Several clips get ``-1``, ``-2`` … after the name.

        Raises:
            ValueError: the suffix is of another format.
        """
        suffix = ".png" if len(self.frames) == 1 else ".mp4"
        stem = Path(path).expanduser()
        if stem.suffix.lower() == suffix:
            stem = stem.with_suffix("")
        elif stem.suffix.lower() in _OTHER_FORMATS:
            kind = "one frame, which is written as PNG" if suffix == ".png" else "a clip, which is written as MP4"
            raise ValueError(f"Got {stem.name} for {kind}; end the name in {suffix}, or leave the ending out.")
        stem.parent.mkdir(parents=True, exist_ok=True)
        files = []
        for number, (video, seed) in enumerate(zip(self.videos, self.seeds, strict=True), start=1):
            name = stem.name if len(self.videos) == 1 else f"{stem.name}-{number}"
            file = stem.with_name(name + suffix)
            if suffix == ".png":
                write_png(file, video[0], self.metadata(seed))
            else:
                write_mp4(file, video, self.fps, self.metadata(seed))
            files.append(file)
        return files

    def metadata(self, seed: int) -> dict[str, Any]:
        """What a file of the clip with this seed says about itself; nothing in it changes from run to run."""
        settings = {**self.settings, "seed": seed, "num_videos": 1}
        return {"program": f"opensora {__version__}", "settings": settings, "plan": self.plan}


_OTHER_FORMATS = {".mp4", ".png", ".gif", ".webm", ".mov", ".mkv", ".avi", ".jpg", ".jpeg", ".webp"}
