"""Commands on finished files and before the click: show, again, export and estimate."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipelines.bundles import write_bundle
from typer.testing import CliRunner, Result

from opensora.cli import app
from opensora.commands import files
from opensora.pipelines.build import release_models
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.video import generate


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_bundle(tmp_path_factory.mktemp("cli") / "random")
    release_models()


@pytest.fixture(scope="module")
def clip(bundle: Path) -> Path:
    """A clip that begins with a picture."""
    picture = np.random.default_rng(0).integers(0, 255, (144, 256, 3), np.uint8)
    request = GenerationRequest("a red ball", model=bundle, length="3f", steps=1, seed=5, reference_image=picture)
    return generate(request).save(bundle.parent / "ball.mp4")[0]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result


def test_show_prints_settings_versions_hashes_and_what_is_needed(clip: Path) -> None:
    text = run("show", clip).stdout
    assert text.startswith("a red ball\n")
    for words in (
        r"^seed +5$",
        r"^steps +1$",
        r"^versions torch +\d",
        r"^weights stdit +[0-9a-f]{64}$",
        r"^threads +\d+$",
    ):
        assert re.search(words, text, re.MULTILINE), words
    assert re.search(r"^reference image +[0-9a-f]{64} in this file$", text, re.MULTILINE)
    assert "name the folder as the model." in text
    told = json.loads(run("show", clip, "--as", "json").stdout)
    assert told["settings"]["seed"] == 5 and set(told["given"]["reference_image"]) == {"sha256", "frames"}


def test_a_file_cannot_speak_to_the_terminal() -> None:
    assert files._inert("a \x1b]0;title\x07\n\x9b2J 공 👨\u200d👩") == "a \\x1b]0;title\\x07\n\\x9b2J 공 👨\u200d👩"


def test_show_prints_text_to_run_elsewhere_and_writes_the_picture(clip: Path, folder: Path) -> None:
    command = run("show", clip, "--as", "command")
    assert command.stdout.startswith("python -m opensora generate --model random") and "--seed 5" in command.stdout
    assert "no preset names" in command.stderr
    assert "/v1/videos" in run("show", clip, "--as", "curl").stdout
    assert run("show", clip, "--as", "torchrun").stdout.startswith("torchrun --standalone")
    done = run("show", clip, "--as", "python", "--pictures", "out")
    assert "reference_image='reference_image.png'" in done.stdout
    with Image.open(folder / "out" / "reference_image.png") as picture:
        assert picture.size == (256, 144)


def test_again_says_equal_and_names_what_is_missing(clip: Path, bundle: Path, folder: Path) -> None:
    done = run("again", clip, "--model", bundle, "--output", "second")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "Equal: the second run gives the same file, byte for byte."
    assert (folder / "second.mp4").read_bytes() == clip.read_bytes()
    done = run("again", clip)
    assert done.exit_code == 2 and "name the folder as the model" in done.stderr


def test_export_writes_beside_the_clip_or_where_it_is_told(clip: Path, folder: Path) -> None:
    done = run("export", clip, "--format", "gif", "--output", "small.gif")
    assert done.exit_code == 0 and re.fullmatch(r"small\.gif  \d+ kB\n", done.stdout)
    with Image.open(folder / "small.gif") as image:
        assert image.format == "GIF"
    done = run("export", clip, "--format", "zip", "--output", "small.gif")
    assert done.exit_code == 2 and "end it in .zip" in done.stderr
    done = run("export", clip, "--format", "zip", "--output", "no/where.zip")
    assert done.exit_code == 1 and "No such file or directory" in done.stderr


@pytest.mark.parametrize("command", [("show",), ("again",), ("export", "--format", "gif")], ids=lambda c: c[0])
def test_foreign_files_are_a_sentence(command: tuple[str, ...], folder: Path) -> None:
    (folder / "text.mp4").write_text("no clip")
    for name, words in (("text.mp4", "no clip that can be read"), ("nowhere.mp4", "There is no file 'nowhere.mp4'")):
        done = run(command[0], name, *command[1:])
        assert done.exit_code == 2 and words in done.stderr and done.stdout == ""


def test_estimate_prints_a_verdict_and_proposes_what_fits(bundle: Path) -> None:
    done = run("estimate", "a red ball", "--model", bundle, "--length", "33f", "--steps", "2")
    assert done.exit_code == 0, done.output
    first, second, *_ = done.stdout.splitlines()
    assert re.match(r"(green|amber): 256×144, 33 frames \(1\.4 s\): about .* of memory\.$", first)
    assert re.match(r"On cpu, .* of memory free, .* of disk free\.$", second)
    told = json.loads(run("estimate", "x", "--model", bundle, "--length", "17f", "--json").stdout)
    most = (told["bytes_memory"] + 1) / 1e9
    done = run("estimate", "a red ball", "--model", bundle, "--length", "33f", "--most-memory", str(most), "--fit")
    assert done.exit_code == 1
    assert "are allowed." in done.stdout and "Set the length to 17f instead of 33f." in done.stdout
    assert "--length 17f" in done.stdout.splitlines()[-1]
