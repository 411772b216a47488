"""Texts to run elsewhere: every one of them, parsed by whoever would run it, gives the same request."""

import dataclasses
import itertools
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import opensora
from opensora.config import load_config
from opensora.pipelines.copy_as import CONFIG, IN_CONFIG, as_command, as_curl, as_python, as_torchrun
from opensora.pipelines.published_options import overrides
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.server import fields

ROOT = Path(__file__).parents[2]

REQUESTS = (
    GenerationRequest("a red ball", seed=7),
    GenerationRequest(
        '-- it\'s "a" $HOME; `ls` \\ |0| 빨간 공\n|1| none', length=49, negative_prompt="-x = none, 'rain'"
    ),
    GenerationRequest(
        "waves",
        model="opensora-1.3-t2v-360p",
        resolution="360p",
        aspect_ratio="9:16",
        length="97f",
        motion_score=3,
        aesthetic_score=6.5,
        camera_motion="pan left",
        steps=12,
        guidance=7.25,
        image_guidance=1.5,
        num_videos=3,
        loops=2,
        seed=2**62,
        dtype="fp32",
    ),
    GenerationRequest("waves", model="opensora-2.0", motion_score="dynamic", picture_model="flux.1-dev", length="2s"),
    GenerationRequest("waves", model="opensora-2.0", last_image="my last.png", cond_type="i2v_tail", seed=1),
    GenerationRequest("waves", reference_image="a b.png", last_image="c.png", cond_type="i2v_loop"),
    GenerationRequest("waves", model="opensora-2.0", reference_video="clip.mp4", cond_type="v2v_tail"),
)


def plain(request: GenerationRequest) -> dict[str, Any]:
    """Fields with one spelling of files and lengths."""
    values = {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
    values = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    if isinstance(values["length"], int):
        values["length"] = f"{values['length']}f"
    return values | {"loras": tuple((str(file), float(strength)) for file, strength in request.loras)}


def ran(words: list[str], monkeypatch: pytest.MonkeyPatch) -> GenerationRequest:
    """The request that the command line would make."""
    from opensora.cli import app

    seen: list[GenerationRequest] = []

    def estimate(request: GenerationRequest) -> None:
        seen.append(request)
        raise RequestError("prompt", "seen")

    monkeypatch.setattr(GenerationRequest, "validated", lambda self: estimate(self))
    assert words[:4] == ["python", "-m", "opensora", "generate"]
    done = CliRunner().invoke(app, words[3:])
    assert "seen" in done.stderr, done.output
    return seen[0]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: r.prompt[:8])
def test_the_command_line_reads_the_same_request(request_: GenerationRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plain(ran(shlex.split(as_command(request_)), monkeypatch)) == plain(request_)


def test_a_folder_and_loras_reach_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    request = GenerationRequest("x", model=Path("bundle"), loras=((Path("a b"), 0.5), (Path("c"), -1.0)))
    assert plain(ran(shlex.split(as_command(request)), monkeypatch)) == plain(request)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: r.prompt[:8])
def test_torchrun_reads_the_same_request(request_: GenerationRequest) -> None:
    words = shlex.split(as_torchrun(request_, processes=4))
    assert words[:6] == ["torchrun", "--standalone", "--nproc_per_node", "4", "scripts/diffusion/inference.py", CONFIG]
    named, rest = {}, words[6:]
    while rest and rest[0] in ("--prompt", "--seed", "--num-videos"):  # options of the script itself
        key, value, *rest = rest
        named[key.removeprefix("--").replace("-", "_")] = value if key == "--prompt" else int(value)
    base = load_config(ROOT / CONFIG)
    read = dataclasses.replace(load_config(ROOT / CONFIG, overrides(rest, base)), **named)
    assert plain(read) == plain(request_)


def test_the_command_names_every_setting_of_its_config() -> None:
    config = load_config(ROOT / CONFIG)
    own = {f.name for f in dataclasses.fields(config) if getattr(config, f.name) != f.default} - {"prompt"}
    assert own == set(IN_CONFIG)


def test_torchrun_takes_loras_and_refuses_folders() -> None:
    request = GenerationRequest("x", model="tiny", resolution="144p", loras=((Path("a b"), 0.5),))
    words = shlex.split(as_torchrun(request))
    found = overrides(words[8:], load_config(ROOT / CONFIG))
    assert plain(dataclasses.replace(load_config(ROOT / CONFIG, found), prompt="x")) == plain(request)
    with pytest.raises(RequestError, match="from a config file alone"):
        as_torchrun(GenerationRequest("x", model=Path("bundle")))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: r.prompt[:8])
def test_the_rest_interface_reads_the_same_request(request_: GenerationRequest) -> None:
    words = shlex.split(as_curl(request_))
    assert words[:4] == ["curl", "-X", "POST", "http://127.0.0.1:7860/v1/videos"]
    if "--form-string" in words:
        body = words[words.index("--form-string") + 1].removeprefix("request=")
        parts = [word.split("=@", 1) for flag, word in itertools.pairwise(words) if flag == "-F"]
        files = {name: Path(file) for name, file in parts}
    else:
        body, files = words[words.index("-d") + 1], {}
    assert plain(fields.parse(json.loads(body), **files)) == plain(request_)


def test_what_no_call_may_name_is_refused() -> None:
    with pytest.raises(RequestError, match="no call can name"):
        as_curl(GenerationRequest("x", model=Path("bundle")))


def test_a_call_names_the_loras_of_the_server_without_their_folder() -> None:
    text = as_curl(GenerationRequest("x", loras=((Path("/srv/style.safetensors"), 0.5),)))
    assert '"loras": [{"name": "style.safetensors", "strength": 0.5}]' in text and "/srv" not in text


@pytest.mark.parametrize(
    "request_",
    [*REQUESTS, GenerationRequest("x", model=Path("a"), loras=((Path("b"), 0.5),))],
    ids=lambda r: r.prompt[:8],
)
def test_the_script_makes_the_same_request(request_: GenerationRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[GenerationRequest] = []

    class Result:
        def save(self, path: str) -> None:
            assert path == "clip.mp4"

    def make(prompt: str, **settings: Any) -> Result:
        seen.append(GenerationRequest(prompt, **settings))
        return Result()

    monkeypatch.setattr(opensora, "generate_video", make, raising=False)
    exec(as_python(request_), {})
    assert plain(seen[0]) == plain(request_)


def test_pictures_in_memory_are_spoken_of_as_files() -> None:
    picture = Image.new("RGB", (8, 8))
    request = GenerationRequest("x", reference_image=picture, last_image=np.zeros((8, 8, 3), np.uint8))
    assert "--image reference_image.png --last-image last_image.png" in as_command(request)
    assert "reference_image=@reference_image.png" in as_curl(request)


def test_a_server_with_a_login_is_called_with_a_key_from_the_shell() -> None:
    text = as_curl(GenerationRequest('it\'s "$HOME"'), "https://clips.example.com/v1/videos", key=True)
    assert text.startswith('curl -X POST https://clips.example.com/v1/videos -H "Authorization: Bearer $KEY" -H ')
    shell = f"curl() {{ printf '%s\\n' \"$@\"; }}; KEY=os_secret; {text}"
    words = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "Authorization: Bearer os_secret" in words
    assert json.loads(words[-1])["prompt"] == 'it\'s "$HOME"'
