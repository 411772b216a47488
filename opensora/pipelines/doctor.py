"""What this machine can do, what is missing, and one real generation to prove it."""

import importlib.metadata
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from opensora.checkpoint import hub
from opensora.checkpoint.errors import gigabytes
from opensora.models import zoo

PYTHONS = (3, 11), (3, 14)
"""First and last version of Python that is supported."""
LITTLE_MEMORY = 3 * 10**9
"""Bytes of memory below which the bundled checkpoint may not fit."""
LITTLE_DISK = 5 * 10**8
"""Bytes of free disk below which results may soon not fit."""
SELF_TEST: dict[str, Any] = {
    "prompt": "a red ball rolls to the right over a green meadow",
    "length": "17f",
    "steps": 4,
    "seed": 1,
}
"""The request of the self-test."""

State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One line of a report."""

    name: str
    """What was looked at."""
    state: State
    """``note``: it works, with limits; ``missing``: something that is needed."""
    text: str
    """A sentence, or what was found."""


def look() -> Iterator[Finding]:
    """Look at the machine and the weights, one finding after the other; generates nothing."""
    yield _python()
    packages = _packages()
    yield packages
    if packages.state != "missing":
        yield from _devices()
        yield _encoder()
    yield _memory()
    yield _disk("disk for results", Path.cwd())
    yield _disk("disk for downloads", hub.cache_dir())
    for preset in zoo.PRESETS.values():
        yield _weights(preset)


def self_test(model: str | Path | None = None) -> Finding:
    """Generate a short clip, write it to a temporary folder, read it back and look at it.

    Args:
        model: as in a request; ``None`` for the bundled checkpoint.
    """
    from opensora.datasets.video_io import read_video
    from opensora.pipelines.request import GenerationRequest, RequestError
    from opensora.pipelines.result import GenerationError
    from opensora.pipelines.video import generate

    name = "self-test"
    try:
        with tempfile.TemporaryDirectory(prefix="opensora-doctor-") as folder:
            result = generate(GenerationRequest(model=model, **SELF_TEST))
            (file,) = result.save(Path(folder) / "clip")
            clip, size = read_video(file), file.stat().st_size
    except (RequestError, GenerationError) as error:
        return Finding(name, "missing", str(error))
    except (OSError, ValueError) as error:
        return Finding(name, "missing", f"A clip was made, but its file cannot be written and read back: {error}")
    if clip.frames.shape != result.frames.shape:
        return Finding(name, "missing", f"The file has {clip.frames.shape} instead of {result.frames.shape} values.")
    difference = float(abs(clip.frames.astype(int) - result.frames).mean())
    if clip.frames.std() < 1 or difference > 12:
        return Finding(name, "missing", f"The file does not show what was made (off by {difference:.0f} of 255).")
    frames, height, width, _ = clip.frames.shape
    seconds = sum(result.timings.values())
    made = f"{frames} frames of {width}×{height} in {seconds:.1f} s, a file of {size // 1000} kB that reads back"
    return Finding(name, "ok", made)


def _python() -> Finding:
    here = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    first, last = PYTHONS
    if not first <= sys.version_info[:2] <= last:
        wanted = " to ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        return Finding("python", "missing", f"{here}; {wanted} is needed.")
    return Finding("python", "ok", here)


def _packages() -> Finding:
    try:
        requirements = importlib.metadata.requires("opensora") or []
    except importlib.metadata.PackageNotFoundError:
        return Finding("packages", "note", "opensora is not installed here; `make app` installs it and what it needs.")
    absent = []
    names = [re.split(r"[\s<>=!~;\[(]", line, maxsplit=1)[0] for line in requirements if "extra ==" not in line]
    for name in names:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
    if absent:
        return Finding(
            "packages", "missing", f"{', '.join(absent)} missing; run `pip install -r requirements.txt` or `make app`."
        )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers"))
    return Finding("packages", "ok", f"all {len(names)} are here; {versions}")


def _devices() -> Iterator[Finding]:
    try:
        import torch

        from opensora.pipelines import plan
    except (ImportError, OSError) as error:
        yield Finding("device", "missing", f"torch cannot be loaded: {error}")
        return
    for name in plan.devices():
        device = torch.device(name)
        dtype = plan.dtype_name(plan.choose_dtype(None, device))
        text = f"{name}, {plan.device_name(device)}, computes in {dtype}"
        if device.type == "cuda":
            text += f", {gigabytes(torch.cuda.get_device_properties(device).total_memory)} of memory"
        if device.type == "cpu":
            text += f", threads: {torch.get_num_threads()}"
        yield Finding("device", "ok", text)
    if plan.devices() == ["cpu"]:
        yield Finding("GPU", "note", "none: the bundled checkpoint runs, the published weights would take hours.")


def _encoder() -> Finding:
    try:
        import av

        av.codec.Codec("libx264", "w")
    except (ImportError, OSError, ValueError) as error:
        return Finding(
            "H.264", "missing", f"There is no encoder ({error}); install PyAV from its wheel: `pip install av`."
        )
    return Finding("H.264", "ok", f"libx264 in PyAV {av.__version__}")


def _memory() -> Finding:
    try:
        import torch

        from opensora.pipelines.memory import room
    except (ImportError, OSError):
        return Finding("memory", "note", "unknown; a package is missing")
    memory = room(torch.device("cpu"))
    if memory is None:
        return Finding("memory", "note", "unknown")
    text = f"{gigabytes(memory.total)}, of which {gigabytes(memory.free)} are free"
    return Finding("memory", "note" if memory.free < LITTLE_MEMORY else "ok", text)


def _disk(name: str, folder: Path) -> Finding:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    text = f"{gigabytes(free)} free in {folder}"
    return Finding(name, "note" if free < LITTLE_DISK else "ok", text)


def _weights(preset: zoo.Preset) -> Finding:
    name = f"weights {preset.name}"
    if not zoo.status(preset).installed:
        text = f"not here. {zoo.how_to_get(preset)}"
        return Finding(name, "missing" if preset.bundled else "note", text)
    try:
        zoo.weights(preset)
    except ValueError as error:
        return Finding(name, "missing" if preset.bundled else "note", str(error))
    return Finding(name, "ok", "here" if preset.bundled else "here and verified")
