"""How fast this machine is: measured by every generation, guessed from a short product of matrices before the first.

Measurements are kept in the user's cache folder, per network, device, dtype and number of threads.
"""

import hashlib
import json
import logging
import math
import os
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeGuard

import torch

log = logging.getLogger(__name__)

STAGES = ("sampling", "decoding")
MEMORY = 0.5
"""Weight of what was measured before in the mean that is kept."""
USUAL = {"sampling": (0.06, 0.2, 0.6), "decoding": (0.04, 0.15, 0.6)}
"""Share of the speed of matrix products that a stage reaches: little, usual, much."""


@dataclass(frozen=True)
class Speed:
    """Operations per second of a stage."""

    low: float
    """When it goes badly."""
    likely: float
    """Usually."""
    high: float
    """When it goes well."""
    measured: bool
    """Whether a generation measured it, here."""


def speed(stage: str, key: str, device: torch.device, dtype: torch.dtype) -> Speed:
    """What is known of a stage (of :data:`STAGES`) for a key made by :func:`speed_key`."""
    known = _read().get(key, {}).get(stage)
    if _is_speed(known):
        return Speed(known / 1.4, float(known), known * 1.25, True)
    products = matrix_speed(str(device), dtype)
    low, likely, high = (share * products for share in USUAL[stage])
    return Speed(low, likely, high, False)


def remember(stage: str, key: str, flops: float, seconds: float) -> None:
    """Keep what a generation measured. Failing to write is no failure of the generation."""
    if seconds <= 0 or flops <= 0:
        return
    known = _read()
    entry = known.setdefault(key, {})
    before, now = entry.get(stage), flops / seconds
    entry[stage] = MEMORY * before + (1 - MEMORY) * now if _is_speed(before) else now
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        log.debug("the measured speed was not kept: %s", error)


def speed_key(bundle: str, device: str, dtype: str, threads: int) -> str:
    """Name of what a measurement is for."""
    return f"{hashlib.sha256(bundle.encode()).hexdigest()[:12]} {device} {dtype} {threads}"


@lru_cache(maxsize=8)
def matrix_speed(device: str, dtype: torch.dtype) -> float:
    """Operations per second of a product of matrices; takes a fraction of a second, once."""
    side = 4096 if device.startswith("cuda") else 768
    a = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            float((a @ a)[0, 0])  # reading a number waits for the device
            best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def cache_folder() -> Path:
    """The user's cache folder for this program."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "opensora"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "opensora" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "opensora"
    return Path.home() / ".cache" / "opensora"


def _is_speed(value: object) -> TypeGuard[float]:
    """Whether what the file says can be a speed."""
    return isinstance(value, int | float) and 0 < value < math.inf


def _path() -> Path:
    return cache_folder() / "speed.json"


def _read() -> dict[str, dict[str, float]]:
    try:
        known = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    return {key: value for key, value in entries if isinstance(value, dict)}
