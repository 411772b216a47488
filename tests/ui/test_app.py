"""``app.py`` from a terminal: quick to answer, clear about mistakes, quiet at the end."""

import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import typer
from filelock import FileLock

from opensora.jobs.places import Places
from opensora.jobs.retention import Retention
from opensora.space.place import Space

ROOT = Path(__file__).parents[2]


def environment(**extra: str) -> dict[str, str]:
    names = ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_TEMP_DIR", "OPENSORA_OUTPUT_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    return {**kept, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200", **extra}


def run(*arguments: str, **extra: str) -> tuple[int, str]:
    """Exit status and everything printed, frames and line breaks taken out."""
    done = subprocess.run(
        [sys.executable, "app.py", *arguments],
        cwd=ROOT,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, re.sub(r"[\s│╭╮╰╯─]+", " ", done.stdout + done.stderr)


def test_a_port_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, text = run("--port", str(port), "--output-dir", str(tmp_path))
        assert status == 2 and f"Port {port} is in use." in text and "Traceback" not in text
        status, text = run("--output-dir", str(tmp_path), GRADIO_SERVER_PORT=str(port))
        assert status == 2 and f"Port {port} is in use." in text


def test_wrong_arguments_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, part in (
        (("--model", "sora"), "Got 'sora'; choose one of tiny, "),
        (("--host", "no.such.host.invalid"), "There is no address 'no.such.host.invalid' on this machine."),
        (("--output-dir", str(tmp_path / "file" / "below")), "Nothing can be written to"),
        (("--port", "70000"), "65535"),
        (("--keep-days", "0"), "Got 0.0 for the days to keep; expected more than 0"),
        (("--gpus", "0,0"), "every GPU can belong to one worker only"),
        (("--gpus", "0,1,2", "--span", "2"), "Got 3 GPUs for clips that span 2"),
        (("--gpus", "none"), "Without a worker here the jobs need --database"),
        (("--database", "mysql://u:secret@h/n"), "postgresql://user:password@host/name"),
        (
            ("--port", "0", "--database", "postgresql://u:secret@127.0.0.1:1/n", "--gpus", "none"),
            "The database 127.0.0.1:1/n does not answer",
        ),
    ):
        status, text = run(*("--output-dir", str(tmp_path / "out")), *arguments)
        assert status == 2 and part in text and "Traceback" not in text and "secret" not in text, text


def test_on_zero_gpu_there_are_no_workers_to_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    app = importlib.import_module("app")
    monkeypatch.setattr(Space, "uses_zero_gpu", True)
    space = Space("someone/open-sora", tmp_path, kept=False)
    with pytest.raises(typer.BadParameter, match="leave --gpus, --span, --database and --storage out"):
        app.open_queue(space, tmp_path, "tiny", Retention(), app.Workers(gpus=("0",)))


def test_a_folder_that_another_server_uses_is_a_sentence(tmp_path: Path) -> None:
    places = Places(tmp_path / "out")
    places.root.mkdir(parents=True)
    with FileLock(places.server_lock):
        status, text = run("--port", "0", "--output-dir", str(places.outputs))
    assert status == 2 and "Another server works in" in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("warm", "sign"),
    [(False, signal.SIGINT), (True, signal.SIGINT), (False, signal.SIGTERM)],
    ids=["at-once", "after-loading", "as-a-service"],
)
def test_it_serves_and_ends_when_it_is_asked_to(tmp_path: Path, warm: bool, sign: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", "0", "--output-dir", str(tmp_path / "out")],
        cwd=ROOT,
        env=environment(TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        found = next(filter(None, (re.search(r"http://localhost:\d+", line) for line in process.stdout)))
        with urllib.request.urlopen(f"{found[0]}/healthz", timeout=60) as answer:
            assert answer.read() == b'{"status":"ok"}'
        if warm:
            assert any("loaded" in line for line in process.stdout)
        process.send_signal(sign)
        rest = process.stdout.read()
        assert process.wait(timeout=100) == 0, rest
        assert "Traceback" not in rest and "Stopping." in rest
        assert list(tmp_path.glob("opensora-uploads-*")) == []
    finally:
        process.kill()
