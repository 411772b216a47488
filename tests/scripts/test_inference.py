"""The inference script: config files, overrides in both spellings, prompt files, numbers that never collide."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipelines.bundles import write_bundle
from typer.testing import CliRunner, Result

from opensora.config import ConfigError, load_config
from opensora.datasets.video_io import read_metadata, write_mp4
from opensora.pipelines.build import release_models
from opensora.pipelines.published_options import overrides, references
from opensora.pipelines.request import GenerationRequest
from scripts.diffusion.inference import Line, app, next_number, read_prompts

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "diffusion" / "inference"
PLAIN = GenerationRequest("a ball")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A config file for random networks."""
    folder = tmp_path_factory.mktemp("script")
    bundle = write_bundle(folder / "random")
    file = folder / "random.py"
    file.write_text(
        "from pathlib import Path\n"
        "from opensora.pipelines.request import GenerationRequest\n"
        f'config = GenerationRequest("a blue box", model=Path({str(bundle)!r}), length="2f", steps=2)\n'
    )
    yield file
    release_models()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "Traceback" not in result.output
    return result


def settings(file: Path) -> dict[str, object]:
    return read_metadata(file)["settings"]


def test_files_are_numbered_and_never_replaced(config: Path, folder: Path) -> None:
    options = ("--num_frames", "1", "--seed", "4", "--save-dir", "samples")
    first = run(config, "--prompt", "a red ball", "--prompt", "raining, sea", *options)
    assert first.exit_code == 0, first.output
    kept = (folder / "samples" / "sample_0000.png").read_bytes()
    again = run(config, "--num-videos", "2", *options)
    assert again.exit_code == 0, again.output
    names = sorted(path.name for path in (folder / "samples").iterdir())
    assert names == ["sample_0000.png", "sample_0001.png", "sample_0002-1.png", "sample_0002-2.png"]
    assert (folder / "samples" / "sample_0000.png").read_bytes() == kept
    prompts = [settings(folder / "samples" / name)["prompt"] for name in names]
    assert prompts == ["a red ball", "raining, sea", "a blue box", "a blue box"]
    assert "samples/sample_0002-2.png  256×144, picture, seed 5" in again.stdout


def test_overrides_are_taken_in_both_spellings(config: Path, folder: Path) -> None:
    done = run(config, "steps=3", "--aspect-ratio", "9:16", "--cfg_scale=4", "--length", "1f", "motion_score=2")
    assert done.exit_code == 0, done.output
    told = settings(folder / "samples" / "sample_0000.png")
    wanted = {"steps": 3, "aspect_ratio": "9:16", "guidance": 4.0, "num_frames": 1, "motion_score": 2}
    assert wanted.items() <= told.items()


def test_names_of_the_public_code_are_known() -> None:
    given = ["--num_frames", "65", "--cfg-scale", "-1", "--sampling_option.seed", "3", "--neg-prompt", "a=b"]
    assert overrides(given, PLAIN) == ["length=65", "guidance=-1", "seed=3", "negative_prompt=a=b"]
    assert overrides(["--sampling_option.guidance_img=2", "--aes", "6"], PLAIN) == [
        "image_guidance=2",
        "aesthetic_score=6",
    ]
    assert overrides(["--cond_type", "t2v", "steps=3"], PLAIN) == ["cond_type=none", "steps=3"]
    with pytest.raises(ConfigError, match="--steps without a value"):
        overrides(["--steps"], PLAIN)


def test_switches_need_no_value_and_a_picture_is_painted_first_where_it_is_asked_for() -> None:
    painted = GenerationRequest("a ball", picture_model=Path("own-flux"))
    assert overrides(["--offload"], PLAIN) == overrides(["--offload", "true"], PLAIN) == ["offload=true"]
    assert overrides(["--offload", "False"], PLAIN) == ["offload=False"]
    assert overrides(["--use_t2i2v", "--steps", "3"], PLAIN) == ["picture_model=flux.1-dev", "steps=3"]
    assert overrides(["--use-t2i2v", "True"], painted) == overrides(["--use_t2i2v=False"], PLAIN) == []
    assert overrides(["--use_t2i2v", "False"], painted) == ["picture_model=none"]
    with pytest.raises(ConfigError, match="Got --use_t2i2v maybe; expected True or False"):
        overrides(["--use_t2i2v", "maybe"], PLAIN)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--num_sampl", "no option --num_sampl. Did you mean --num_sample?"),
        ("--save-dri", "no option --save_dri. Did you mean --save_dir?"),
        ("--sampling_option.num_frame", "no option --num_frame. Did you mean --num_frames?"),
        ("--motion-scor", "Did you mean --motion_score?"),
        ("--batch-size", "Clips are made one after another; --num-sample says how many."),
        ("--sampling_option.flow_shift", "no option --flow_shift here. It belongs to the weights"),
        ("--ckpt-path", "choose them with --model"),
        ("--plugin", "torchrun says how many there are"),
        ("--zzz", "There are prompt, model, resolution"),
    ],
)
def test_an_option_that_there_is_not_names_the_nearest_or_what_to_do(option: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        overrides([option, "3"], PLAIN)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--num_frame", "3"), "no option --num_frame. Did you mean --num_frames?"),
        (("nonsense",), "expected key=value"),
        (("steps=many",), "got 'many', expected int"),
        (("--prompt", " "), "The prompt is empty"),
        (("--prompt", "a ball", "--prompt", "x" * 5000), "at most 4000"),
        (("--image", "nowhere.png"), "no image file 'nowhere.png'"),
        (("--prompt-file", "nowhere.txt"), "nowhere.txt cannot be read"),
        (("resolution=720p",), "not t2v at 720p"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_before_anything_is_made(
    config: Path, folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = run(config, *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert list(folder.iterdir()) == []


def test_a_config_of_something_else_is_refused() -> None:
    done = run(ROOT / "configs" / "vae" / "train" / "tiny.py")
    assert done.exit_code == 2
    assert "expected a GenerationRequest" in done.stderr
    done = run(CONFIGS / "tini.py")
    assert done.exit_code == 2
    assert "Did you mean 'tiny.py'" in done.stderr


def test_prompts_come_from_text_and_tables(tmp_path: Path) -> None:
    text, table, other = tmp_path / "prompts.txt", tmp_path / "prompts.csv", tmp_path / "other.csv"
    text.write_text("a red ball\n\n  빨간 공  \n", encoding="utf-8")
    table.write_text('\ufeffpath,text\nx.mp4,"raining, sea"\ny.mp4,\nz.mp4,snow\n', encoding="utf-8")
    other.write_text("path,caption\nx,y\n")
    assert read_prompts(text) == [Line("a red ball"), Line("빨간 공")]
    assert read_prompts(table) == [Line("raining, sea"), Line("snow")]
    table.write_text('text,ref\n"raining, sea",a.png;b.png\nsnow,\n', encoding="utf-8")
    assert read_prompts(table) == [Line("raining, sea", "a.png;b.png"), Line("snow")]
    with pytest.raises(ConfigError, match="columns path, caption; expected one named 'text'"):
        read_prompts(other)
    table.write_bytes('text,ref\r\n"a red\r\nball",a.png\r\n\r\n"x\u2028y, z",\r\n'.encode())
    assert read_prompts(table) == [Line("a red\nball", "a.png"), Line("x\u2028y, z")]
    text.write_text("a\u2028b\nc", encoding="utf-8")
    assert read_prompts(text) == [Line("a\u2028b"), Line("c")]
    for damaged, words in (
        ("text,ref\na ball\n", r"ends in line 2 .* has 1 cells; expected 2"),
        ('text,ref\n"a\nball",,\n', r"ends in line 3 .* has 3 cells; expected 2"),
        ('text\n"a" ball\n', "is no CSV file in line 2"),
    ):
        table.write_text(damaged)
        with pytest.raises(ConfigError, match=words):
            read_prompts(table)
    text.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        read_prompts(text)
    text.write_text("\n \n")
    with pytest.raises(ConfigError, match="There is no prompt in"):
        read_prompts(text)


def test_references_are_images_or_a_clip() -> None:
    assert references("a.png", "i2v_head") == {"reference_image": "a.png"}
    assert references("a.png; b.jpg", "i2v_loop") == {"reference_image": "a.png", "last_image": "b.jpg"}
    assert references("a.mp4", None) == references("a.mp4", "v2v_tail") == {"reference_video": "a.mp4"}
    for ref, cond_type, words in (
        (" ; ", None, "empty reference"),
        ("a;b;c", None, "3 reference images"),
        ("a.mp4;b.mp4", "v2v_head", "2 reference clips"),
    ):
        with pytest.raises(ConfigError, match=words):
            references(ref, cond_type)


def test_every_row_of_a_table_has_its_own_reference(config: Path, folder: Path) -> None:
    for name, colour in (("a", (200, 20, 20)), ("b", (20, 20, 200))):
        picture = Image.new("RGB", (256, 144), colour)
        picture.paste((255, 255, 255), (60, 40, 120, 90))
        picture.save(folder / f"{name}.png")
    (folder / "rows.csv").write_text("text,ref\na ball,a.png\na box,b.png\n")
    options = ("--length", "2f", "--steps", "1", "--sampling_option.seed", "4")
    done = run(config, "--dataset.data-path", "rows.csv", *options)
    assert done.exit_code == 0, done.output
    told = [settings(folder / "samples" / f"sample_{n:04d}.mp4") for n in (0, 1)]
    assert len({row["reference_sha256"] for row in told}) == 2 and {row["seed"] for row in told} == {4}


def test_numbers_go_on_from_the_highest(tmp_path: Path) -> None:
    assert next_number(tmp_path / "new") == 0
    for name in ("sample_0003.mp4", "sample_0011-2.png", "sample_x.mp4", "other_0099.mp4"):
        (tmp_path / name).touch()
    assert next_number(tmp_path) == 12


PUBLISHED_COMMANDS = (
    't2i2v_768px.py --save-dir samples --prompt "raining, sea"',
    't2i2v_256px.py --save-dir samples --prompt "raining, sea"',
    '256px.py --prompt "raining, sea" --use_t2i2v',
    '256px.py --prompt "raining, sea" --offload True',
    '256px_tp.py --prompt "raining, sea" --aspect_ratio 9:16 --num_frames 65',
    "256px_sp.py --cond_type i2v_head --ref image.png --num-sample 4",
    "256px.py --dataset.data-path rows.csv --cond_type i2v_head --motion-score 4",
    "768px.py --cond_type i2v_loop --ref image.png;image.png --sampling_option.seed 42 --motion-score dynamic",
    "768px_sp.py --sampling_option.num_steps 10 --sampling_option.guidance 7 --sampling_option.seed 0",
    "high_compression.py --save-dir samples --sampling_option.num_frames 64 --use_t2i2v False",
    "t2v_360p.py --num-frames 97 --aspect-ratio 16:9 --num-sampling-steps 30 --cfg-scale 7.5",
    "t2v_720p.py --num-frames 97 --aes 6.5 --neg-prompt blur",
    "v2v.py --ref clip.mp4 --num-frames 113 --image-cfg-scale 3",
    "i2v.py --ref image.png --loop 2",
    "v1_2.py --num-frames 51 --resolution 480p --seed 1",
    "v1_2.py --ref image.png",
)
"""What stands behind ``torchrun … scripts/diffusion/inference.py configs/diffusion/inference/``."""


@pytest.mark.parametrize("command", PUBLISHED_COMMANDS)
def test_published_commands_go_as_far_as_the_weights(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    picture = Image.new("RGB", (256, 144), (9, 90, 180))
    picture.save(folder / "image.png")
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), dtype=np.uint8)
    write_mp4(folder / "clip.mp4", noise, 24, {})
    (folder / "rows.csv").write_text("text,ref\na ball,image.png\n")
    config, *options = shlex.split(command)
    done = run(CONFIGS / config, *options)
    assert done.exit_code == 2 and "are not on this machine. Get them with" in done.stderr, done.output
    assert done.stdout.startswith("[1/1] ") and not (folder / "samples").exists()


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.name)
def test_every_shipped_config_is_a_request_that_can_be_served(file: Path, tmp_path: Path) -> None:
    request = load_config(file)
    assert isinstance(request, GenerationRequest)
    if request.mode == "t2v" and request.cond_type is not None:
        Image.new("RGB", (640, 360), (9, 90, 180)).save(tmp_path / "image.png")
        given = np.zeros((33, 72, 128, 3), np.uint8) if "v2v" in request.cond_type else str(tmp_path / "image.png")
        kind = "reference_video" if "v2v" in request.cond_type else "reference_image"
        request = GenerationRequest(**{**asdict(request), kind: given})
    done = request.validated()
    assert done.model == request.model
    assert done.bundle().preset is not None


def torchrun(count: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    script = [ROOT / "scripts" / "diffusion" / "inference.py", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count), "--standalone"]
    return subprocess.run([*launch, *script], env=environment, capture_output=True, text=True, timeout=900, check=False)


def test_processes_of_torchrun_make_one_clip_together(config: Path, folder: Path) -> None:
    options = ("--length", "1f", "--dtype", "fp32", "--save-dir", "samples")
    for count in (1, 2):
        done = torchrun(count, config, *options, "--seed", "5")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("seed 5") == 1
    one, two = (folder / "samples" / f"sample_000{n}.png" for n in (0, 1))
    assert read_metadata(two)["plan"]["processes"] == 2
    pictures = [np.asarray(Image.open(file)).astype(int) for file in (one, two)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_of_several_processes_one_says_what_is_wrong(config: Path, folder: Path) -> None:
    done = torchrun(2, config, "--num_frame", "3")
    assert done.returncode != 0
    assert done.stderr.count("There is no option --num_frame.") == 1
    assert list(folder.iterdir()) == []
