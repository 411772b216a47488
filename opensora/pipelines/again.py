"""A second run of a file's request: whether it gives the same bytes, and if not, what is different here."""

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from opensora import __version__
from opensora.datasets.image_io import load_image
from opensora.datasets.video_io import read_video
from opensora.pipelines.plan import ExecutionPlan, devices
from opensora.pipelines.reproduce import Recorded
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import CancelFlag, GenerationResult, OnProgress, pixels_sha256
from opensora.pipelines.video import generate

MOST_THREADS = 1024
"""Threads that a file may ask for."""
FOLLOWS = ("seed", "num_videos")
"""Settings that a file has of its own clip."""


@dataclass(frozen=True)
class Verdict:
    """Whether a second run gave the same."""

    same_bytes: bool
    """The whole file is equal."""
    same_pixels: bool
    """The frames are equal, before they are encoded."""
    reasons: list[str]
    """What is different here, a sentence each."""
    result: GenerationResult = field(repr=False)
    """What the second run made."""

    def sentences(self) -> list[str]:
        """The verdict for people."""
        if self.same_bytes:
            return ["Equal: the second run gives the same file, byte for byte."]
        if self.same_pixels:
            first = "Equal pixels: the second run gives the same frames, in a file whose other bytes differ."
        else:
            first = "Not equal: the second run gives other frames."
        return [first, *(self.reasons or ["Nothing that the file records is different here; the file was changed."])]


def run_again(
    recorded: Recorded,
    request: GenerationRequest,
    file: Path,
    *,
    on_progress: OnProgress | None = None,
    cancel: CancelFlag | None = None,
) -> Verdict:
    """Make the clip of a file again, under its recorded plan as far as this machine has it, and compare.

    Args:
        recorded: what the file says, by :func:`opensora.pipelines.reproduce.read_settings`.
        request: the whole request, by :func:`opensora.pipelines.reproduce.supply`.
        file: the file itself.

    Raises: as :func:`opensora.pipelines.video.generate`.
    """
    plan = recorded.record["plan"]
    device = plan.get("device") if plan.get("device") in devices() else request.device
    with _threads(plan.get("threads")):
        result = generate(dataclasses.replace(request, device=device), on_progress=on_progress, cancel=cancel)
    reasons = differences(recorded.record, result)
    made = result.frames if not recorded.shows or result.picture is None else result.picture
    same_bytes = _file_of(result, bool(recorded.shows)) == file.read_bytes()
    known = recorded.record.get("pixels_sha256")
    same_pixels = same_bytes or (isinstance(known, str) and known == pixels_sha256(made))
    if not same_pixels:
        reasons = [*_distance(file, made, result.fps), *reasons]
    return Verdict(same_bytes, same_pixels, reasons, result)


_LATER = {known.name: known.default for known in fields(ExecutionPlan) if known.default is not MISSING}
"""What files of versions that did not record a part of the plan were made with."""


def differences(record: dict[str, Any], result: GenerationResult) -> list[str]:
    """What a file says of itself and is not so of a result, a sentence each."""
    found = []
    now, then = f"opensora {__version__}", str(record.get("program"))
    if now != then:
        found.append(f"It was made by {then[:40]}; this is {now}.")
    plan = record["plan"]
    for name, value in result.plan.items():
        before = plan.get(name, _LATER.get(name))
        if isinstance(value, dict) and isinstance(before, dict):
            found += _different_entries(name, before, value)
        elif before != value:
            found.append(f"The {name.replace('_', ' ')} was {before!r:.80}; here it is {value!r:.80}.")
    settings = record["settings"]
    for name, value in result.settings.items():
        if name not in FOLLOWS and settings.get(name) != value:
            found.append(
                f"The setting {name.replace('_', ' ')} was {settings.get(name)!r:.80}; now it is {value!r:.80}."
            )
    return found


def _different_entries(name: str, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Versions of packages, hashes of weights, and the plan of a picture."""
    words = {"versions": "The version of {}", "weights": "The sha256 of the {} weights"}.get(name, f"The {name}'s {{}}")
    return [
        f"{words.format(key.replace('_', ' '))} was {str(before.get(key))[:64]}; here it is {str(now.get(key))[:64]}."
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def _file_of(result: GenerationResult, picture: bool) -> bytes:
    """The bytes of the file that a result is written to."""
    with tempfile.TemporaryDirectory(prefix="opensora-again-") as folder:
        files = result.save(Path(folder) / "clip")
        return files[-1 if picture else 0].read_bytes()


def _distance(file: Path, made: np.ndarray, fps: float) -> list[str]:
    """How far the pictures of a file are from those that were made; MP4 itself loses about 1 of 255."""
    try:
        frames = np.asarray(load_image(file)) if file.suffix.lower() == ".png" else read_video(file).frames
    except ValueError as error:
        return [str(error)]
    made = made.reshape(frames.shape) if made.size == frames.size else made
    if frames.shape != made.shape:
        return [f"The file shows {frames.shape} values, the second run makes {made.shape} at {fps:g} fps."]
    return [f"On average a value differs by {np.abs(frames.astype(np.int16) - made).mean():.1f} of 255."]


@contextmanager
def _threads(wanted: Any) -> Iterator[None]:
    """Compute with so many threads: the order of sums, and with it the last bit, depends on them."""
    before = torch.get_num_threads()
    if isinstance(wanted, int) and 0 < wanted <= MOST_THREADS:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
