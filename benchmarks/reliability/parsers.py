"""Everything that reads text or bytes of strangers, with what it may answer to nonsense."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from opensora.datasets import sniff
from opensora.models.text import prompts
from opensora.pipelines import published_options, reproduce, speed
from opensora.pipelines.request import GenerationRequest, parse_length
from opensora.sampling.mask_strategy import parse_mask_strategy
from opensora.server import fields, guard, rates, users
from opensora.server.errors import ApiError
from opensora.server.login import local_path
from opensora.server.metrics import group
from opensora.server.settings import ServerSettings, is_loopback
from opensora.server.users import UsersError
from opensora.ui import restore, wildcards

TEXT = st.text(max_size=60) | st.sampled_from(
    ["|0| a |1| b", "__colour__ ball", "{red|blue} ball", "2s", "49f", "1e9s", "0", "-1", "/etc/passwd", "\0", "\ud800"]
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
FIELD_NAMES = st.sampled_from([*fields.FIELDS, *fields.CLOSED, "webhook_url", "x"])
BODIES = st.dictionaries(FIELD_NAMES, VALUES, max_size=5)
GOOD = {"prompt": "a red ball", "length": "17f"}
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        name: VALUES for name in ("prompt", "seed", "width", "height", "model", "loras", "given", "settings", "plan")
    },
)
"""What the settings in a file may look like."""
HEADS = st.sampled_from([b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", b"RIFF....WEBP", b"\0\0\0\x18ftypmp42", b""])
BYTES = st.binary(max_size=120)


@dataclass(frozen=True)
class Parser:
    """Something that reads."""

    name: str
    values: st.SearchStrategy[Any]
    """What it is given."""
    read: Callable[[Any], object]
    refusals: tuple[type[Exception], ...] = (ValueError, ApiError)
    """How it may refuse; everything else is a defect."""


def _in_file(read: Callable[[Path], object], path: Path) -> Callable[[str], object]:
    def through(text: str) -> object:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return read(path)

    return through


def _host(name: str) -> object:
    return ServerSettings(Path(), allow_hosts=(name,))


def all_parsers(folder: Path) -> list[Parser]:
    """The parsers.

    Args:
        folder: for files that they read.
    """
    whole = json.dumps({"users": []})
    texts = TEXT | VALUES.map(lambda value: json.dumps(value)) | st.just(whole)
    options = st.lists(st.sampled_from(["--prompt", "--num-frames", "--ref", "--x", "prompt"]) | TEXT, max_size=6)
    base = GenerationRequest("a red ball")
    return [
        Parser("request", BODIES | BODIES.map(lambda b: GOOD | b) | VALUES, lambda v: fields.parse(v).validated()),
        Parser("length", TEXT | st.integers(), lambda v: parse_length(v, 24)),
        Parser("prompt parts", TEXT, prompts.split_prompt),
        Parser("prompt options", TEXT, lambda v: prompts.extract_json_from_prompts([v])),
        Parser("wildcards", TEXT, lambda v: wildcards.expand(v, random.Random(1))),
        Parser("mask strategy", TEXT, parse_mask_strategy),
        Parser("options of torchrun", options, lambda v: published_options.overrides(v, base)),
        Parser("settings in a file", SETTINGS | VALUES, lambda v: reproduce.read_settings(json.dumps(v).encode())),
        Parser("bytes with settings", st.tuples(HEADS, BYTES).map(b"".join), reproduce.read_settings),
        Parser("a preset's file", texts, _in_file(restore.preset_of, folder / "preset.json")),
        Parser("users file", texts, _in_file(users._load, folder / "users.json"), (UsersError,)),
        Parser("kind of a picture", st.tuples(HEADS, BYTES).map(b"".join), sniff.picture_kind, ()),
        Parser("kind of a clip", st.tuples(HEADS, BYTES).map(b"".join), sniff.clip_kind, ()),
        Parser("declared size", st.tuples(HEADS, BYTES).map(b"".join), sniff.declared_size, ()),
        Parser("name of a file", TEXT, lambda v: sniff.shown_name(Path(v)), ()),
        Parser("host", TEXT, guard._hostname, ()),
        Parser("origin", TEXT, guard._netloc, ()),
        Parser("address of a client", TEXT, rates.network, ()),
        Parser("loopback", TEXT, is_loopback, ()),
        Parser("allowed host", TEXT, _host),
        Parser("where a login leads", TEXT, local_path, ()),
        Parser("kind of an address", TEXT, group, ()),
        Parser("measured runs", VALUES, speed._runs, ()),
    ]
