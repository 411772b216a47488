"""The self-test of a model: a known small clip, compared with the recorded one.

A hash would be too strict: processors round differently, and small differences grow over the steps of a clip. So a few
frames, made smaller, are compared by their signal-to-noise ratio. Whether a second run on the same machine is equal to
the byte is told besides.

The record of a bundled model lies beside its weights and names them by their hashes. Other models have none: their
first test here is kept, and proves nothing but that later ones are the same.
"""

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from opensora.checkpoint.locate import ASSETS, assets_folder
from opensora.datasets.video_io import read_video, replacing
from opensora.models.presets import Preset
from opensora.pipelines.doctor import SELF_TEST
from opensora.pipelines.request import GenerationRequest

LEAST = 30.0
"""Decibels from which a clip counts as the recorded one."""
SHOWN = (0.0, 0.5, 1.0)
"""Frames that are compared, as places between the first and the last."""
WIDTH = 128
"""Pixels to which they are made smaller."""
NAME = "self-test.png"
"""File of a bundled model's record."""


class Finding(StrEnum):
    """What a test found."""

    AS_RECORDED = "recorded"
    OTHER = "other"
    STALE = "stale"
    FIRST = "first"
    AS_BEFORE = "before"
    CHANGED = "changed"


@dataclass(frozen=True)
class Verdict:
    """What a test found, with its numbers."""

    finding: Finding
    decibels: float | None = None
    """Signal-to-noise ratio to the record; infinite where every value is equal, ``None`` without a record."""
    equal: bool | None = None
    """Whether every value equals the last run with these weights on this machine; ``None`` where there was none."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return self.finding not in (Finding.OTHER, Finding.CHANGED, Finding.STALE)

    def text(self) -> str:
        """In English."""
        ratio = "" if self.decibels is None else f"{said(self.decibels)} (at least {LEAST:.0f} dB wanted)"
        last = {
            None: "",
            True: " Equal to the last run on this machine, to the byte.",
            False: " Not equal to the last run on this machine to the byte: something about it has changed since.",
        }[self.equal]
        return {
            Finding.AS_RECORDED: f"The clip is the recorded one: {ratio}.",
            Finding.OTHER: f"The clip is not the recorded one: {ratio}. The model is broken, or this machine computes "
            "wrongly.",
            Finding.STALE: "The record belongs to other weights, so there is nothing to compare with. Record these: "
            "python -m opensora models --self-test NAME --record.",
            Finding.FIRST: "There is no recorded clip of this model. This first one was kept, and later tests are "
            "compared with it; whether it is right is not known.",
            Finding.AS_BEFORE: f"The clip is as in the first test on this machine: {ratio}.",
            Finding.CHANGED: f"The clip is not as in the first test on this machine: {ratio}.",
        }[self.finding] + last


@dataclass(frozen=True)
class Record:
    """A clip as it is kept."""

    frames: np.ndarray
    """uint8 (N, H, W, 3), small."""
    sha256: str
    """Hash of all frames of the clip in full."""
    weights: Mapping[str, str]
    """Hashes of the networks' weights by role."""
    made_on: str
    """Processor or GPU, and its precision."""


def request_of(model: str) -> GenerationRequest:
    """The clip that a model is tested with: the same words, seed and steps for every model."""
    return GenerationRequest(**SELF_TEST, model=model)


def run(model: str) -> Record:
    """Make the clip of a model, with its file on the way, as the page does.

    Raises:
        RequestError, GenerationError: it cannot be made; a sentence for people.
    """
    from opensora.pipelines.video import generate

    result = generate(request_of(model))
    with tempfile.TemporaryDirectory(prefix="opensora-self-test-") as folder:
        (file,) = result.save(Path(folder) / "clip")
        return taken(file, result.plan)


def taken(clip: Path, plan: Mapping[str, Any]) -> Record:
    """What is kept of a clip's file.

    Args:
        plan: how it was computed, as the result says it.
    """
    frames = read_video(clip).frames
    sha256 = hashlib.sha256(repr(frames.shape).encode() + frames.tobytes()).hexdigest()
    return Record(_small(frames), sha256, dict(plan["weights"]), f"{plan['device_name']}, {plan['dtype']}")


def examine(preset: Preset, made: Record) -> Verdict:
    """Compare a model's clip with its record, and remember it as the last one of this machine."""
    from opensora.pipelines.remembered import cache_folder

    folder = cache_folder() / "self-test"
    folder.mkdir(parents=True, exist_ok=True)
    equal = _equal_to_last(folder / f"{preset.name}.json", made)
    if (place := record_place(preset)) is not None and place.is_file():
        record = load(place)
        if record.weights != made.weights:
            return Verdict(Finding.STALE, None, equal)
        ratio = psnr(record.frames, made.frames)
        return Verdict(Finding.AS_RECORDED if ratio >= LEAST else Finding.OTHER, ratio, equal)
    first = folder / f"{preset.name}.png"
    before = load(first) if first.is_file() else None
    if before is None or before.weights != made.weights:
        save(made, first)
        return Verdict(Finding.FIRST, None, equal)
    ratio = psnr(before.frames, made.frames)
    return Verdict(Finding.AS_BEFORE if ratio >= LEAST else Finding.CHANGED, ratio, equal)


def record_place(preset: Preset) -> Path | None:
    """Where a bundled model's record is, or would be; ``None`` for others."""
    if not preset.bundled:
        return None
    return assets_folder() / Path(preset.components[0].source.removeprefix(ASSETS)).parent / NAME


def save(record: Record, path: Path) -> None:
    """Write a record as a picture that shows the frames, one below the other."""
    told = PngInfo()
    told.add_text("weights", json.dumps(dict(record.weights), sort_keys=True))
    told.add_text("sha256", record.sha256)
    told.add_text("made on", record.made_on)
    told.add_text("frames", str(len(record.frames)))
    with replacing(path) as partial:
        Image.fromarray(np.concatenate(list(record.frames))).save(partial, "PNG", pnginfo=told, optimize=True)


def load(path: Path) -> Record:
    """Read a record.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with Image.open(path, formats=["PNG"]) as image:
            assert isinstance(image, PngImageFile)
            image.load()
            told, pixels = image.text, np.asarray(image.convert("RGB"))
        frames = np.stack(np.split(pixels, int(told["frames"])))
        return Record(frames, told["sha256"], json.loads(told["weights"]), told["made on"])
    except (OSError, SyntaxError, KeyError, ValueError) as error:
        raise ValueError(f"The record {path.name} of the self-test is damaged; record it anew.") from error


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays in decibels; 0 for arrays of other shapes."""
    if first.shape != second.shape:
        return 0.0
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def said(decibels: float) -> str:
    """A ratio for people."""
    return "no difference" if math.isinf(decibels) else f"{decibels:.1f} dB"


def _small(frames: np.ndarray) -> np.ndarray:
    """The frames that are compared, uint8 (N, H, W, 3)."""
    last = len(frames) - 1
    chosen = [Image.fromarray(frames[round(place * last)]) for place in SHOWN]
    size = WIDTH, max(1, round(WIDTH * frames.shape[1] / frames.shape[2]))
    return np.stack([np.asarray(picture.resize(size, Image.Resampling.BOX)) for picture in chosen])


def _equal_to_last(file: Path, made: Record) -> bool | None:
    """Whether the last run on this machine with these weights gave the same values; remembers this one."""
    try:
        last = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        last = {}
    with replacing(file) as partial:
        partial.write_text(json.dumps({"sha256": made.sha256, "weights": dict(made.weights)}), encoding="utf-8")
    return last["sha256"] == made.sha256 if last.get("weights") == made.weights else None
