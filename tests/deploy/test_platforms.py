"""What Windows has not is asked for with care: by ``getattr``, or in a block that is for other systems alone.

``ONLY_ON_UNIX`` are modules of the standard library, ``NOT_ON_WINDOWS`` names of modules that are there. Apple's GPUs
are tried up to the choice of everything that depends on the device; nothing ran on Windows, on macOS or on such a GPU.
"""

import ast
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from elsewhere import ONLY_ON_UNIX

from opensora.models.text import precision
from opensora.nn.rope import device_with
from opensora.pipelines import lean, memory, plan, residence, speed, verdict
from opensora.pipelines.request import GenerationRequest, RequestError

ROOT = Path(__file__).parents[2]
FILES = sorted([ROOT / "app.py", *(ROOT / "opensora").rglob("*.py")])
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


@pytest.mark.timeout(900)
def test_everything_is_imported_where_the_modules_of_unix_are_not_there() -> None:
    script = str(ROOT / "tests" / "elsewhere.py")
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["failed"] == {} and told["imported"] > 150 and told["still_here"] == 10**6


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Mac with a GPU of its own, as torch and Python tell of it; its speed is assumed, because nothing runs there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(platform, "mac_ver", lambda: ("15.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(speed, "_ASSUMED", {"mps": 1e12})


def test_on_a_mac_its_gpu_is_chosen_and_others_are_refused(apple: None, monkeypatch: pytest.MonkeyPatch) -> None:
    mps = torch.device("mps")
    assert plan.choose_device(None) == mps == plan.choose_device("mps") and plan.devices() == ["mps", "cpu"]
    with pytest.raises(ValueError, match="The device cuda:0 is not here; this machine has mps, cpu"):
        plan.choose_device("cuda:0")
    assert plan.choose_dtype(None, mps) is torch.bfloat16
    monkeypatch.setattr(platform, "mac_ver", lambda: ("13.6", ("", "", ""), "arm64"))
    assert plan.choose_dtype(None, mps) is torch.float32


def test_on_a_mac_the_gpus_memory_is_that_of_the_machine(apple: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "held_bytes", lambda: 5)
    assert memory.room(torch.device("mps")) == memory.room(torch.device("cpu"))
    request = GenerationRequest("a red ball", length="17f")
    found = verdict.preflight(request)
    assert found.device == "mps" and found.cost.seconds > 0 and found.memory is not None
    monkeypatch.setattr(verdict, "room", lambda _: memory.Room(10**9, 10**6))
    with pytest.raises(RequestError, match="of memory on the MPS"):
        verdict.require(request)
    assert lean.offloaded(request) is request
    assert residence.notes(None, torch.device("mps"), "none") == []


def test_on_a_mac_memory_is_given_back_and_an_encoder_in_few_bits_is_refused(
    apple: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[bool] = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: given_back.append(True))
    lean.free_memory()
    assert given_back == [True]
    with pytest.raises(ValueError, match="mps"):
        precision.check_precision("int8", "mps")


def test_what_apples_gpus_cannot_compute_with_is_computed_on_the_processor() -> None:
    assert device_with(torch.float64, torch.device("mps")) == torch.device("cpu")
    for dtype, device in ((torch.float32, "mps"), (torch.float64, "cuda:1"), (torch.float64, "cpu")):
        assert device_with(dtype, torch.device(device)) == torch.device(device)


@pytest.mark.parametrize("package", ["nn", "models", "sampling", "acceleration"])
def test_no_network_computes_in_float64_unasked(package: str) -> None:
    """Apple's GPUs have no float64; the two places that name it are on the processor."""
    named = {
        f"{path.relative_to(ROOT)}"
        for path in (ROOT / "opensora" / package).rglob("*.py")
        if "torch.float64" in path.read_text(encoding="utf-8") or ".double()" in path.read_text(encoding="utf-8")
    }
    assert named <= {"opensora/nn/rope.py", "opensora/sampling/denoise.py"}
