"""Settings come back from files and presets; what is no such file is a sentence."""

import dataclasses
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ui.test_handlers import SKIP, values

from opensora.datasets.video_io import write_mp4
from opensora.jobs.queue import JobState, JobView
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.ui import rerun, restore
from opensora.ui.fields import FIELDS, PLAIN
from opensora.ui.room import Room
from opensora.ui.words import ENGLISH


def got(updates: Any) -> dict[str, Any]:
    """Values of the inputs after an update."""
    named = dict(zip(FIELDS, updates, strict=True))
    return {name: update.get("value") if isinstance(update, dict) else update for name, update in named.items()}


def write_clip(path: Path, **settings: Any) -> Path:
    record = {
        "program": "opensora 0.1",
        "plan": {"dtype": "fp32"},
        "settings": {"prompt": "a kite", "model": "tiny", "resolution": "144p", "aspect_ratio": "9:16", "length": "17f",
                     "steps": 12, "guidance": 5.5, "seed": 9, "width": 144, "height": 256, **settings},
    }  # fmt: skip
    write_mp4(path, np.zeros((17, 32, 16, 3), np.uint8), 24, record)
    return path


def test_a_clip_brings_its_settings_back(tmp_path: Path) -> None:
    _, told, *updates = restore.restored(None, {}, str(write_clip(tmp_path / "clip.mp4")))
    now = got(updates)
    assert "were filled in" in told
    assert [now[name] for name in ("prompt", "aspect_ratio", "length", "steps", "guidance", "seed")] == [
        "a kite", "9:16", "17f", 12, 5.5, "9",
    ]  # fmt: skip


def test_a_file_is_run_again_and_compared_to_the_byte(tmp_path: Path) -> None:
    file = write_clip(tmp_path / "clip.mp4")
    shown, told, *_ = restore.restored(None, {}, str(file))
    first = shown["dropped"]
    assert "data-act='again-file'" in told and first.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    taken: list[GenerationRequest] = []
    queue = SimpleNamespace(submit=lambda request, owner: taken.append(request) or "the-job")
    browser = rerun.start(queue, Room(), {"owner": "me"}, first)  # type: ignore[arg-type]  # no more is asked of a queue
    assert browser["job"] == "the-job" and (taken[0].prompt, taken[0].seed, taken[0].steps) == ("a kite", 9, 12)
    equal = JobView("the-job", "me", taken[0], JobState.DONE, sha256=(first.sha256,), plan={"dtype": "fp32"})
    assert "byte for byte" in rerun.of_file(ENGLISH, browser, equal)
    other = dataclasses.replace(equal, sha256=("0" * 64,), plan={"dtype": "bf16"})
    told = rerun.of_file(ENGLISH, browser, other)
    assert "Not equal" in told and "dtype: fp32 → bf16" in told and "program: opensora 0.1 →" in told
    assert rerun.of_file(ENGLISH, browser, dataclasses.replace(equal, id="another")) == ""
    with pytest.raises(RequestError, match="give it again"):
        rerun.start(queue, Room(), browser, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["foreign", "nonsense", "other json", "large", "strange"])
def test_a_file_without_settings_is_a_sentence_and_changes_nothing(tmp_path: Path, kind: str) -> None:
    file = tmp_path / ("file.mp4" if kind in ("foreign", "nonsense", "strange") else "file.json")
    if kind == "foreign":
        write_mp4(file, np.zeros((3, 16, 16, 3), np.uint8), 24, {})
    elif kind == "strange":
        write_clip(file, steps=-4)
    else:
        file.write_text({"other json": "[1, 2]", "large": " " * 300_000}.get(kind, "nonsense"))
    _, told, *updates = restore.restored(None, {}, str(file))
    assert "role='alert'" in told and updates == [SKIP] * len(FIELDS) and str(tmp_path) not in told


def test_a_preset_is_saved_used_shared_and_forgotten(tmp_path: Path) -> None:
    given = values(prompt="a boat", steps=11, aspect_ratio="1:1", reference_image="/somewhere/photo.png")
    browser, html, refusal = restore.save(None, " mine <b> ", *given)
    assert refusal == "" and "mine &lt;b&gt;" in html
    kept = browser["presets"]["mine <b>"]
    assert set(kept) <= set(PLAIN) and "/somewhere" not in json.dumps(browser)
    told, *updates = restore.load(browser, SimpleNamespace(act="preset", name="mine <b>"))
    assert told == "" and [got(updates)[name] for name in ("prompt", "steps", "aspect_ratio")] == ["a boat", 11, "1:1"]
    file = tmp_path / "shared.json"
    file.write_text(json.dumps({"kind": restore.KIND, "name": "mine", "settings": kept}))
    assert got(restore.restored(None, {}, str(file))[2:])["prompt"] == "a boat"
    browser, html = restore.drop(browser, SimpleNamespace(name="mine <b>"))
    assert browser["presets"] == {} and "Nothing is saved yet" in html
    assert "has no name" in restore.save(None, "  ", *given)[2]


@pytest.mark.parametrize(
    "settings",
    [{}, {"model": "nothing"}, {"model": "tiny", "prompt": {"a": 1}}, {"model": "tiny", "steps": "many"},
     {"model": "tiny", "resolution": "9000p"}, {"model": "tiny", "guidance": -3.0}],
)  # fmt: skip
def test_a_damaged_preset_is_a_sentence(settings: dict[str, Any]) -> None:
    browser = {"owner": "me", "presets": {"bad": settings}}
    told, *updates = restore.load(browser, SimpleNamespace(act="preset", name="bad"))
    assert "role='alert'" in told and updates == [SKIP] * len(FIELDS)


def test_a_clip_can_be_copied_as_commands_that_stay_text() -> None:
    request = GenerationRequest("a <script> 'ball'", model="tiny", seed=3).validated()
    rest = {"address": "http://127.0.0.1:7860/v1/videos", "key": False}
    html = restore.copies(ENGLISH, JobView("abc", "me", request, JobState.DONE), rest)
    for part in ("generate_video(", "python -m opensora generate", "torchrun", "curl -X POST", "&lt;script&gt;"):
        assert part in html
    assert "<script>" not in html
