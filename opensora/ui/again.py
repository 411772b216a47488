"""A clip that there is becomes the beginning of the next: its settings, a frame of it, or all of it."""

import os
import shutil
import tempfile
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from opensora.jobs.queue import JobQueue, JobState, JobView
from opensora.models import zoo
from opensora.pipelines.request import parse_length
from opensora.pipelines.result import role_of
from opensora.ui import choices, fields
from opensora.ui.browser import Browser, owner_of, words_of
from opensora.ui.choices import FPS
from opensora.ui.fields import FIELDS
from opensora.ui.picture import clip_file
from opensora.ui.said import problem
from opensora.ui.words import Words

CLIP_GIVEN = 33
"""Frames that the longest part of a clip has which another one goes on from."""
Filled = tuple[Any, ...]
"""What the page shows already, a refusal, and the updates of all inputs."""


def fill(queue: JobQueue, browser: Browser | None, shown: dict[str, Any], event: gr.EventData) -> Filled:
    """A button was pressed that changes the inputs: ``reuse``, ``edit``, ``continue``, ``extend`` or ``circle``."""
    w, act = words_of(browser), str(event.act)
    view = queue.view(str(getattr(event, "job", "")), owner_of(browser))
    if view is None:
        return shown, problem(w, w("gone")), *(gr.skip() for _ in FIELDS)
    if act in ("continue", "extend", "circle"):
        if view.state is not JobState.DONE or not view.files:
            return shown, problem(w, w("gone")), *(gr.skip() for _ in FIELDS)
        values = went_on(view, act, _number(event, "time"), int(_number(event, "file")))
    else:
        values = as_it_was(view)
    shown = {**shown, "editing": view.id if act == "edit" else None}
    return shown, _other_model(w, view.request.model, values["model"]), *fields.filled(w, values).values()


def _other_model(w: Words, before: object, now: str) -> str:
    """That another model was chosen, where the clip's own cannot do what was asked for."""
    if before == now:
        return ""
    old = zoo.PRESETS[before].title if isinstance(before, str) and before in zoo.PRESETS else Path(str(before)).name
    chosen = zoo.PRESETS[now]
    other = f"{chosen.title} ({choices.whereabouts(w, chosen)})"
    return f"<p class='os-note' role='status'>{escape(w('model.other', model=old, other=other))}</p>"


def as_it_was(view: JobView) -> dict[str, Any]:
    """All inputs as they were for a job, with the seed that was used."""
    seed = (view.settings or {}).get("seed", view.request.seed)
    values = fields.values_of(view.request, seed)
    for name in ("reference_video", "lead_video"):
        if values[name] is not None:
            values[name] = clip_file(values[name])
    return values


def went_on(view: JobView, act: str, time: float, number: int) -> dict[str, Any]:
    """Inputs for a clip that goes on from another.

    Args:
        act: ``continue`` from the frame at the playhead, ``extend`` the clip, or ``circle`` from and to the frame.
        time: of the playhead, in seconds.
        number: which of the job's clips.
    """
    values = fields.values_of(view.request)
    values |= {"reference_image": None, "last_image": None, "reference_video": None, "lead_video": None}
    slot = {"continue": "first_image", "extend": "extend", "circle": "circle"}[act]
    values["model"] = choices.fit(slot, values["model"])
    values |= {"seed": "", "num_videos": 1, "loops": 1, "picture_model": "", "circle": act == "circle"}
    if values["resolution"] not in zoo.PRESETS[values["model"]].resolutions:
        values["resolution"] = zoo.PRESETS[values["model"]].resolutions[0]
    offer = choices.offer(values["model"])
    if values["length"] in ("1f", 1):
        values["length"] = offer.length
    clips = [file for file in view.files if role_of(file) == "clip"]
    file = clips[number if 0 <= number < len(clips) else 0]
    if act == "extend":
        values["reference_video"] = _copied(file)
        if parse_length(values["length"], FPS) <= CLIP_GIVEN:  # nothing would be left to make
            values["length"] = f"{min((n for n in offer.frames if n > CLIP_GIVEN), default=max(offer.frames))}f"
    else:
        values["reference_image"] = frame_file(file, time)
    return values


def frame_file(file: Path, time: float) -> str:
    """The frame that is on the screen at a time, or the picture, as a PNG among gradio's own uploads."""
    if file.suffix == ".png":
        return _copied(file)
    from opensora.datasets.video_io import read_video

    clip = read_video(file)
    index = min(len(clip.frames) - 1, max(0, int(time * float(clip.fps))))
    path = _folder() / "frame.png"
    Image.fromarray(clip.frames[index]).save(path)
    return str(path)


def offered(w: Words, view: JobView) -> list[tuple[str, str]]:
    """What can be begun from a finished clip, as (act, label)."""
    model = view.request.model
    offer = choices.offer(model) if isinstance(model, str) and model in zoo.PRESETS else None
    acts = [("continue", w("do.continue"))]
    if offer is not None and offer.extend and view.files[0].suffix == ".mp4":
        acts.append(("extend", w("do.extend")))
    if offer is not None and offer.circle:
        acts.append(("circle", w("do.circle")))
    return acts


def _copied(file: Path) -> str:
    return str(shutil.copy(file, _folder() / file.name))


def _folder() -> Path:
    return Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")))


def _number(event: gr.EventData, name: str) -> float:
    """A number that a page sent; 0 for anything else."""
    try:
        value = float(getattr(event, name))
    except (AttributeError, TypeError, ValueError):
        return 0.0
    return value if 0 <= value < 3600 else 0.0
