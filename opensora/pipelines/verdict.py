"""Whether a request will work on this machine now: green, amber or red, with the reasons in sentences.

The page, the command line and the interfaces for programs ask here, and a Space asks how long it needs a GPU.
"""

import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from opensora.checkpoint import hub
from opensora.checkpoint.errors import gigabytes
from opensora.models import zoo
from opensora.pipelines import image_first
from opensora.pipelines.errors import RequestError
from opensora.pipelines.memory import Room, room
from opensora.pipelines.plan import choose_device
from opensora.pipelines.preflight import Cost, estimate
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.terminal import duration
from opensora.sentences import joined, say

Colour = Literal["green", "amber", "red"]
COLOURS: tuple[Colour, ...] = ("green", "amber", "red")
"""From what will work to what will not."""
TIGHT = 0.9
"""Share of the free memory above which a request is amber."""
LONG = 30 * 60
"""Seconds above which a request is amber."""
LITTLE_DISK = 2 * 10**8
"""Bytes that should stay free where results are written."""
BYTES_PER_PIXEL = 0.25
"""Of a finished file; clips are mostly smaller."""
PNG_BYTES_PER_PIXEL = 3.1
"""Of a picture, at most."""
SAME = {"memory.machine": "memory.total"}
"""Notes on the cost that a reason of another wording says too."""
SHORTEST_TURN, HANDING_OVER = 20, 10
"""Seconds: the least that is asked for on a shared GPU, and what is added to the slowest that is expected."""


@dataclass(frozen=True)
class Limits:
    """What a request may take; ``None`` leaves it to the machine."""

    memory: int | None = None
    """Bytes of memory."""
    seconds: float | None = None
    """Duration."""
    output: Path = Path("outputs")
    """Folder that results are written to."""
    processes: int = 1
    """Processes that make each clip together."""


@dataclass(frozen=True)
class Preflight:
    """What a request will take, and whether it can."""

    colour: Colour
    """``green``: it will work; ``amber``: it will, but; ``red``: it will not, as it is."""
    reasons: list[str]
    """Why it is not green, a sentence each, the worst first."""
    cost: Cost
    """Time, memory and downloads."""
    device: str
    """Where it is computed."""
    memory: Room | None
    """Memory of the device; ``None`` where it is not known."""
    disk_bytes: int
    """About the size of the files."""
    disk_free: int
    """Bytes that are free for them."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what a person should know besides."""


def preflight(request: GenerationRequest, limits: Limits | None = None) -> Preflight:
    """What a request takes on this machine now, and whether it can be served. Loads no network.

    Raises:
        RequestError: a setting cannot be used at all.
    """
    limits = limits or Limits()
    request = request.validated()
    cost = estimate(request, limits.processes)
    device = choose_device(request.device)
    found = room(device)
    needed = _file_bytes(cost, request)
    free = _free_disk(limits.output)
    checks = [
        *_weights(request, cost),
        *_memory(cost, found, device, limits),
        *_disk(needed, free),
        *_time(cost, limits),
    ]
    checks.sort(key=lambda check: -COLOURS.index(check[0]))
    colour: Colour = checks[0][0] if checks else "green"
    reasons = [text for _, text in checks]
    codes = {getattr(reason, "code", "") for reason in reasons}
    notes = [note for note in cost.notes if note not in reasons and SAME.get(getattr(note, "code", "")) not in codes]
    return Preflight(colour, reasons, cost, str(device), found, needed, free, notes)


def require(request: GenerationRequest, limits: Limits | None = None) -> Preflight:
    """The same for programs: what cannot be served is an error.

    Raises:
        RequestError: a setting cannot be used, or the verdict is red.
    """
    found = preflight(request, limits)
    if found.colour == "red":
        raise RequestError("request", joined(found.reasons))
    return found


def turn_seconds(request: GenerationRequest, lean: bool = False) -> int:
    """Whole seconds for which a shared GPU is asked: the time when it goes badly, and what handing it over takes.

    There is no most: who lends the GPU knows what it lends, and refuses more in a sentence of its own.

    Args:
        lean: whether less is computed at once, because the memory ran out before; that takes about twice as long.

    Raises:
        RequestError: a setting cannot be used.
    """
    slowest = estimate(request).seconds_range[1] * (2 if lean else 1)
    return max(SHORTEST_TURN, math.ceil(slowest) + HANDING_OVER)


def _weights(request: GenerationRequest, cost: Cost) -> list[tuple[Colour, str]]:
    presets = [bundle.preset for bundle in image_first.bundles(request) if not bundle.installed()]
    found: list[tuple[Colour, str]] = [
        ("red", say("weights.none", how=zoo.how_to_get(preset))) for preset in presets if preset
    ]
    folder = hub.cache_dir()
    if found and (free := _free_disk(folder)) < cost.download_bytes:
        told = {"size": gigabytes(cost.download_bytes), "free": gigabytes(free), "folder": str(folder)}
        found.append(("red", say("download.room", **told)))
    return found


def _memory(cost: Cost, found: Room | None, device: torch.device, limits: Limits) -> list[tuple[Colour, str]]:
    name = say("memory.main") if device.type == "cpu" else say("memory.device", device=device.type.upper())
    need, high = cost.bytes_memory, cost.bytes_memory_high
    told = {"need": gigabytes(need), "memory": name}
    if limits.memory is not None and need > limits.memory:
        return [("red", say("memory.allowed", allowed=gigabytes(limits.memory), **told))]
    if found is None:
        return []
    if need > found.total:
        return [("red", say("memory.total", total=gigabytes(found.total), **told))]
    if need > found.free:
        return [("red", say("memory.free", free=gigabytes(found.free), total=gigabytes(found.total), **told))]
    if need > TIGHT * found.free or high > found.free:
        return [("amber", say("memory.tight", free=gigabytes(found.free), **told))]
    return []


def _disk(needed: int, free: int) -> list[tuple[Colour, str]]:
    if needed > free:
        return [("red", say("disk.none", need=gigabytes(needed), free=gigabytes(free)))]
    if needed + LITTLE_DISK > free:
        return [("amber", say("disk.little", free=gigabytes(free), need=gigabytes(needed)))]
    return []


def _time(cost: Cost, limits: Limits) -> list[tuple[Colour, str]]:
    if limits.seconds is not None and cost.seconds > limits.seconds:
        return [("red", say("time.allowed", time=duration(cost.seconds), allowed=duration(limits.seconds)))]
    if cost.seconds > LONG:
        return [("amber", say("time.long", time=duration(cost.seconds)))]
    return []


def _file_bytes(cost: Cost, request: GenerationRequest) -> int:
    pixels = cost.frames * cost.height * cost.width * request.num_videos
    return int(pixels * (PNG_BYTES_PER_PIXEL if cost.frames == 1 else BYTES_PER_PIXEL)) + 10_000


def _free_disk(folder: Path) -> int:
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free
