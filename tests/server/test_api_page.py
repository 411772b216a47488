"""Every example of docs/api.md runs, against a server with the page."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Running, serving

ROOT = Path(__file__).parents[2]
FENCES = re.findall(
    r"^```(bash|python)[ \t]*(\S*)\n(.*?)^```$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE | re.DOTALL
)
RUN = [(language, body) for language, reason, body in FENCES if reason != "manual"]


@pytest.fixture(scope="module")
def paged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("examples"), page=True) as running:
        yield running


@pytest.mark.parametrize(("language", "body"), RUN, ids=[f"{n}-{language}" for n, (language, _) in enumerate(RUN)])
def test_the_example_runs(paged: Running, tmp_path: Path, language: str, body: str) -> None:
    body = body.replace("http://localhost:7860", paged.url)
    command = [sys.executable, "-c", body] if language == "python" else ["bash", "-eo", "pipefail", "-c", body]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if language == "bash":
        assert (tmp_path / "ball.mp4").read_bytes()[4:8] == b"ftyp" and '"status": "done"' in done.stdout
    if "/v1/videos" in body and language == "python":
        assert "done None" in done.stdout or "201 i2v_head" in done.stdout


def test_only_commands_that_change_this_machine_are_left_out() -> None:
    assert [body.split()[0] for _, reason, body in FENCES if reason] == ["python", "OPENSORA_WEBHOOK_SECRET=$(openssl"]
