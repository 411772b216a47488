"""The left column: prompt, condition strip, Generate, and the settings."""

from typing import Any, NamedTuple

import gradio as gr

from opensora.models import zoo
from opensora.pipelines import lora_folder
from opensora.pipelines.request import TEXT_DTYPES
from opensora.ui import choices, render
from opensora.ui.events import CLICKS
from opensora.ui.fields import REACH
from opensora.ui.improve import Improve, add_improve
from opensora.ui.labels import Labels
from opensora.ui.picture import dropdown_input, slider_input
from opensora.ui.several import add_several
from opensora.ui.strip import Strip, add_strip
from opensora.ui.words import ENGLISH

Inputs = dict[str, Any]
"""Components by the name of their field; gradio adds their events at run time."""


class Composer(NamedTuple):
    """What the left column holds."""

    inputs: Inputs
    generate: gr.Button
    cancel: gr.Button
    random: gr.Button
    refusal: gr.HTML
    """Why Generate did nothing."""
    cost: gr.HTML
    """What a click on it will take."""
    strip: Strip
    improve: Improve | None
    """``None`` where no language model is set up."""
    upload: gr.UploadButton
    """Takes a file whose settings come back."""
    several: dict[str, Any]
    """See :func:`opensora.ui.several.add_several`."""
    presets: dict[str, Any]
    """``section``, ``name``, ``save`` and ``list``."""


def add_composer(labels: Labels, model: str) -> Composer:
    """Place the left column here."""
    resolution, offer = zoo.PRESETS[model].resolutions[0], choices.offer(model)
    inputs: Inputs = {}
    with gr.Group(elem_classes="os-composer"):
        inputs["prompt"] = labels.make(
            gr.Textbox,
            {"label": "prompt", "placeholder": "prompt.example"},
            lines=3,
            max_lines=10,
            autofocus=True,
            elem_id="prompt",
        )
        with gr.Row(elem_classes="os-prompt-tools"):
            random = labels.make(
                gr.Button,
                {"value": "random"},
                size="sm",
                elem_id="random",
                scale=0,
                min_width=120,
                elem_classes="os-quiet",
            )
            upload = labels.make(
                gr.UploadButton,
                {"label": "restore"},
                file_types=[".mp4", ".png", ".webm", ".json"],
                size="sm",
                elem_id="restore",
                scale=0,
                min_width=120,
                elem_classes="os-quiet",
            )
            improve = add_improve(labels)
        strip = add_strip(labels, model)
        inputs |= strip.inputs
    with gr.Row(elem_classes="os-actions"):
        generate = gr.Button(
            ENGLISH("generate"), variant="primary", size="lg", elem_id="generate", scale=3, min_width=140
        )
        cancel = gr.Button(ENGLISH("cancel"), size="lg", elem_id="cancel", visible=False, scale=1, min_width=100)
    refusal = gr.HTML("", elem_id="refusal", js_on_load=CLICKS)
    cost = gr.HTML(render.cost_hint(ENGLISH), elem_id="cost", js_on_load=CLICKS)
    with gr.Row(elem_classes="os-pair"):
        lengths = choices.lengths(ENGLISH, offer.frames)
        inputs["length"] = _dropdown(labels, lengths, offer.length, "length", "length")
        inputs["aspect_ratio"] = _dropdown(
            labels, choices.ratios(ENGLISH, model, resolution), "16:9", "aspect", "aspect"
        )
    with gr.Row(elem_classes="os-pair"):
        inputs["motion_score"] = _dropdown(labels, choices.motions(ENGLISH), "", "motion", "motion")
        inputs["camera_motion"] = _dropdown(labels, choices.cameras(ENGLISH), "", "camera", "camera")
    with labels.make(gr.Accordion, {"label": "advanced"}, open=False, elem_id="advanced"):
        inputs |= _advanced(labels, model, resolution)
    several, presets = add_several(labels), _presets(labels)
    return Composer(inputs, generate, cancel, random, refusal, cost, strip, improve, upload, several, presets)


def _presets(labels: Labels) -> dict[str, Any]:
    """Settings that the browser keeps by name."""
    with labels.make(gr.Accordion, {"label": "presets"}, open=False, elem_id="presets") as section:
        with gr.Row(elem_classes="os-pair"):
            keys = {"label": "preset.name", "placeholder": "preset.example"}
            name = labels.make(gr.Textbox, keys, max_lines=1, elem_id="preset-name", min_width=120)
            save = labels.make(gr.Button, {"value": "preset.save"}, elem_id="preset-save", scale=0, min_width=100)
        kept = gr.HTML("", elem_id="preset-list", js_on_load=CLICKS)
    return {"section": section, "name": name, "save": save, "list": kept}


def _advanced(labels: Labels, model: str, resolution: str) -> Inputs:
    """Settings that most people leave alone."""
    own = choices.defaults(model)
    inputs: Inputs = {}
    inputs["model"] = labels.make(
        gr.Dropdown, {"label": "model"}, choices=choices.models(ENGLISH), value=model, filterable=False, elem_id="model"
    )
    with gr.Row(elem_classes="os-pair"):
        inputs["resolution"] = _dropdown(labels, choices.resolutions(model), resolution, "resolution", "resolution")
        inputs["aesthetic_score"] = _dropdown(labels, choices.aesthetics(ENGLISH), "", "aesthetic", "aesthetic")
    painted = choices.offer(model).picture
    inputs["picture_model"] = _dropdown(
        labels, choices.pictures(ENGLISH), "", "picture", "picture-model", visible=painted
    )
    with gr.Row(elem_classes="os-pair"):
        seed = {"label": "seed", "placeholder": "seed.empty", "info": "seed.hint"}
        inputs["seed"] = labels.make(gr.Textbox, seed, max_lines=1, elem_id="seed")
        negative = {"label": "negative", "placeholder": "negative.example", "info": "negative.hint"}
        inputs["negative_prompt"] = labels.make(gr.Textbox, negative, max_lines=3, elem_id="negative")
    with gr.Row(elem_classes="os-pair"):
        inputs["steps"] = _slider(labels, 1, REACH["steps"][0], own.steps, 1, "steps", "steps")
        inputs["guidance"] = _slider(labels, 0, REACH["guidance"][0], own.guidance, 0.1, "guidance", "guidance")
    most = REACH["image_guidance"][0]
    inputs["image_guidance"] = _slider(labels, 0, most, own.image_guidance, 0.1, "image_guidance", "image-guidance")
    with gr.Row(elem_classes="os-pair"):
        inputs["num_videos"] = _slider(labels, 1, REACH["num_videos"][0], 1, 1, "clips", "clips", info="clips.hint")
        inputs["loops"] = _slider(labels, 1, REACH["loops"][0], 1, 1, "loops", "loops", info="loops.hint")
    inputs["candidate"] = labels.make(
        dropdown_input,
        {"label": "candidate", "info": "candidate.hint"},
        choices=choices.candidates(ENGLISH, model),
        value="",
        filterable=False,
        elem_id="candidate",
        visible=choices.offer(model).candidates > 1,
    )
    return inputs | _text_and_loras(labels, model)


def _text_and_loras(labels: Labels, model: str) -> Inputs:
    """Precision of the text encoder, and the server's LoRAs where it has some."""
    precisions, fit, here = choices.text_dtypes(ENGLISH), choices.loras(model), bool(lora_folder.listed())
    quantised = len(precisions) == len(TEXT_DTYPES)
    inputs: Inputs = {}
    with gr.Row(elem_classes="os-pair"):
        inputs["dtype"] = _dropdown(labels, choices.dtypes(ENGLISH), "", "dtype", "dtype")
        inputs["offload"] = _dropdown(labels, choices.offloads(ENGLISH), "", "offload", "offload")
    inputs["text_dtype"] = labels.make(
        dropdown_input,
        {"label": "text_dtype", "info": "text_dtype.hint" if quantised else "text_dtype.short"},
        choices=precisions,
        value="",
        filterable=False,
        elem_id="text-dtype",
    )
    with gr.Row(elem_classes="os-pair"):
        shown: dict[str, Any] = {"visible": here, "interactive": bool(fit), "min_width": 120}
        inputs["loras"] = labels.make(
            dropdown_input,
            {"label": "lora", "info": "lora.hint"},
            choices=fit,
            multiselect=True,
            elem_id="loras",
            **shown,
        )
        keys = {"label": "lora.strengths", "info": "lora.strengths.hint", "placeholder": "lora.strengths.example"}
        inputs["lora_strengths"] = labels.make(gr.Textbox, keys, max_lines=1, elem_id="lora-strengths", **shown)
    return inputs


def _dropdown(
    labels: Labels, offered: list[choices.Choice], value: str, key: str, elem_id: str, visible: bool = True
) -> gr.Dropdown:
    options: dict[str, Any] = {"filterable": False, "min_width": 120, "elem_id": elem_id, "visible": visible}
    return labels.make(dropdown_input, {"label": key}, choices=offered, value=value, **options)


def _slider(
    labels: Labels, low: float, high: float, value: float, step: float, key: str, elem_id: str, info: str | None = None
) -> gr.Slider:
    keys = {"label": key} | ({} if info is None else {"info": info})
    return labels.make(slider_input, keys, minimum=low, maximum=high, value=value, step=step, elem_id=elem_id)
