"""Folders of uploads: gone with their server, however it ends, and never another's that runs."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from opensora.server.upload_folder import remove_left, upload_folder

ROOT = Path(__file__).parents[2]
SERVE = """
import sys
from opensora.server.upload_folder import upload_folder

with upload_folder() as folder:
    (folder / "picture.png").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def serve(root: Path) -> tuple["subprocess.Popen[str]", Path]:
    """A server that has begun, and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(root), "TEMP": str(root), "TMP": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_server_left_is_removed_by_the_next_and_what_a_running_one_has_stays(root: Path) -> None:
    (killed, left), (running, used) = serve(root), serve(root)
    killed.kill()
    killed.wait()
    assert (left / "picture.png").is_file()  # as long as nobody starts
    with upload_folder() as folder:
        assert folder.is_dir() and sorted(root.glob("opensora-uploads-*")) == sorted(
            [folder, used, *(path.with_name(f"{path.name}.lock") for path in (folder, used))]
        )
        assert (used / "picture.png").read_bytes() == b"x"
    assert running.communicate("", timeout=60) == ("", None) and running.returncode == 0
    assert list(root.iterdir()) == []


def test_what_is_not_ours_or_may_be_in_use_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = root / "elsewhere"
    kept.mkdir()
    (kept / "file").touch()
    (root / "opensora-uploads-old").mkdir()  # of a version without locks: nobody can tell whether it is used
    (root / "opensora-uploads-link").symlink_to(kept)
    (root / "opensora-uploads-link.lock").touch()
    (root / "opensora-uploads-lock.lock").symlink_to(kept / "file")
    before = sorted(root.rglob("*"))
    remove_left(root)
    assert sorted(root.rglob("*")) == before
    (root / "opensora-uploads-theirs").mkdir()
    (root / "opensora-uploads-theirs.lock").touch()
    with monkeypatch.context() as other:
        other.setattr(os, "getuid", lambda: os.stat(root).st_uid + 1)
        remove_left(root)
        assert (root / "opensora-uploads-theirs").is_dir()
    remove_left(root)
    assert sorted(root.rglob("*")) == before
