"""The comparison of predictions with measurements: one real clip in a process of its own, and the verdict on many."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import preflight
from benchmarks.preflight import Measurement, main


def found(settings: dict[str, Any], memory: float = 1.0, seconds: float = 1.0) -> Measurement:
    return Measurement(
        settings, 3, int(10**9 * memory), 2 * 10**9, 10**9, 10.0 * seconds, (5.0, 20.0), 10.0, "A processor"
    )


def test_a_clip_is_predicted_and_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    settings = json.dumps({"length": "1f", "steps": 1})
    done = subprocess.run(
        [sys.executable, str(Path(preflight.__file__)), "--one", settings],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout.splitlines()[-1])
    assert values["learned_from"] == 0 and values["seconds"] > 0
    assert values["predicted_bytes"] == pytest.approx(values["bytes"], rel=0.25)


def test_predictions_within_the_bounds_pass_and_others_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "mine")
    seen: list[str] = []

    def good(settings: dict[str, Any]) -> Measurement:
        seen.append(os.environ["XDG_CACHE_HOME"])
        return found(settings, 1.15, 0.71)

    assert main(["--json", str(tmp_path / "out.json")], good) == 0
    assert len(set(seen)) == 1 and seen[0] != "mine" and os.environ["XDG_CACHE_HOME"] == "mine"
    assert len(json.loads((tmp_path / "out.json").read_text())) == len(preflight.LEARNING) + len(preflight.CASES)
    out = capsys.readouterr().out
    assert "| length 97f | 3 | 1,150 MB | 1,000 MB | +15% | 7.1 | 5.0 – 20.0 | 10.0 | -29% |" in out
    assert "9 of 9 within 15% of memory and 30% of time." in out
    assert main(["--small"], lambda settings: found(settings, 1.0, 1.31)) == 1
    assert main(["--small"], lambda settings: found(settings, 0.84)) == 1


def test_a_process_that_ends_badly_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("raise SystemExit('no memory left')")
    monkeypatch.setattr(preflight, "__file__", str(tmp_path / "script.py"))
    with pytest.raises(RuntimeError, match="no memory left"):
        preflight.apart({"length": "1f"})
