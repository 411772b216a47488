"""What Windows has not is asked for with care: by ``getattr``, or in a block that is for other systems alone.

``ONLY_ON_UNIX`` are modules of the standard library, ``NOT_ON_WINDOWS`` names of modules that are there.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted([ROOT / "app.py", *(ROOT / "opensora").rglob("*.py")])
ONLY_ON_UNIX = ("fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")
NOT_ON_WINDOWS = {
    "os": "chown chroot fchmod fork forkpty geteuid getgid getloadavg getpgid getuid killpg mkfifo nice openpty pipe2 "
    "sched_getaffinity sched_setaffinity setpgid setsid setuid statvfs uname wait wait3 wait4",
    "signal": "SIGALRM SIGBUS SIGCHLD SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 alarm pause setitimer sigwait",
    "socket": "AF_UNIX",
    "time": "clock_gettime clock_settime",
}
ELSEWHERE = {
    "opensora/datasets/confined_worker.py": {"resource"},
    "opensora/pipelines/memory.py": {"resource"},
}
"""Imports that are done without where there is no such module: in a ``try``, or after a return for Windows."""


def is_for_others(test: ast.expr) -> bool:
    """Whether a condition asks for the system."""
    return any(word in ast.unparse(test) for word in ("os.name", "sys.platform", "hasattr"))


def careless(path: Path) -> list[str]:
    """Uses of what Windows has not."""
    tree, allowed = ast.parse(path.read_text(encoding="utf-8")), ELSEWHERE.get(path.relative_to(ROOT).as_posix(), set())
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and is_for_others(node.test)]
    guarded = {id(inner) for block in blocks for inner in ast.walk(block)}
    found = []
    for node in (node for node in ast.walk(tree) if id(node) not in guarded):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in NOT_ON_WINDOWS.get(node.value.id, "").split():
                found.append(f"line {node.lineno}: {node.value.id}.{node.attr}")
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"line {node.lineno}: {name}" for name in names if name in ONLY_ON_UNIX and name not in allowed]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_windows_has_not_is_asked_for_with_care(path: Path) -> None:
    assert careless(path) == []


def test_careless_code_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "a.py").write_text("import fcntl, os, sys\nos.fork()\nif sys.platform == 'linux':\n    os.getuid()\n")
    assert careless(tmp_path / "a.py") == ["line 1: fcntl", "line 2: os.fork"]
