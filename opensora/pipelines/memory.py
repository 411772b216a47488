"""How much memory a generation takes: counted from shapes, corrected by what past generations took on this machine.

On a processor it is the resident memory of the whole process that generates, on a GPU what torch has allocated there.
"""

import contextlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from opensora.pipelines import speed
from opensora.pipelines.cost import Memory

log = logging.getLogger(__name__)

STAGE = "memory"
"""Name of these measurements among those of :mod:`opensora.pipelines.speed`."""
PROCESS = "process"
"""Key under which the memory of a process without networks is remembered."""
BARE = 4.0e8
"""Bytes of a process that has imported torch and transformers, until it was measured here."""
HOST_SAMPLING, HOST_DECODING, HOST_FIXED = 3.9, 2.45, 7.5e7
"""What a processor's kernels take of what is counted for the stages, and besides. Sampling and decoding add up there,
because the allocator keeps what the first stage used. Measured with the bundled networks, see benchmarks/README.md."""
CONTEXT = 5.0e8
"""Bytes of a GPU that its driver takes for a process."""
GROUPS = Path("/sys/fs/cgroup")
"""Where Linux says what a container may use."""
GROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Limit, use, and what of it is only a cache of files, in both versions of Linux' control groups."""


@dataclass(frozen=True)
class Predicted:
    """A peak of memory to come, in bytes."""

    likely: int
    """What it will probably be."""
    high: int
    """What it will hardly exceed."""
    measured: bool
    """Whether generations with these networks measured it, here."""


@dataclass(frozen=True)
class Room:
    """Memory of a device, in bytes."""

    total: int
    """What there is, or what this program's container may use of it."""
    free: int
    """What nobody uses now, with what this process and those that it started hold: the next clip works in that."""


def predict(memory: Memory, key: str, device: torch.device, offload: str = "none") -> Predicted:
    """The peak of a request.

    Args:
        memory: what is counted.
        key: of the networks, see :func:`opensora.pipelines.speed.speed_key`.
        offload: which networks wait in main memory.
    """
    work, bare = counted(memory, device, offload), bare_bytes(device)
    known = speed.rate(STAGE, key, work)
    if known is None:
        return Predicted(int(bare + work), int(bare + 1.4 * work), False)
    return Predicted(int(bare + work / known.likely), int(bare + work / known.low), True)


def counted(memory: Memory, device: torch.device, offload: str = "none") -> float:
    """Bytes that the networks and their work take, without the process itself."""
    if device.type == "cuda":
        return float(memory.peak(offload))
    weights = memory.text + memory.denoiser + memory.autoencoder
    work = HOST_SAMPLING * memory.sampling + HOST_DECODING * memory.decoding
    return float(weights + work + memory.clips + HOST_FIXED)


def bare_bytes(device: torch.device) -> float:
    """Bytes of the process itself on a device."""
    if device.type == "cuda":
        return CONTEXT
    known = speed.rate(STAGE, PROCESS)
    return BARE if known is None else 1 / known.likely


class Meter:
    """Measures the peak of one generation, from its making on. On a processor only the first generation of a process
    can be measured: later ones work in what the first has left."""

    _fresh = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._bare: int | None = None
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu" and Meter._fresh:
            self._bare = resident_bytes()
            Meter._fresh = False

    def remember(self, key: str, memory: Memory, offload: str = "none") -> None:
        """Keep what the generation took beside what is counted of it."""
        work = counted(memory, self._device, offload)
        if self._device.type == "cuda":
            speed.remember(STAGE, key, work, float(torch.cuda.max_memory_allocated(self._device)))
            return
        peak = peak_bytes()
        if self._bare is None or peak is None or peak <= self._bare:
            return
        speed.remember(STAGE, PROCESS, 1.0, float(self._bare))
        speed.remember(STAGE, key, work, float(peak - self._bare))


def room(device: torch.device) -> Room | None:
    """Memory of a device; ``None`` where it is not known."""
    if device.type == "cuda":
        total = int(torch.cuda.get_device_properties(device).total_memory)
        if not torch.cuda.is_initialized():  # to ask for what is free would take half a gigabyte
            return Room(total, total)
        free = torch.cuda.mem_get_info(device)[0]
        return Room(total, free + torch.cuda.memory_reserved(device))
    import psutil

    memory, mine = psutil.virtual_memory(), held_bytes()
    total, free = int(memory.total), int(memory.available)
    for limit_file, use_file, statistics, cache in GROUP_FILES:
        limit = _number(GROUPS / limit_file)
        if limit is not None and limit < total:
            used = (_number(GROUPS / use_file) or 0) - (_entry(GROUPS / statistics, cache) or 0)
            total, free = limit, min(free, max(0, limit - used))
    return Room(total, free + mine)


def in_use() -> tuple[int | None, int | None]:
    """Bytes that this process holds, and on GPUs the most since the generation began; ``None`` for what is not known.

    Once it has used a GPU it is what torch has allocated there, else main memory. Asking takes some dozens of
    microseconds.
    """
    if torch.cuda.is_initialized():
        gpus = range(torch.cuda.device_count())
        allocated = sum(torch.cuda.memory_allocated(gpu) for gpu in gpus)
        return allocated, sum(torch.cuda.max_memory_allocated(gpu) for gpu in gpus)
    resident = resident_bytes()
    return resident, resident


def resident_bytes() -> int | None:
    """Main memory of this process now; ``None`` where it is not known."""
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.Process().memory_info().rss)


def held_bytes() -> int:
    """Main memory of this process and of those that it started, such as a server's workers."""
    import psutil

    here = psutil.Process()
    held = 0
    for process in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has just ended
            held += int(process.memory_info().rss)
    return held


def peak_bytes() -> int | None:
    """The most main memory that this process had; ``None`` where it is not known."""
    if (here := _entry(Path("/proc/self/status"), "VmHWM:")) is not None:
        return here * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * scale


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no Linux, or no limit
        return None


def _entry(file: Path, name: str) -> int | None:
    """The number behind a name in a file of lines."""
    try:
        lines = (line.split() for line in file.read_text().splitlines())
        return next((int(line[1]) for line in lines if len(line) > 1 and line[0] == name), None)
    except (OSError, ValueError):
        return None
