"""The inputs of the page: what a file, a program or a job had comes back whole, and gradio never refuses it first."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from memory_queue import MemoryQueue
from PIL import Image
from stepwise import Steps
from ui.test_handlers import values
from ui.test_restore import got, write_clip

from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.ui import fields, restore, room
from opensora.ui.again import fill
from opensora.ui.fields import FIELDS, request_of
from opensora.ui.handlers import Handlers
from opensora.ui.layout import create_demo
from opensora.ui.words import ENGLISH, LANGUAGES

ODD = {"steps": 200, "num_videos": 9, "aesthetic_score": 6.2, "guidance": 40.0, "image_guidance": 30.0, "loops": 1,
       "motion_score": "dynamic"}  # fmt: skip
"""What programs and the command line may have, and the sliders and choices of the page usually do not."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    queue = MemoryQueue(Steps(), tmp_path_factory.mktemp("inputs"))
    page = create_demo(queue)
    function = next(fn for fn in page.fns.values() if len(fn.inputs) == len(FIELDS) + 2 and fn.outputs)
    yield dict(zip(FIELDS, function.inputs[2:], strict=True))
    queue.close()


def after(component: Any, update: Any) -> tuple[Any, Any]:
    """A component after an update, as gradio makes it anew, and the value that the browser sends for it."""
    if not isinstance(update, dict):
        return component, update
    changes = {key: value for key, value in update.items() if key not in ("__type__", "value")}
    return type(component)(**{**component.constructor_args, **changes}), update.get("value", component.value)


def test_whatever_a_file_holds_every_event_of_the_page_takes(tmp_path: Path, inputs: dict[str, Any]) -> None:
    file = write_clip(tmp_path / "clip.mp4", length=40, **ODD)
    _, told, *updates = restore.restored(None, {}, str(file))
    assert "were filled in" in told
    now = dict(zip(FIELDS, updates, strict=True))
    assert now["steps"]["maximum"] == 1000 and now["num_videos"]["maximum"] == 16
    for name in ("aesthetic_score", "motion_score", "length"):
        assert now[name]["value"] in [value for _, value in now[name]["choices"]], name
    for fresh in (False, True):  # the second: a server that began anew and knows nothing of the updates
        sent = []
        for name in FIELDS:
            component, value = after(inputs[name], now[name])
            sent.append((inputs[name] if fresh else component).preprocess(value))
        request = request_of(sent).validated()
        assert (request.steps, request.num_videos, request.aesthetic_score) == (200, 9, 6.2)
        assert (request.guidance, request.image_guidance, request.motion_score) == (40.0, 30.0, "dynamic")


def test_usual_values_have_the_usual_sliders(tmp_path: Path) -> None:
    update = dict(zip(FIELDS, restore.restored(None, {}, str(write_clip(tmp_path / "clip.mp4")))[2:], strict=True))
    assert [update[name]["maximum"] for name in ("steps", "guidance", "num_videos", "loops")] == [100, 20, 4, 8]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_choice_that_came_from_a_file_survives_another_language(language: str) -> None:
    named = dict(zip(FIELDS, values(aesthetic_score="6.2", length=40, motion_score="dynamic"), strict=True))
    offered = fields.worded(LANGUAGES[language], named)
    assert ("6.2", "6.2") in offered["aesthetic_score"] and ("40", 40) in offered["length"]


@pytest.mark.parametrize(
    "changes",
    [{"motion_score": "often"}, {"aesthetic_score": "nice"}, {"aesthetic_score": ["6"]}, {"offload": "maybe"},
     {"dtype": "fp8"}, {"steps": "many"}, {"guidance": "strong"}, {"guidance": [1]}, {"resolution": {"a": 1}},
     {"aspect_ratio": 3}, {"loras": ["a", 3]}, {"loras": "a"}, {"loras": 5}, {"camera_motion": "round and round"},
     {"num_videos": {"a": 1}}, {"offload": {}}, {"offload": ["on"]}],
    ids=str,
)  # fmt: skip
def test_values_that_a_page_never_sends_are_a_sentence(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        request_of(values(**changes)).validated()


@pytest.mark.parametrize("kind", ["v2v_head", "v2v_tail", "v2v_head_easy", "v2v_tail_easy"])
def test_a_request_of_a_program_comes_back_whole(kind: str) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (70, 64, 96, 3), dtype=np.uint8)
    request = GenerationRequest(
        "a boat", model="opensora-2.0", length="97f", reference_video=clip, cond_type=kind, dtype="fp32", offload=True
    ).validated()
    again = request_of([fields.values_of(request)[name] for name in FIELDS]).validated()
    for name in (field.name for field in dataclasses.fields(request)):
        old, new = getattr(request, name), getattr(again, name)
        assert np.array_equal(old, new) if isinstance(old, np.ndarray) else old == new, name


@pytest.mark.parametrize(
    ("kind", "given"), [("i2v_tail", "first"), ("i2v_loop", "first"), ("i2v_loop", "both"), ("i2v_head", "last")]
)
def test_pictures_go_to_the_places_where_they_are_used(kind: str, given: str) -> None:
    red, blue = (np.full((144, 256, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    pictures: dict[str, Any] = {} if given == "last" else {"reference_image": red}
    pictures |= {"last_image": blue} if given != "first" else {}
    request = GenerationRequest("a boat", model="opensora-2.0", length="65f", cond_type=kind, **pictures).validated()
    again = request_of([fields.values_of(request)[name] for name in FIELDS]).validated()
    assert again.cond_type == kind
    used = request.references().in_order()
    both = [*used, *used][:2] if kind == "i2v_loop" else used
    assert all(map(np.array_equal, again.references().in_order(), both))


def test_the_page_reuses_and_edits_what_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "require_weights", lambda bundle: None)
    queue = MemoryQueue(Steps(), tmp_path)
    job = queue.submit(GenerationRequest("a boat", model="tiny", length="17f", dtype="fp32", offload=False), "me")
    for act in ("reuse", "edit"):
        shown, told, *updates = fill(queue, {"owner": "me"}, {}, SimpleNamespace(act=act, job=job))
        request = request_of([got(updates)[name] for name in FIELDS])
        assert told == "" and (request.dtype, request.offload) == ("fp32", False)
    Handlers(queue).generate({"owner": "me"}, shown, *[got(updates)[name] for name in FIELDS])
    edited = queue.view(job, "me")
    assert edited is not None and (edited.request.dtype, edited.request.offload) == ("fp32", False)
    queue.close()


def test_the_easy_kinds_are_offered_where_the_model_has_them() -> None:
    assert fields.of_model(ENGLISH, "opensora-2.0")["easy"] == {"visible": True}
    assert fields.of_model(ENGLISH, "tiny")["easy"] == {"visible": False, "value": False}
    picture = Image.new("RGB", (64, 64))
    with pytest.raises(RequestError, match="easy"):  # asked for of a model that has none
        GenerationRequest("a", model="tiny", reference_image=picture, cond_type="v2v_head_easy").validated()


def test_the_inputs_are_those_of_gradio(inputs: dict[str, Any]) -> None:
    for name, kind in (("steps", gr.Slider), ("length", gr.Dropdown), ("loras", gr.Dropdown), ("model", gr.Dropdown)):
        assert isinstance(inputs[name], kind) and inputs[name].get_block_name() == kind.__name__.lower()
