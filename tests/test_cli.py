"""The command line: what it makes, what it says, and how it fails."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import chat_server
import pytest
from hub_server import serve
from PIL import Image
from pipelines.bundles import STDIT, write_bundle
from pipelines.lora_files import write_lora
from typer.testing import CliRunner, Result

from opensora.cli import app
from opensora.datasets.video_io import read_metadata, read_video
from opensora.models.stdit.stdit3 import STDiT3
from opensora.models.zoo import PRESETS
from opensora.pipelines.build import release_models
from opensora.pipelines.request import CAMERA_MOTIONS
from opensora.pipelines.result import Progress
from opensora.pipelines.terminal import ProgressBar, duration

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random networks; results go to the working folder of each test."""
    yield write_bundle(tmp_path_factory.mktemp("cli") / "random")
    release_models()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result


def make(bundle: Path, *arguments: str | Path) -> Result:
    return run("generate", "a red ball", "--model", bundle, "--steps", "2", *arguments)


def process(*arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "opensora", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = "import sys, opensora.cli; print([m for m in ('torch', 'transformers', 'numpy', 'av') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    for command in ("generate", "models", "doctor"):
        assert command in run("--help").stdout
        assert run(command, "--help").exit_code == 0
    assert re.fullmatch(r"opensora \d+\.\d+\.\d+\n", run("--version").stdout)


def test_help_names_the_camera_motions() -> None:
    text = re.sub(r"[\s│]+", " ", run("generate", "--help").stdout)
    assert all(motion in text for motion in CAMERA_MOTIONS)


def test_a_clip_is_announced_made_and_described(bundle: Path, folder: Path) -> None:
    done = make(bundle, "--length", "4f", "--seed", "7", "--aspect-ratio", "9:16", "--output", "out/ball")
    assert done.exit_code == 0
    cost, *_, file, took = done.stdout.splitlines()
    assert re.match(r"144×256, 4 frames \(0\.2 s\): about .* \(.* to .*\), .* of memory\.", cost)
    assert file == "out/ball.mp4  144×256, 4 frames, 24 fps (0.17 s), seed 7"
    assert re.match(r"It took .*: loading .*, text .*, sampling .*, decoding .*\.", took)
    assert [line for line in done.stderr.splitlines() if line] == [
        "Loading the networks …",
        "Reading the text …",
        "Denoising …",
        "Decoding …",
    ]
    assert read_video(folder / "out" / "ball.mp4").frames.shape == (4, 256, 144, 3)
    assert read_metadata(folder / "out" / "ball.mp4")["settings"]["seed"] == 7


def test_every_option_reaches_the_request(bundle: Path, folder: Path) -> None:
    Image.new("RGB", (320, 180), (200, 40, 40)).save("ball.png")
    options = {
        "--image": "ball.png",
        "--resolution": "144p",
        "--aspect-ratio": "16:9",
        "--length": "2f",
        "--motion-score": "3",
        "--aesthetic-score": "6",
        "--camera-motion": "zoom in",
        "--guidance": "2.5",
        "--image-guidance": "1.5",
        "--negative-prompt": "rain",
        "--seed": "9",
        "--num-videos": "2",
        "--loops": "1",
        "--dtype": "bf16",
        "--device": "cpu",
        "--cond-type": "i2v_head",
    }
    done = make(bundle, *(word for pair in options.items() for word in pair), "--output", "out/")
    assert done.exit_code == 0, done.output
    told = read_metadata(folder / "out" / "a-red-ball-001-2.mp4")
    expected = {
        "prompt": "a red ball",
        "mode": "i2v",
        "resolution": "144p",
        "aspect_ratio": "16:9",
        "num_frames": 2,
        "motion_score": 3,
        "aesthetic_score": 6.0,
        "camera_motion": "zoom in",
        "steps": 2,
        "guidance": 2.5,
        "image_guidance": 1.5,
        "negative_prompt": "rain",
        "seed": 10,
        "cond_type": "i2v_head",
    }
    assert expected.items() <= told["settings"].items()
    assert (told["plan"]["dtype"], told["plan"]["device"]) == ("bf16", "cpu")


def test_loras_with_strengths_reach_the_clip(bundle: Path, folder: Path) -> None:
    layers = ["x_embedder.proj", "final_layer.linear"]
    for seed, name in enumerate(("one", "two")):
        write_lora(folder / name, STDiT3(STDIT), layers, seed)
    options = ("--lora", "one", "--lora", "two/adapter_model.safetensors:-0.5", "--length", "1f")
    done = make(bundle, *options, "--output", "out/")
    assert done.exit_code == 0, done.output
    told = read_metadata(folder / "out" / "a-red-ball-001.png")["settings"]["loras"]
    assert [(entry["name"], entry["strength"]) for entry in told] == [("one", 1.0), ("adapter_model.safetensors", -0.5)]


def test_a_refined_prompt_is_shown_and_used_and_a_failure_keeps_the_given_one(
    bundle: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENSORA_REFINER", raising=False)
    with chat_server.serve() as chat:
        monkeypatch.setenv("OPENAI_BASE_URL", chat.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        done = make(bundle, "--refine-prompt", "--length", "1f", "--output", "out/better.png")
        assert done.stdout.startswith(f"Refined prompt: {chat.answer}\n")
        assert read_metadata(folder / "out" / "better.png")["settings"]["prompt"] == chat.answer
        chat.mode = "401"
        done = make(bundle, "--refine-prompt", "--length", "1f", "--output", "out/same.png")
    assert done.exit_code == 0 and "sk-secret" not in done.output
    assert "The prompt was left as it is. The endpoint does not accept the key (401)" in done.stderr
    assert read_metadata(folder / "out" / "same.png")["settings"]["prompt"] == "a red ball"


def test_without_an_output_new_files_are_made_and_none_replaced(bundle: Path, folder: Path) -> None:
    for _ in range(2):
        assert make(bundle, "--length", "1f").exit_code == 0
    assert sorted(path.name for path in (folder / "outputs").iterdir()) == ["a-red-ball-001.png", "a-red-ball-002.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--length", "20"), "write seconds as 2s or frames as 49f"),
        (("--guidance", "nan"), "Got the guidance nan; expected a number from 0 to 100"),
        (("--seed", "-1"), "Got the seed -1"),
        (("--camera-motion", "roll"), "choose one of static, pan left"),
        (("--image", "nowhere.png"), "There is no image file 'nowhere.png'"),
        (("--output", "~nobody-here/clip"), "nobody of that name"),
        (("--output", "clip.gif"), "written as MP4; end the name in .mp4"),
        (("--device", "tpu"), "this machine has"),
        (("--resolution", "720p"), "not t2v at 720p"),
        (("--steps", "many"), "Invalid value for"),
        (("--motion-score", "often"), "Got the motion score 'often'; expected a whole number from 1 to 7"),
        (("--lora", "nowhere:0.5"), "There is no LoRA 'nowhere'"),
        (("--nonsense",), "No such option"),
    ],
    ids=str,
)
def test_a_bad_request_is_a_sentence_and_exit_code_2(
    bundle: Path, folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = make(bundle, "--length", "2f", *arguments)
    assert done.exit_code == 2
    assert words in re.sub(r"[\s│]+", " ", done.stderr)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate", " "), "The prompt is empty"),
        (("generate", "x" * 5000), "at most 4000"),
        (("generate", "a ball", "--model", "tyni"), "Did you mean 'tiny'"),
        (("generate", "a ball", "--model", "no/where"), "'where' is no bundle"),
        (("generate", "a ball", "--resolution", "720p"), "models --download opensora-1.3-t2v-720p"),
        (("models", "--download", "opensora-1.3-i2"), "Did you mean 'opensora-1.3-i2v'"),
    ],
    ids=str,
)
def test_what_does_not_exist_is_named(arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr and done.stdout == ""


def test_a_note_is_on_the_screen_once(bundle: Path) -> None:
    done = make(bundle, "--length", "40f", "--output", "clip")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("frames at once") == 1


def test_a_file_in_the_place_of_the_output_folder_is_known_before_the_work(bundle: Path, folder: Path) -> None:
    (folder / "outputs").write_text("mine")
    done = make(bundle, "--length", "1f", "--output", "outputs/ball")
    assert done.exit_code != 0
    assert "Cannot write outputs/ball: part of the path is a file" in done.stderr
    assert "Loading" not in done.stderr


def test_an_output_with_an_impossible_name_is_known_before_the_work(bundle: Path, folder: Path) -> None:
    for end in ("", "/"):
        done = make(bundle, "--length", "1f", "--output", "x" * 300 + end)
        assert done.exit_code == 1
        assert "the name is too long" in done.stderr and "Loading" not in done.stderr
    assert list(folder.iterdir()) == []


def test_a_failure_is_a_sentence_and_exit_code_1(bundle: Path, tmp_path: Path) -> None:
    broken = write_bundle(tmp_path / "broken", spoiled=True)
    done = make(broken, "--length", "1f")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].startswith("The sampling stage failed: step 1 of 2")


def test_an_unexpected_error_is_a_sentence_too(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise KeyError("inside")

    monkeypatch.setattr("opensora.pipelines.video.generate", break_down)
    done = make(bundle, "--length", "1f")
    assert done.exit_code == 1
    assert "unexpected error (KeyError: 'inside'). With --verbose it shows where." in done.stderr
    assert isinstance(make(bundle, "--length", "1f", "--verbose").exception, KeyError)


def test_ctrl_c_stops_within_a_step_and_leaves_nothing(bundle: Path, folder: Path) -> None:
    running = process("generate", "a red ball", "--model", bundle, "--steps", "1000", "--output", "out/ball")
    assert running.stderr is not None
    killer = threading.Timer(200, running.kill)
    killer.start()
    for line in running.stderr:
        if line.startswith("Denoising"):
            break
    running.send_signal(signal.SIGINT)
    _, rest = running.communicate()
    killer.cancel()
    assert running.returncode == 130
    assert rest.splitlines()[-1] == "Stopped; nothing was written."
    assert "Traceback" not in rest
    assert list(folder.iterdir()) == []


def test_models_lists_what_is_here_and_what_is_not() -> None:
    text = run("models").stdout
    assert re.search(r"tiny +Tiny 144p\n +t2v, i2v, t2i at 144p; here", text)
    assert re.search(r"not here, a download of about 24\.9 GB; needs a GPU with about 33\.0 GB", text)
    rows = {row["name"]: row for row in json.loads(run("models", "--json").stdout)}
    assert rows["tiny"]["installed"] and rows["tiny"]["bytes_to_download"] == 0
    assert not rows["opensora-1.3-i2v"]["installed"]
    assert rows["opensora-1.3-i2v"]["bytes_to_download"] > 24e9
    assert rows["opensora-2.0"]["family"] == "2.0" and not rows["opensora-2.0"]["installed"]


def test_a_download_that_is_forbidden_or_fails_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = run("models", "--download", "opensora-1.3-t2v-360p")
    assert done.exit_code == 1
    assert "offline mode is on" in done.stderr
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        done = run("models", "--download", "opensora-1.3-t2v-360p")
    assert done.exit_code == 1
    assert "has no repository hpcai-tech/OpenSora-STDiT-v4-360p" in re.sub(r"\s+", " ", done.stderr)


def test_doctor_reports_and_makes_a_clip(bundle: Path) -> None:
    done = run("doctor", "--model", bundle)
    assert done.exit_code == 0, done.output
    text = done.stdout
    for name in ("python", "packages", "device", "H.264", "memory", "disk for results", "disk for downloads"):
        assert re.search(rf"^(ok|note) +{name}: ", text, re.MULTILINE), name
    assert re.search(r"^ok +weights tiny: here$", text, re.MULTILINE)
    assert re.search(r"^note +weights opensora-1.3-i2v: not here\. Get them with", text, re.MULTILINE)
    assert re.search(r"^ok +self-test: 17 frames of 256×144 in .* that reads back$", text, re.MULTILINE)


def test_doctor_says_what_is_missing(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = write_bundle(tmp_path / "broken", spoiled=True)
    done = run("doctor", "--model", broken)
    assert done.exit_code == 1
    assert "missing self-test: The sampling stage failed" in done.stdout
    monkeypatch.setattr("opensora.models.zoo.assets_folder", lambda: tmp_path)
    done = run("doctor")
    assert done.exit_code == 1
    assert "missing weights tiny: not here. They come with a clone" in done.stdout
    assert "self-test needs what is missing" in done.stderr


def test_durations_are_words() -> None:
    words = [duration(seconds) for seconds in (0.04, 9.94, 9.96, 59.4, 60, 61, 3599, 3600, 7500)]
    assert words == ["0.0 s", "9.9 s", "10 s", "59 s", "1 min", "1 min 1 s", "59 min 59 s", "1 h 0 min", "2 h 5 min"]


def test_the_bar_shows_stage_step_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ProgressBar() as bar:
        bar(Progress("loading"))
        bar(Progress("sampling", 3, 30, 75.0))
        bar._bars.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "Loading the networks" in shown
    assert re.search(r"Denoising.*step 3/30 +1 min 15 s left", shown)


def test_shardformer_is_chosen_for_every_command_and_on_fails_without_colossalai(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from opensora.acceleration.shardformer import apply

    monkeypatch.setenv(apply.VARIABLE, "")
    monkeypatch.setattr(apply, "obstacle", lambda: "colossalai is not installed; `make colossalai` installs it.")
    for setting, said in (("on", "colossalai is not installed"), ("perhaps", "expected one of auto, on, off")):
        refused = run("--shardformer", setting, "models", "--json")
        assert refused.exit_code == 2 and said in " ".join(refused.output.split()), refused.output
    assert run("--shardformer", "off", "models", "--json").exit_code == 0
    assert os.environ[apply.VARIABLE] == "off"


def test_names_and_titles_of_models_stand_apart() -> None:
    lines = run("models").output.splitlines()
    longest = max(PRESETS.values(), key=lambda preset: len(preset.name))
    assert f"{longest.name}  {longest.title}" in lines
    column = lines[0].index(next(iter(PRESETS.values())).title)
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)
