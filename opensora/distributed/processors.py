"""How many processors a process may use, which in a container may be fewer than the machine has."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux says how much of a processor's time a container may take."""


def usable_processors(cgroups: Path = CGROUPS) -> int:
    """Processors that this process is bound to, or fewer where its container's share of their time is less; at least 1.

    With more threads than that, threads that wait for each other take the share of those that work.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    bound = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    share = _share(cgroups)
    return bound if share is None else max(1, min(bound, math.ceil(share)))


def _share(cgroups: Path) -> float | None:
    """Processors' worth of time that the container may take; ``None`` for no limit."""
    try:
        if (cgroups / "cpu.max").is_file():  # the second version of cgroups: "150000 100000" or "max 100000"
            most, period = (cgroups / "cpu.max").read_text().split()
        else:
            most = (cgroups / "cpu/cpu.cfs_quota_us").read_text()
            period = (cgroups / "cpu/cpu.cfs_period_us").read_text()
        return float(most) / float(period) if most != "max" and float(most) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
