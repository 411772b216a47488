"""The page: prompt first, one Generate button, the result beside it."""

from pathlib import Path

import gradio as gr

from opensora.jobs.queue import JobQueue
from opensora.models import zoo
from opensora.ui import choices, render
from opensora.ui.handlers import FIELDS, Handlers

STYLE = Path(__file__).with_name("style.css")
POLL_SECONDS = 0.5
BROWSER_KEY = "opensora-page"


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
    )


def create_demo(queue: JobQueue, default_model: str = "tiny") -> gr.Blocks:
    """Build the page over a job queue; nothing runs until it is launched."""
    handlers = Handlers(queue)
    with gr.Blocks(title="Open-Sora", analytics_enabled=False, fill_width=False) as demo:
        browser = gr.BrowserState(None, storage_key=BROWSER_KEY, secret=BROWSER_KEY)
        timer = gr.Timer(POLL_SECONDS, active=False)
        gr.HTML(
            "<header class='os-head'><h1>Open-Sora</h1><p>Text and images to video, on your own machine.</p></header>"
        )
        with gr.Row(elem_classes="os-main"):
            with gr.Column(scale=5, min_width=340):
                inputs, generate, cancel, cost = _inputs(default_model)
            with gr.Column(scale=6, min_width=340):
                panel = gr.HTML(render.EMPTY, elem_id="result", padding=False)
        values = [inputs[name] for name in FIELDS]
        controls = [panel, timer, generate, cancel]
        with gr.Row(elem_classes="os-examples"):
            for number, text in enumerate(choices.EXAMPLES):
                button = gr.Button(text, size="sm", elem_id=f"example-{number}")
                button.click(
                    lambda text=text: text, None, inputs["prompt"], api_visibility="private", show_progress="hidden"
                ).then(
                    handlers.generate,
                    [browser, *values],
                    [browser, *controls],
                    api_visibility="private",
                    show_progress="hidden",
                )
        for event in (generate.click, inputs["prompt"].submit):
            event(
                handlers.generate,
                [browser, *values],
                [browser, *controls],
                api_visibility="private",
                show_progress="hidden",
            )
        cancel.click(handlers.cancel, browser, controls, api_visibility="private", show_progress="hidden")
        timer.tick(handlers.poll, browser, controls, api_visibility="private", show_progress="hidden")
        demo.load(handlers.open, browser, [browser, *controls], api_visibility="private", show_progress="hidden")
        demo.load(handlers.preflight, values, cost, api_visibility="private", show_progress="hidden")
        _follow(handlers, inputs, values, cost)
    return demo


def _inputs(default_model: str) -> tuple[dict[str, gr.components.Component], gr.Button, gr.Button, gr.HTML]:
    """The left column; returns the inputs by field name, Generate, Cancel and the cost line."""
    preset = zoo.PRESETS[default_model]
    resolution = preset.resolutions[0]
    inputs: dict[str, gr.components.Component] = {}
    inputs["prompt"] = gr.Textbox(
        label="Prompt",
        placeholder="a red ball rolls to the right over a green meadow, rain",
        lines=3,
        max_lines=8,
        max_length=4000,
        autofocus=True,
        elem_id="prompt",
    )
    with gr.Row(elem_classes="os-actions"):
        generate = gr.Button("Generate", variant="primary", size="lg", elem_id="generate", scale=3)
        cancel = gr.Button("Cancel", variant="stop", size="lg", elem_id="cancel", visible=False, scale=1)
    cost = gr.HTML(render.COST_HINT, elem_id="cost", padding=False)
    with gr.Row():
        inputs["aspect_ratio"] = gr.Dropdown(
            choices.ratios(resolution), value="16:9", label="Aspect ratio (width : height)", elem_id="aspect"
        )
        inputs["length"] = gr.Dropdown(choices.LENGTHS, value="49f", label="Length", elem_id="length")
    inputs["motion_score"] = gr.Slider(
        0,
        7,
        value=0,
        step=1,
        label="Motion score",
        info="0 leaves it to the prompt; 1 very low … 7 extremely high",
        elem_id="motion",
    )
    with gr.Accordion("Start from an image", open=False, elem_id="image-section"):
        inputs["reference_image"] = gr.Image(
            label="First frame", type="filepath", sources=["upload", "clipboard"], height=200, elem_id="image"
        )
    with gr.Accordion("Model and advanced settings", open=False, elem_id="advanced"):
        inputs |= _advanced(default_model, resolution)
    return inputs, generate, cancel, cost


def _advanced(default_model: str, resolution: str) -> dict[str, gr.components.Component]:
    """Settings that most people leave alone."""
    inputs: dict[str, gr.components.Component] = {}
    inputs["model"] = gr.Dropdown(choices.models(), value=default_model, label="Model", elem_id="model")
    with gr.Row():
        inputs["resolution"] = gr.Dropdown(
            choices.resolutions(default_model), value=resolution, label="Resolution", elem_id="resolution"
        )
        inputs["camera_motion"] = gr.Dropdown(choices.CAMERA, value="", label="Camera motion", elem_id="camera")
    with gr.Row():
        inputs["seed"] = gr.Number(None, label="Seed", precision=0, minimum=0, elem_id="seed")
        inputs["random_seed"] = gr.Checkbox(True, label="Random seed", info="The one used is shown with the result")
    with gr.Row():
        inputs["steps"] = gr.Slider(0, 100, value=0, step=1, label="Steps", info="0 is the model's own choice")
        inputs["guidance"] = gr.Slider(0, 20, value=0, step=0.1, label="Guidance", info="0 is the model's own choice")
    with gr.Row():
        inputs["image_guidance"] = gr.Slider(
            0, 20, value=0, step=0.1, label="Image guidance", info="0 is the model's own choice"
        )
        inputs["aesthetic_score"] = gr.Slider(
            0, 7, value=0, step=0.5, label="Aesthetic score", info="0 leaves it to the prompt"
        )
    with gr.Row():
        inputs["num_videos"] = gr.Slider(1, 4, value=1, step=1, label="Videos", info="Each with the next seed")
        inputs["loops"] = gr.Slider(1, 8, value=1, step=1, label="Loops", info="Each goes on from the last frames")
    inputs["negative_prompt"] = gr.Textbox(
        label="Negative prompt", placeholder="what should not be there", lines=1, max_length=1000, elem_id="negative"
    )
    return inputs


def _follow(
    handlers: Handlers, inputs: dict[str, gr.components.Component], values: list[gr.components.Component], cost: gr.HTML
) -> None:
    """Dependent inputs and the cost line follow every change."""
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    inputs["model"].input(
        handlers.choose_model, inputs["model"], [inputs["resolution"], inputs["aspect_ratio"]], **quiet
    )
    inputs["resolution"].change(
        handlers.choose_resolution, [inputs["resolution"], inputs["aspect_ratio"]], inputs["aspect_ratio"], **quiet
    )
    inputs["reference_image"].change(
        handlers.choose_image, [inputs["reference_image"], inputs["resolution"]], inputs["aspect_ratio"], **quiet
    )
    for name in (
        "prompt",
        "reference_image",
        "model",
        "resolution",
        "aspect_ratio",
        "length",
        "steps",
        "num_videos",
        "loops",
    ):
        inputs[name].change(handlers.preflight, values, cost, trigger_mode="always_last", **quiet)
