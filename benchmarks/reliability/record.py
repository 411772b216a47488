"""Where results go: a file of JSON each, with the machine, the date and the command."""

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opensora.pipelines.plan import choose_device, device_name

RESULTS = Path(__file__).parents[1] / "results"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    loads = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "device": device_name(choose_device(None)),
        "processors": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average_at_the_end": [round(load, 1) for load in loads],
    }


def keep(name: str, values: Mapping[str, Any], passed: bool, path: Path | None = None) -> int:
    """Write and print what was found; returns the exit code.

    Args:
        path: the file; ``None``: ``reliability_NAME.json`` below ``benchmarks/results``.
    """
    told = {
        "what": name,
        "passed": passed,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": " ".join(["python", *sys.argv]),
        "machine": machine(),
        **values,
    }
    text = json.dumps(told, indent=1, ensure_ascii=False)
    print(text)
    target = path or RESULTS / f"reliability_{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text + "\n", encoding="utf-8")
    return 0 if passed else 1
