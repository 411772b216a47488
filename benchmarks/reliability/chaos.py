"""Kill -9 of server and worker at random moments, many times: ``python benchmarks/reliability/chaos.py --rounds 100``.

The rounds are those of ``tests/chaos``, which says what has to be true afterwards.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that the file also runs as a script

from benchmarks.reliability.record import keep
from benchmarks.reliability.running import ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and record; returns the exit code."""
    parser = argparse.ArgumentParser(description="Kills at random moments.")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, help="repeats the moments as far as processes are repeatable")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    chosen = parser.parse_args(arguments)
    seed = time.time_ns() if chosen.seed is None else chosen.seed
    environment = {**os.environ, "OPENSORA_CHAOS_ROUNDS": str(chosen.rounds), "OPENSORA_CHAOS_SEED": str(seed)}
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/chaos"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    values = {
        "rounds": chosen.rounds,
        "seed": seed,
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "tests": lines[-1] if lines else "",
        "failures": [line for line in lines if re.match(r"(E  |FAILED)", line)][:40],
    }
    return keep("chaos", values, done.returncode == 0, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
