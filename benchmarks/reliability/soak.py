"""Hours of small jobs: do memory and open files stay as they are?

``python benchmarks/reliability/soak.py --minutes 45`` starts ``app.py`` and lets one client ask for pictures and short
clips, poll, look at the page, fetch and delete, until the time is over. Exit code 1 where a bound is missed.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that the file also runs as a script

from benchmarks.reliability.record import keep
from benchmarks.reliability.running import Held, Running, app, slope, until

GROWTH = 1.0
"""MB a minute that the server and its workers each may grow after the warm-up."""
MORE_HANDLES = 4
"""Open files by which the last fifth of the time may lie above the first after the warm-up."""
CLIPS: tuple[dict[str, Any], ...] = (
    {"length": "1f", "steps": 1},
    {"length": "1f", "steps": 2, "aspect_ratio": "9:16"},
    {"length": "9f", "steps": 1},
)
"""What is asked for, in turn."""
ENDED = ("done", "failed", "cancelled")


def round_of(http: httpx.Client, number: int) -> str:
    """One job from its request to its deletion; how it ended."""
    clip = {"prompt": f"a red ball number {number}", "seed": number, **CLIPS[number % len(CLIPS)]}
    made = asked(http, "POST", "/v1/videos", json=clip).json()
    path = f"/v1/videos/{made['id']}"
    until(lambda: asked(http, "GET", path).json()["status"] in ENDED)
    view: dict[str, Any] = asked(http, "GET", path).json()
    for file in view["files"]:
        asked(http, "GET", file["url"])
    asked(http, "GET", "/", headers={"Accept": "text/html"})
    asked(http, "GET", "/metrics")
    asked(http, "DELETE", path)
    return str(view["status"])


def asked(http: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
    """An answer, after the waits that the server asks for.

    Raises:
        httpx.HTTPStatusError: it fails.
    """
    while (answer := http.request(method, path, **more)).status_code == 429:
        time.sleep(int(answer.headers["retry-after"]))
    return answer.raise_for_status()


def soaked(running: Running, seconds: float, every: float) -> tuple[dict[str, int], list[Held]]:
    """Jobs one after another for a time; how they ended, and what the server held meanwhile."""
    ended: dict[str, int] = {}
    with httpx.Client(base_url=running.url, timeout=120) as http, running.watched(every) as held:
        end = time.monotonic() + seconds
        for number in itertools.count():
            status = round_of(http, number)
            ended[status] = ended.get(status, 0) + 1
            if time.monotonic() > end:
                return ended, held
    raise AssertionError("the loop above returns")


def judged(ended: dict[str, int], held: Sequence[Held], warm_up: float) -> tuple[dict[str, Any], bool]:
    """The figures, and whether they are good."""
    after = [look for look in held if look.at >= warm_up] or list(held)
    fifth = max(1, len(after) // 5)
    handles = [int(median(look.handles for look in part)) for part in (after[:fifth], after[-fifth:])]
    growth = {
        name: round(slope([(look.at, getattr(look, name)) for look in after]), 3) for name in ("server", "workers")
    }
    told = {
        "jobs": ended,
        "megabytes_a_minute": growth,
        "megabytes": {
            name: [round(getattr(look, name), 1) for look in (after[0], after[-1])] for name in ("server", "workers")
        },
        "handles": handles,
        "looks": len(after),
    }
    good = set(ended) == {"done"} and max(growth.values()) < GROWTH and handles[1] - handles[0] <= MORE_HANDLES
    return told, good


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and record; returns the exit code."""
    parser = argparse.ArgumentParser(description="Small jobs for a long time.")
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--warm-up", type=float, help="minutes that do not count; default: a fifth of the time")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    chosen = parser.parse_args(arguments)
    warm_up = chosen.minutes / 5 if chosen.warm_up is None else chosen.warm_up
    with tempfile.TemporaryDirectory(prefix="opensora-soak-") as name, app(Path(name)) as running:
        ended, held = soaked(running, 60 * chosen.minutes, 5 if chosen.minutes > 5 else 1)
    told, good = judged(ended, held, 60 * warm_up)
    values = {"minutes": chosen.minutes, "warm_up_minutes": warm_up, **told}
    return keep("soak", values, good, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
