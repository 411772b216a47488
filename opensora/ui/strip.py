"""The condition strip: what a clip begins with, ends with, goes on from or leads to, in the order of time."""

from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from opensora.datasets.aspect import closest_aspect_ratio
from opensora.datasets.confined import read_clip, read_image
from opensora.models import zoo
from opensora.pipelines.references import CLIPS
from opensora.ui import choices, render
from opensora.ui.browser import Browser, words_of
from opensora.ui.fields import SLOTS
from opensora.ui.labels import Labels
from opensora.ui.picture import clip_input, reference_input
from opensora.ui.said import problem
from opensora.ui.words import ENGLISH, Words

HEIGHT = 104
LABELS = {"extend": "slot.extend", "first_image": "slot.first", "last_image": "slot.last", "lead": "slot.lead"}
"""Key of each slot's name."""


class Strip(NamedTuple):
    """Parts of the strip."""

    inputs: dict[str, Any]
    """Components by the name of their field."""
    notes: list[gr.HTML]
    """Why a slot cannot be used, in the order of :data:`opensora.ui.fields.SLOTS`."""
    crop: gr.HTML
    """The parts of the images that will be used."""


def add_strip(labels: Labels, model: str) -> Strip:
    """Place the strip here."""
    offer = choices.offer(model)
    inputs: dict[str, Any] = {}
    notes = []
    with gr.Row(elem_classes="os-strip", elem_id="strip"):
        for slot, field in SLOTS.items():
            with gr.Column(elem_classes="os-slot", min_width=0, elem_id=f"slot-{slot}"):
                make = reference_input if slot.endswith("image") else clip_input
                inputs[field] = labels.make(
                    make,
                    {"label": LABELS[slot], **({"placeholder": "slot.picture"} if slot.endswith("image") else {})},
                    height=HEIGHT,
                    elem_id=field.replace("_", "-"),
                    visible=getattr(offer, slot),
                )
                notes.append(gr.HTML(unable(ENGLISH, slot, model), js_on_load=None))
            if slot == "first_image":
                gr.HTML("<div class='os-made' aria-hidden='true'><span></span></div>", elem_classes="os-slot-made")
    inputs["circle"] = labels.make(
        gr.Checkbox,
        {"label": "slot.loop", "info": "slot.loop.hint"},
        value=False,
        elem_id="circle",
        visible=offer.circle,
        container=False,
    )
    inputs["easy"] = labels.make(
        gr.Checkbox,
        {"label": "slot.easy", "info": "slot.easy.hint"},
        value=False,
        elem_id="easy",
        visible=offer.easy,
        container=False,
    )
    return Strip(inputs, notes, gr.HTML("", elem_id="crop", js_on_load=None))


def unable(w: Words, slot: str, model: str) -> str:
    """Why a slot cannot be used with a model; nothing where it can."""
    if getattr(choices.offer(model), slot):
        return ""
    other, title = choices.able(slot), zoo.PRESETS[model].title
    why = w("slot.unable.none", model=title) if other is None else w("slot.unable.why", model=title, other=other)
    short = w("slot.unable") if other is None else w("slot.needs", other=other)
    return (
        f"<div class='os-slot-off' title='{escape(why, quote=True)}'><strong>{w(LABELS[slot])}</strong>"
        f"<span>{escape(short)}</span></div>"
    )


def notes_of(w: Words, model: str) -> list[str]:
    """What stands in place of every slot."""
    return [unable(w, slot, model) for slot in SLOTS]


Given = str | None
"""File of a picture or a clip."""


def choose_shape(
    browser: Browser | None, first: Given, last: Given, clip: Given, lead: Given, model: str, resolution: str
) -> tuple[Any, str]:
    """What is dropped picks the closest aspect ratio, images before clips and the first before the last; returns it and
    the crops, or what is wrong."""
    w = words_of(browser)
    try:
        pictures = _pictures(first, last, clip, lead)
    except ValueError as error:
        return gr.skip(), problem(w, str(error), "crop.refused")
    leading = next(iter(pictures.values()), None)
    if leading is None:
        return gr.skip(), ""
    multiple = choices.multiple(model, resolution)
    ratio = closest_aspect_ratio(leading.width, leading.height, resolution, multiple)
    return gr.update(value=ratio), _crops(w, pictures, choices.size(model, resolution, ratio), ratio)


def show_crop(
    browser: Browser | None,
    first: Given,
    last: Given,
    clip: Given,
    lead: Given,
    model: str,
    resolution: str,
    ratio: str,
) -> str:
    """The pictures of the crops for another aspect ratio or resolution."""
    w = words_of(browser)
    try:
        return _crops(w, _pictures(first, last, clip, lead), choices.size(model, resolution, ratio), ratio)
    except ValueError as error:
        return problem(w, str(error), "crop.refused")


def _pictures(first: Given, last: Given, clip: Given, lead: Given) -> dict[str, Image.Image]:
    """What is given by its place; of a clip its first frame.

    Raises:
        ValueError: a file cannot be read.
    """
    images = {place: read_image(file) for place, file in (("first", first), ("last", last)) if file}
    return images | {place: _frame(file) for place, file in (("clip", clip), ("lead", lead)) if file}


def _frame(file: str) -> Image.Image:
    change = Path(file).stat().st_mtime_ns if Path(file).is_file() else 0
    return _first_frame(file, change)


@lru_cache(maxsize=16)
def _first_frame(file: str, change: int) -> Image.Image:
    """A clip is read once, however often its crop is drawn."""
    return Image.fromarray(read_clip(file, CLIPS).frames[0])


def _crops(w: Words, pictures: dict[str, Image.Image], size: tuple[int, int], ratio: str) -> str:
    height, width = size
    return "".join(render.crop(w, image, width, height, ratio, place) for place, image in pictures.items())
