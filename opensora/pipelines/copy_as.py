"""A request as text to run somewhere else: Python, curl, torchrun and the command line."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

import numpy as np

from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest
from opensora.sentences import named, say

FILES = MappingProxyType(
    {"reference_image": "reference_image.png", "last_image": "last_image.png", "reference_video": "reference_video.mp4"}
)
"""Names under which texts speak of pictures and clips that a request holds itself."""
OPTIONS = MappingProxyType(
    {"reference_image": "--image", "last_image": "--last-image", "reference_video": "--video", "loras": "--lora"}
)
"""Fields whose option of ``python -m opensora generate`` has another name."""
CONFIG = "configs/diffusion/inference/tiny.py"
"""Config file that torchrun's command starts from; every setting of it is named in the command."""
IN_CONFIG = ("model", "resolution", "aspect_ratio", "length")
"""Fields that this config sets besides the prompt."""
MACHINE = ("device", "offload")
"""Fields that a server decides by itself."""
ADDRESS = "http://127.0.0.1:7860/v1/videos"


def as_python(request: GenerationRequest) -> str:
    """A script that makes the clip and saves it."""
    settings = {name: _literal(value) for name, value in _asked(request).items() if name != "prompt"}
    lines = [repr(request.prompt), *(f"{name}={value}" for name, value in settings.items())]
    path = "from pathlib import Path\n\n" if any("Path(" in line for line in lines[1:]) else ""
    body = "".join(f"    {line},\n" for line in lines)
    still = request.mode == "t2i"
    file = "picture.png" if still else "clip.mp4"
    return f'{path}from opensora import generate_video\n\nresult = generate_video(\n{body})\nresult.save("{file}")\n'


def as_command(request: GenerationRequest) -> str:
    """``python -m opensora generate`` with every setting."""
    words = ["python", "-m", "opensora", "generate"]
    for name, value in _asked(request).items():
        if name == "prompt":
            continue
        option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option.removeprefix('--')}")
            continue
        for each in value if name == "loras" else (value,):
            words += [option, _word(each)]
    return shlex.join([*words, "--", request.prompt])


def as_torchrun(request: GenerationRequest, processes: int = 1) -> str:
    """The inference script under ``torchrun``.

    Raises:
        RequestError: the weights are a folder, which only a config file can name.
    """
    for name in ("model", "picture_model"):
        if isinstance(getattr(request, name), Path):
            raise RequestError(name, say("copy.folder"))
    asked = _asked(request)
    words = ["torchrun", "--standalone", "--nproc_per_node", str(processes), "scripts/diffusion/inference.py", CONFIG]
    words += ["--prompt", request.prompt]
    for name, option in (("seed", "--seed"), ("num_videos", "--num-videos")):
        if name in asked:
            words += [option, str(asked[name])]
    named = ("prompt", "seed", "num_videos")
    rest = {name: asked.get(name, getattr(request, name)) for name in (*IN_CONFIG, *asked) if name not in named}
    for name, value in rest.items():
        plain = tuple((str(file), strength) for file, strength in value) if name == "loras" else value
        words.append(f"{name}={'none' if plain is None else plain}")
    return shlex.join(words)


def as_curl(request: GenerationRequest, address: str = ADDRESS, key: bool = False) -> str:
    """A call of the REST interface; pictures and clips go along as files.

    Args:
        address: where a server takes requests for videos.
        key: whether it asks for an API key, which the call takes from the variable ``KEY``.

    Raises:
        RequestError: the request names files of a machine, which no call may.
    """
    asked = _asked(request)
    if "loras" in asked:  # a server's own, by name
        asked["loras"] = [{"name": Path(file).name, "strength": strength} for file, strength in asked["loras"]]
    for name in ("model", "picture_model"):
        if isinstance(asked.get(name), Path):
            raise RequestError(name, say("copy.file", field=named(name)))
    body = json.dumps({n: v for n, v in asked.items() if n not in (*FILES, *MACHINE)}, ensure_ascii=False)
    files = [f"{name}=@{asked[name]}" for name in FILES if name in asked]
    call = shlex.join(["curl", "-X", "POST", address]) + (' -H "Authorization: Bearer $KEY"' if key else "")
    if files:
        words = ["--form-string", f"request={body}", *(word for file in files for word in ("-F", file))]
    else:
        words = ["-H", "Content-Type: application/json", "-d", body]
    return f"{call} {shlex.join(words)}"


TEXTS: Mapping[str, Any] = MappingProxyType(
    {"python": as_python, "command": as_command, "torchrun": as_torchrun, "curl": as_curl}
)
"""Every way to write a request, by name."""


def _asked(request: GenerationRequest) -> dict[str, Any]:
    """Fields that differ from their defaults, plain; what a request holds itself is spoken of as a file."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        default = field.default
        if field.name in FILES:
            if value is not None:
                found[field.name] = value if isinstance(value, str | Path) else FILES[field.name]
        elif default is dataclasses.MISSING or type(value) is not type(default) or value != default:
            found[field.name] = value.item() if isinstance(value, np.generic) else value
    if isinstance(found.get("length"), int):
        found["length"] = f"{found['length']}f"
    return found


def _literal(value: Any) -> str:
    """A value as Python, files as ``Path("…")``."""
    if isinstance(value, PurePath):
        return f"Path({str(value)!r})"
    if isinstance(value, tuple):
        inside = ", ".join(_literal(entry) for entry in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    return repr(value)


def _word(value: Any) -> str:
    """A value as a command line writes it."""
    if isinstance(value, tuple):
        file, strength = value
        return f"{file}:{strength}"
    if isinstance(value, Path):
        return str(value) if len(value.parts) > 1 else f"./{value}"
    return str(value)
