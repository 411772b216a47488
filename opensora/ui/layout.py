"""The page: prompt first, one Generate button, the result beside it."""

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from opensora.jobs.queue import JobQueue
from opensora.models import zoo
from opensora.ui import choices, handlers, render
from opensora.ui.handlers import FIELDS, Handlers
from opensora.ui.improve import add_improve
from opensora.ui.picture import clip_input, reference_input

STYLE = Path(__file__).with_name("style.css")
POLL_SECONDS = 0.5
BROWSER_KEY = "opensora-page"

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
"""Of every event: the page draws its own progress and is no API. Handlers are quick, so each is answered in its own
request: answers that come through gradio's queue share one stream per visitor, and an event that begins in the moment
in which that stream is closed for want of others is never answered."""
LATEST: dict[str, Any] = {**QUIET, "show_progress": "minimal", "trigger_mode": "always_last"}
"""Of events that work out a note on the settings: the old one is dim until the new one is there."""

TO_RESULT = "() => { if (innerWidth < 820) document.querySelector('#result').scrollIntoView({behavior: 'smooth'}) }"
"""On a small screen the result is below the settings: go there."""
NOTHING = "() => ['']"
"""Empties a note."""
CLICKS = """
element.addEventListener('click', event => {
  const target = event.target.closest('[data-job], [data-reuse]');
  if (target) trigger('click', {...target.dataset});
});"""
"""A click on a button inside a panel, with what the button is for."""
LIVE = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');"
"""Makes a panel one whose changes are read out."""

Inputs = dict[str, Any]
"""Components by the name of their field; gradio adds their events at run time."""


def theme() -> gr.themes.Base:
    """Colours and fonts; the fonts are those of the visitor's machine, nothing is fetched."""
    fonts = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Noto Sans KR", "sans-serif"]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        font=fonts,
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def create_demo(queue: JobQueue, default_model: str = "tiny") -> gr.Blocks:
    """Build the page over a job queue; nothing runs until it is served."""
    acts = Handlers(queue)
    with gr.Blocks(title="Open-Sora", analytics_enabled=False, delete_cache=(3600, 86400)) as demo:
        browser = gr.BrowserState(None, storage_key=BROWSER_KEY, secret=BROWSER_KEY)
        shown = gr.State({})
        timer = gr.Timer(POLL_SECONDS, active=False)
        with gr.Row(elem_classes="os-head"):
            gr.HTML("<header><h1>Open-Sora</h1><p>Text and images to video, on your own machine.</p></header>")
            chip = gr.HTML("", elem_id="machine")
        with gr.Row(elem_classes="os-main"):
            with gr.Column(scale=5, min_width=320, elem_classes="os-left"):
                inputs, generate, cancel, notes = _inputs(default_model)
            with gr.Column(scale=6, min_width=320, elem_classes="os-right", elem_id="result"):
                with gr.Column(elem_classes="os-card"):
                    panel = gr.HTML(render.empty(), elem_id="panel", js_on_load=CLICKS)
                    progress = gr.HTML("", elem_id="progress", js_on_load=None)
                announcement = gr.HTML("", elem_id="announcement", js_on_load=LIVE)
                recent = gr.HTML("", elem_id="recent", js_on_load=CLICKS)
        examples = _examples()
        values = [inputs[name] for name in FIELDS]
        screen = [shown, panel, progress, announcement, recent, timer, generate, cancel]
        submit: dict[str, Any] = {"fn": acts.generate, "inputs": [browser, shown, *values], **QUIET}
        submit["outputs"] = [browser, notes.refusal, *screen]
        for text, button in examples:
            event = button.click(lambda text=text: text, None, inputs["prompt"], **QUIET)
            event.then(**submit).then(js=TO_RESULT, **QUIET)
        for listen in (generate.click, inputs["prompt"].submit):
            listen(**submit).then(js=TO_RESULT, **QUIET)
        cancel.click(acts.cancel, [browser, shown], screen, **QUIET)
        timer.tick(acts.poll, [browser, shown], screen, **QUIET)
        recent.click(acts.show, [browser, shown], [browser, *screen], **QUIET)
        reused = panel.click(acts.reuse, browser, values, **QUIET)
        reused.then(None, None, notes.refusal, js=NOTHING, **QUIET)
        demo.load(acts.open, browser, [browser, inputs["model"], *screen], **QUIET)
        demo.load(acts.preflight, values, notes.cost, **QUIET)
        demo.load(handlers.machine, None, chip, **QUIET)
        _follow(acts, inputs, values, notes)
    return demo


class Notes(NamedTuple):
    """What the page says about the settings."""

    refusal: gr.HTML
    """Why Generate did nothing."""
    cost: gr.HTML
    """What a click on it will take."""
    crop: gr.HTML
    """The part of the image that will be used."""


def _inputs(default_model: str) -> tuple[Inputs, gr.Button, gr.Button, Notes]:
    """The left column; returns the inputs by field name, Generate, Cancel and the notes on the settings."""
    resolution = zoo.PRESETS[default_model].resolutions[0]
    inputs: Inputs = {}
    with gr.Group(elem_classes="os-composer"):
        inputs["prompt"] = gr.Textbox(
            label="Prompt",
            placeholder=choices.EXAMPLES[0],
            lines=3,
            max_lines=10,
            autofocus=True,
            elem_id="prompt",
        )
        add_improve(inputs["prompt"], QUIET)
        offer = choices.offer(default_model)
        with gr.Row(elem_classes="os-references"):
            inputs["reference_image"] = reference_input(label="First frame (optional)", height=96, elem_id="image")
            inputs["last_image"] = reference_input(
                label="Last frame (optional)", height=96, elem_id="last-image", visible=offer.last_image
            )
            inputs["reference_video"] = clip_input(
                label="Clip (optional)", height=96, elem_id="clip", visible=offer.video
            )
    crop = gr.HTML("", elem_id="crop", js_on_load=None)
    with gr.Row(elem_classes="os-actions"):
        generate = gr.Button("Generate", variant="primary", size="lg", elem_id="generate", scale=3, min_width=140)
        cancel = gr.Button(
            "Cancel", variant="secondary", size="lg", elem_id="cancel", visible=False, scale=1, min_width=100
        )
    refusal = gr.HTML("", elem_id="refusal", js_on_load=None)
    cost = gr.HTML(render.COST_HINT, elem_id="cost", js_on_load=None)
    with gr.Row(elem_classes="os-pair"):
        inputs["length"] = _dropdown(offer.lengths, offer.length, "Length", "length")
        inputs["aspect_ratio"] = _dropdown(choices.ratios(resolution), "16:9", "Aspect ratio", "aspect")
    with gr.Row(elem_classes="os-pair"):
        inputs["motion_score"] = _dropdown(choices.MOTION, "", "Motion", "motion")
        inputs["camera_motion"] = _dropdown(choices.CAMERA, "", "Camera", "camera")
    with gr.Accordion("Model and advanced settings", open=False, elem_id="advanced"):
        inputs |= _advanced(default_model, resolution)
    return inputs, generate, cancel, Notes(refusal, cost, crop)


def _advanced(default_model: str, resolution: str) -> Inputs:
    """Settings that most people leave alone."""
    own = choices.defaults(default_model)
    inputs: Inputs = {}
    inputs["model"] = _dropdown(choices.models(), default_model, "Model", "model")
    with gr.Row(elem_classes="os-pair"):
        inputs["resolution"] = _dropdown(choices.resolutions(default_model), resolution, "Resolution", "resolution")
        inputs["aesthetic_score"] = _dropdown(choices.AESTHETIC, "", "Aesthetic score", "aesthetic")
    painted = choices.offer(default_model).picture
    inputs["picture_model"] = _dropdown(choices.PICTURES, "", "First picture", "picture-model", visible=painted)
    with gr.Row(elem_classes="os-pair"):
        inputs["seed"] = gr.Textbox(
            label="Seed", placeholder="random", info="Empty for a new one each time", max_lines=1, elem_id="seed"
        )
        inputs["negative_prompt"] = gr.Textbox(
            label="Negative prompt",
            placeholder="blurry, rain",
            info="What should not be there",
            max_lines=3,
            elem_id="negative",
        )
    with gr.Row(elem_classes="os-pair"):
        inputs["steps"] = gr.Slider(1, 100, value=own.steps, step=1, label="Steps", elem_id="steps")
        inputs["guidance"] = gr.Slider(0, 20, value=own.guidance, step=0.1, label="Guidance", elem_id="guidance")
    inputs["image_guidance"] = gr.Slider(
        0, 20, value=own.image_guidance, step=0.1, label="Image guidance", elem_id="image-guidance"
    )
    with gr.Row(elem_classes="os-pair"):
        inputs["num_videos"] = gr.Slider(
            1, 4, value=1, step=1, label="Clips", info="Each with the next seed", elem_id="clips"
        )
        inputs["loops"] = gr.Slider(1, 8, value=1, step=1, label="Loops", info="Parts of a long clip", elem_id="loops")
    return inputs


def _dropdown(offered: list[choices.Choice], value: str, label: str, elem_id: str, visible: bool = True) -> gr.Dropdown:
    return gr.Dropdown(
        offered, value=value, label=label, elem_id=elem_id, filterable=False, min_width=120, visible=visible
    )


def _examples() -> list[tuple[str, gr.Button]]:
    """Prompts that run on click."""
    with gr.Column(elem_classes="os-left"):
        gr.HTML("<h2 class='os-label'>Examples, a click generates</h2>", js_on_load=None)
        with gr.Row(elem_classes="os-examples"):
            return [
                (text, gr.Button(text, size="sm", elem_id=f"example-{number}"))
                for number, text in enumerate(choices.EXAMPLES)
            ]


def _follow(acts: Handlers, inputs: Inputs, values: list[Any], notes: Notes) -> None:
    """Dependent inputs, the crop and the cost follow every change."""
    image, ratio, resolution = inputs["reference_image"], inputs["aspect_ratio"], inputs["resolution"]
    following = [inputs[name] for name in handlers.FOLLOWING]
    chosen = inputs["model"].input(handlers.choose_model, inputs["model"], following, **QUIET)
    chosen.then(acts.preflight, values, notes.cost, **LATEST)
    resolution.change(handlers.choose_resolution, [resolution, ratio], ratio, **QUIET)
    image.change(handlers.choose_image, [image, resolution], [ratio, notes.crop], **LATEST)
    ratio.change(handlers.show_crop, [image, resolution, ratio], notes.crop, **LATEST)
    for name in FIELDS:
        typed = isinstance(inputs[name], gr.Textbox)
        if name != "model":  # its resolution has to follow first
            (inputs[name].blur if typed else inputs[name].change)(acts.preflight, values, notes.cost, **LATEST)
        # what a person enters, not what follows from it later: that would wipe the answer to a quick click away
        entered = inputs[name].change if typed else inputs[name].input
        entered(None, None, notes.refusal, js=NOTHING, **QUIET)
