"""How fast this machine is: measured by every generation, guessed from a short product of matrices before the first.

Measurements are kept in the user's cache folder, per network, device, dtype and number of threads, or of processes that
make a clip together: of every stage the last ones, as pairs of how much work it was and what it took. What it took is
seconds, or bytes of memory.
"""

import hashlib
import logging
import math
import time
from dataclasses import dataclass
from functools import lru_cache

import torch

from opensora.pipelines import remembered

log = logging.getLogger(__name__)

FILE = "speed.json"
"""In the cache folder."""
STAGES = ("sampling", "decoding")
KEPT = 12
"""Measurements of a stage that are kept."""
OLDER = 0.8
"""Weight of a measurement, by that of the next one."""
PRIOR_SPREAD, LEAST_SPREAD = 0.25, 0.06
"""Standard deviation of the logarithm of a rate: believed of a single measurement, and at the least."""
LIKELY_RANGE = 1.64
"""Standard deviations from the likely to the ends of a range: nine of ten runs are inside."""
USUAL = {"sampling": (0.06, 0.2, 0.6), "decoding": (0.04, 0.15, 0.6)}
"""Share of the speed of matrix products that a stage reaches: little, usual, much."""


_ASSUMED: dict[str, float] = {}
"""Operations per second of devices that this process cannot try, see :func:`assume`."""


@dataclass(frozen=True)
class Speed:
    """Work per second of a stage, or per byte that it takes."""

    low: float
    """When it goes badly."""
    likely: float
    """Usually."""
    high: float
    """When it goes well."""
    measured: bool
    """Whether generations measured it, here."""


def speed(stage: str, key: str, device: torch.device, dtype: torch.dtype, work: float | None = None) -> Speed:
    """What is known of a stage (of :data:`STAGES`) for a key made by :func:`speed_key`.

    Args:
        work: operations that are to be done; runs of about as many count more. ``None``: all sizes count alike.
    """
    known = rate(stage, key, work)
    if known is not None:
        return known
    products = matrix_speed(str(device), dtype)
    low, likely, high = (share * products for share in USUAL[stage])
    return Speed(low, likely, high, False)


def rate(stage: str, key: str, work: float | None = None) -> Speed | None:
    """Work by what it took, from past runs; ``None`` before the first.

    The likely rate is a geometric mean in which late runs and runs of about as much work count more. How far runs lie
    apart gives the range, together with a belief that counts as one run.
    """
    runs = _runs(remembered.read(FILE, dict).get(key, {}).get(stage))
    if not runs:
        return None
    logs = [math.log(done / took) for done, took in runs]
    weights = [OLDER**age * _likeness(work, done) for age, (done, _) in enumerate(reversed(runs))][::-1]
    total = sum(weights)
    mean = sum(w * x for w, x in zip(weights, logs, strict=True)) / total
    squares = sum(w * (x - mean) ** 2 for w, x in zip(weights, logs, strict=True))
    spread = max(LEAST_SPREAD, math.sqrt((squares + PRIOR_SPREAD**2) / (total + 1)))
    low, likely, high = (math.exp(mean + LIKELY_RANGE * spread * side) for side in (-1, 0, 1))
    return Speed(low, likely, high, True)


def runs_of(stage: str, key: str) -> int:
    """How many runs are remembered of a stage."""
    return len(_runs(remembered.read(FILE, dict).get(key, {}).get(stage)))


def remember(stage: str, key: str, work: float, took: float) -> None:
    """Keep what a generation measured. Failing to write is no failure of the generation.

    Args:
        work: operations, or bytes that were counted.
        took: seconds, or bytes that were measured.
    """
    if not (0 < took < math.inf and 0 < work < math.inf):
        return
    known = remembered.read(FILE, dict)
    entry = known.setdefault(key, {})
    entry[stage] = [*_runs(entry.get(stage)), [work, took]][-KEPT:]
    remembered.write(FILE, known)


def speed_key(bundle: str, device: str, dtype: str, threads: int, processes: int = 1) -> str:
    """Name of what a measurement is for.

    Args:
        processes: that make each clip together. Several divide the machine's processors, so their threads, which the
            page's process cannot know, are left out.
    """
    shared = f"{threads}" if processes == 1 else f"of {processes} processes"
    return f"{hashlib.sha256(bundle.encode()).hexdigest()[:12]} {device} {dtype} {shared}"


def assume(device: str, products: float) -> None:
    """Believe an operations' speed of a device that this process cannot try, until generations have measured it."""
    _ASSUMED[device] = products


@lru_cache(maxsize=8)
def matrix_speed(device: str, dtype: torch.dtype) -> float:
    """Operations per second of a product of matrices; takes a fraction of a second, once."""
    if device in _ASSUMED:
        return _ASSUMED[device]
    side = 4096 if device.startswith("cuda") else 768
    a = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            float((a @ a)[0, 0])  # reading a number waits for the device
            best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def _likeness(work: float | None, done: float) -> float:
    """1 for as much work, less for more or less of it."""
    return 1.0 if work is None or work <= 0 else 1 / (1 + 4 * math.log(work / done) ** 2)


def _runs(value: object) -> list[list[float]]:
    """Pairs of work and what it took, of what the file says; none where it says something else."""
    if not isinstance(value, list):
        return []
    pairs = [pair for pair in value if isinstance(pair, list) and len(pair) == 2]
    return [pair for pair in pairs if all(isinstance(x, int | float) and 0 < x < math.inf for x in pair)]
