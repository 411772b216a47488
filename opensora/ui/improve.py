"""A button under the prompt that has a language model write it anew, and the way back."""

import html
from typing import Any

import gradio as gr

from opensora.pipelines.refine import configured, improved
from opensora.ui import render

DONE = "Written anew by a language model. Change what you like, or undo it."


def add_improve(prompt: gr.Textbox, quiet: dict[str, Any]) -> None:
    """Place the buttons here and connect them; nothing where no language model is set up.

    Args:
        prompt: what is replaced.
        quiet: settings of every event of the page.
    """
    if not configured():
        return
    before = gr.State("")
    with gr.Row(elem_classes="os-improve"):
        button = gr.Button("Improve prompt", size="sm", elem_id="improve", scale=0, min_width=140)
        undo = gr.Button("Undo", size="sm", elem_id="improve-undo", scale=0, min_width=80, visible=False)
    note = gr.HTML("", elem_id="improved", js_on_load=None)
    asked = button.click(wait, None, [prompt, button, undo, note], **quiet)
    answered = asked.then(improve, prompt, [prompt, before, undo, note], **quiet)
    answered.then(ready, None, [prompt, button], **quiet)
    undo.click(take_back, before, [prompt, undo, note], **quiet)


def wait() -> tuple[Any, ...]:
    """While the model writes: the prompt and the button are locked, and what was said of the last time is gone."""
    locked = gr.update(interactive=False)
    return locked, gr.update(value="Improving …", interactive=False), gr.update(visible=False), ""


def improve(prompt: str | None) -> tuple[Any, ...]:
    """The prompt, the one before, whether there is a way back, and a note; the prompt is untouched if it fails."""
    refined = improved(prompt or "")
    if refined.problem:
        return gr.skip(), gr.skip(), gr.update(visible=False), render.problem(refined.problem, "It was not improved.")
    return refined.text, prompt, gr.update(visible=True), f"<p class='os-faint'>{html.escape(DONE)}</p>"


def ready() -> tuple[Any, ...]:
    """The prompt can be changed, and the button pressed again, however the last press ended."""
    return gr.update(interactive=True), gr.update(value="Improve prompt", interactive=True)


def take_back(before: str) -> tuple[Any, ...]:
    """The prompt as it was, without a way back and a note."""
    return before, gr.update(visible=False), ""
