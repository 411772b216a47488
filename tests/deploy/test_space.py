"""The page as a Hugging Face Space: without the package ``spaces``, and with one that stands in for ZeroGPU."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PROMPT = "a red ball rolls to the right over a green meadow"
QUICK = {"prompt": PROMPT, "length": "1f", "steps": 1, "seed": 1}
FORKS = hasattr(os, "fork")


@dataclass
class Started:
    """A running Space."""

    url: str
    process: subprocess.Popen[str]
    lines: list[str]

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """JSON of an address; with a body it is posted."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return str(answer.read().decode())

    def finished(self, job: str) -> dict[str, Any]:
        """A job once it has ended."""
        end = time.monotonic() + 150
        while time.monotonic() < end:
            found: dict[str, Any] = self.call(f"/v1/videos/{job}")
            if found["status"] not in ("queued", "in_progress", "running"):
                return found
            time.sleep(0.2)
        raise AssertionError(found)


@contextmanager
def space(tmp_path: Path, *before: str, **environment: str) -> Iterator[Started]:
    """``app.py`` as a Space runs it, but on loopback."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SPACE", "GRADIO_", "HF_"))}
    clean |= {
        "SPACE_ID": "someone/open-sora",
        "SPACE_HOST": "127.0.0.1",
        "SYSTEM": "spaces",
        "TMPDIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "GRADIO_SERVER_PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, *before, "app.py"],
        cwd=ROOT,
        env=clean | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    started = Started("", process, [])
    try:
        for line in process.stdout:
            started.lines.append(line)
            if found := re.search(r"http://localhost:(\d+)", line):
                started.url = f"http://127.0.0.1:{found[1]}"
                break
        assert started.url, "".join(started.lines)
        yield started
    finally:
        process.send_signal(signal.SIGINT)
        try:
            rest, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            rest, _ = process.communicate()
        started.lines.append(rest)


def test_a_space_without_the_package_takes_jobs_and_says_where_files_go(tmp_path: Path) -> None:
    with space(tmp_path, str(HERE / "absent.py"), SPACES_ZERO_GPU="1", OPENSORA_DUPLICATE_BUTTON="1") as started:
        job = started.call("/v1/videos", QUICK)
        assert job["status"] in ("queued", "in_progress", "running")
        page = started.text("/")
        log = "".join(started.lines)
    assert f"files go to {tmp_path}/opensora-space" in log and "gone when it restarts" in log
    assert (tmp_path / "opensora-space" / "outputs" / ".jobs").is_dir()
    assert "Duplicate this Space" in page and "gone when it restarts" in page
    assert "spaces is not installed, so clips are computed without a GPU" in page
    assert started.process.returncode == 0


@pytest.mark.skipif(not FORKS, reason="the package spaces forks, and this system cannot")
def test_on_zero_gpu_a_clip_is_made_in_a_child_that_was_asked_for_as_long_as_the_preflight_says(tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    environment = {
        "SPACES_ZERO_GPU": "true",
        "STAND_IN_SPACES": str(facts),
        "PYTHONPATH": os.pathsep.join([str(HERE / "stand_in"), str(ROOT)]),
    }
    with space(tmp_path, **environment) as started:
        job = started.call("/v1/videos", QUICK)
        done = started.finished(job["id"])
        page = started.text("/")
    noted = [json.loads(line) for line in facts.read_text().splitlines()]
    assert done["status"] == "done", (done, started.lines)
    assert noted[0] == {"started": started.process.pid}
    assert noted[1]["pid"] == started.process.pid and 20 <= noted[1]["duration"] < 3600
    assert len(noted) == 2
    (clip,) = (tmp_path / "opensora-space" / "outputs" / job["id"]).glob("*.png")
    assert clip.stat().st_size > 1000
    assert "Clips are made on ZeroGPU" in page and "Duplicate this Space" not in page
    assert started.process.returncode == 0, started.lines


def test_the_front_matter_of_the_guide_fits_the_repository() -> None:
    guide = (ROOT / "docs" / "space.md").read_text(encoding="utf-8")
    block = re.search(r"^```yaml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert block is not None
    facts = dict(line.split(": ", 1) for line in block[1].splitlines())
    pins = dict(re.findall(r"^(\w+)==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert facts["sdk"] == "gradio" and facts["sdk_version"] == pins["gradio"]
    assert (ROOT / facts["app_file"]).is_file() and len(facts["short_description"]) <= 60
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not readme.startswith("---\n") or readme.startswith(f"---\n{block[1]}---\n")
