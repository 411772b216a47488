"""Predictions of the preflight against measurements: peak memory and seconds, every request in a process of its own.

``python benchmarks/preflight.py`` makes three clips to learn from, with an empty memory of past runs, and then those of
the table. ``--small`` makes a few short ones. Exit code 1 where a prediction is further off than allowed. Nothing else
should run on the machine meanwhile. See README.md in this folder.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that the file also runs as a script

PROMPT = "a red ball rolls to the right over a green meadow, rain"
MEMORY_BOUND, TIME_BOUND = 0.15, 0.30
"""How far a prediction may be from what is measured, as a share of that."""
LEARNING: tuple[dict[str, Any], ...] = ({"length": "33f"}, {"length": "49f"}, {"length": "65f"})
"""Clips that the machine is known by."""
CASES: tuple[dict[str, Any], ...] = (
    {"length": "1f"},
    {"length": "17f"},
    {"length": "49f"},
    {"length": "49f", "aspect_ratio": "9:16"},
    {"length": "49f", "steps": 12},
    {"length": "49f", "num_videos": 2},
    {"length": "81f"},
    {"length": "97f"},
    {"length": "17f", "loops": 3},
)
"""Clips that are predicted."""
SMALL: tuple[dict[str, Any], ...] = ({"length": "1f", "steps": 2}, {"length": "9f", "steps": 2})
"""The same, for a try."""


@dataclass(frozen=True)
class Measurement:
    """One clip, before and after it was made."""

    settings: dict[str, Any]
    """What was asked for besides the prompt."""
    learned_from: int
    """Runs that the machine was known by."""
    predicted_bytes: int
    """Peak of memory."""
    predicted_high_bytes: int
    """What it should not exceed."""
    bytes: int
    """Peak of memory: of the process, or of the GPU."""
    predicted_seconds: float
    """From the networks' loading to the finished frames."""
    predicted_range: tuple[float, float]
    """When it goes well and badly."""
    seconds: float
    """The same, measured."""
    device: str
    """Where it was computed."""

    @property
    def memory_error(self) -> float:
        """Relative to what was measured."""
        return self.predicted_bytes / self.bytes - 1

    @property
    def time_error(self) -> float:
        """Relative to what was measured."""
        return self.predicted_seconds / self.seconds - 1

    def good(self) -> bool:
        """Whether both predictions were close enough."""
        return abs(self.memory_error) <= MEMORY_BOUND and abs(self.time_error) <= TIME_BOUND


def measure(settings: dict[str, Any]) -> Measurement:
    """Predict a clip and make it, in this process, which should have made none."""
    import torch

    from opensora.pipelines import memory, speed
    from opensora.pipelines.preflight import count, estimate
    from opensora.pipelines.request import GenerationRequest
    from opensora.pipelines.video import generate

    request = GenerationRequest(PROMPT, seed=1, **settings).validated()
    work = count(request, request.bundle())
    learned, before = speed.runs_of("sampling", work.key), estimate(request)
    result = generate(request)
    if work.device.type == "cuda":
        peak: int | None = torch.cuda.max_memory_allocated(work.device) + int(memory.CONTEXT)
    else:
        peak = memory.peak_bytes()
    if peak is None:
        raise SystemExit("This machine does not say how much memory a process had; nothing can be compared.")
    return Measurement(
        settings,
        learned,
        before.bytes_memory,
        before.bytes_memory_high,
        peak,
        before.seconds,
        before.seconds_range,
        sum(result.timings.values()),
        result.plan["device_name"],
    )


Run = Callable[[dict[str, Any]], Measurement]


def apart(settings: dict[str, Any]) -> Measurement:
    """:func:`measure` in a process of its own.

    Raises:
        RuntimeError: it ended without a measurement; the message has its last words.
    """
    command = [sys.executable, __file__, "--one", json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{settings}: {done.stderr[-500:]}")
    values = json.loads(done.stdout.splitlines()[-1])
    return Measurement(**{**values, "predicted_range": tuple(values["predicted_range"])})


def table(measurements: Sequence[Measurement]) -> str:
    """Rows of a Markdown table."""
    rows = [
        "| clip | runs before | memory, predicted | measured | off | seconds, predicted | range | measured | off |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for m in measurements:
        name = ", ".join(f"{key} {value}" for key, value in m.settings.items())
        low, high = m.predicted_range
        rows.append(
            f"| {name} | {m.learned_from} | {m.predicted_bytes / 1e6:,.0f} MB | {m.bytes / 1e6:,.0f} MB "
            f"| {m.memory_error:+.0%} | {m.predicted_seconds:.1f} | {low:.1f} – {high:.1f} | {m.seconds:.1f} "
            f"| {m.time_error:+.0%} |"
        )
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None, one: Run = apart) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare the preflight's predictions with measurements.")
    parser.add_argument("--small", action="store_true", help="a few short clips, to see that it works")
    parser.add_argument("--model", help="name of a preset; default: the bundled")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.one is not None:
        print(json.dumps(asdict(measure(json.loads(chosen.one)))))
        return 0
    more = {"model": chosen.model} if chosen.model else {}
    learning, cases = (SMALL[1:] * 3, SMALL) if chosen.small else (LEARNING, CASES)
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory(prefix="opensora-preflight-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # nothing is known of this machine at first
        try:
            found = [_shown(one({**settings, **more})) for settings in (*learning, *cases)]
        finally:
            os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)
    print(f"\n{found[0].device}, {os.cpu_count()} processors, {platform.system()}, {time.strftime('%Y-%m-%d')}\n")
    print(table(found))
    judged = found[len(learning) :]
    bad = [m for m in judged if not m.good()]
    print(
        f"\n{len(judged) - len(bad)} of {len(judged)} within {MEMORY_BOUND:.0%} of memory and {TIME_BOUND:.0%} of time."
    )
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(m) for m in found], indent=1) + "\n", encoding="utf-8")
    return 1 if bad else 0


def _shown(measurement: Measurement) -> Measurement:
    print(f"{measurement.settings}: {measurement.seconds:.1f} s", file=sys.stderr)
    return measurement


if __name__ == "__main__":
    sys.exit(main())
