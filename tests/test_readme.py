"""Every command in the README and the user guide that can run offline on any machine is run.

A fence ```bash is run line by line; ```python is run as one script. A word after the language says why a fence
is not run; only the words in REASONS are accepted. `make` lines are left to the Makefile's own use in CI.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/use.md", "docs/weights.md", "docs/train.md")
REASONS = {
    "needs-weights": "downloads published weights",
    "needs-gpu": "needs a GPU",
    "needs-network": "fetches something",
    "needs-docker": "needs docker",
    "serves": "runs until it is stopped",
    "long": "takes minutes to hours",
}
FENCE = re.compile(r"^```(bash|python)[ \t]*(\S*)[ \t]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Fence:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    reason: str
    body: str


def fences() -> list[Fence]:
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Fence(page, line, match[1], match[2], match[3]))
    return found


def commands(fence: Fence) -> list[str]:
    """The commands of a fence: shell lines with continuations joined, or one Python script."""
    if fence.language == "python":
        return [fence.body]
    lines = fence.body.replace("\\\n", " ").splitlines()
    shell = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [line for line in shell if not line.startswith("make ")]


RUNNABLE = [
    pytest.param(fence, command, id=f"{fence.page}:{fence.line}:{command.splitlines()[0][:50]}")
    for fence in fences()
    if not fence.reason
    for command in commands(fence)
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a clone, so that commands may write beside what they read."""
    folder = tmp_path_factory.mktemp("clone")
    for item in ROOT.iterdir():
        if not item.name.startswith(".") and item.name not in ("outputs", "runs", "samples"):
            (folder / item.name).symlink_to(item)
    return folder


@pytest.mark.parametrize(("fence", "command"), RUNNABLE)
def test_the_command_works(fence: Fence, command: str, checkout: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "HOME": str(checkout),
    }
    argv = ["bash", "-euo", "pipefail", "-c", command] if fence.language == "bash" else [sys.executable, "-c", command]
    done = subprocess.run(argv, cwd=checkout, env=environment, capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode == 0, f"{fence.page}:{fence.line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_fences_that_are_not_run_say_why() -> None:
    unknown = [f"{fence.page}:{fence.line} {fence.reason}" for fence in fences() if fence.reason not in ("", *REASONS)]
    assert unknown == []


def test_links_and_images_of_every_page_lead_somewhere() -> None:
    broken = []
    for page in sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")}):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []


def test_the_annotated_tree_names_what_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"^```text tree\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert tree, "the README has a ```text tree fence"
    missing, parents = [], [""]
    for line in tree[1].splitlines():
        name = line.split()[0] if line.split() else ""
        depth = (len(line) - len(line.lstrip())) // 2
        if not name:
            continue
        parents = [*parents[: depth + 1], name]
        if not (ROOT / "".join(parents[1:])).exists():
            missing.append("".join(parents[1:]))
    assert missing == []
