"""The right column: what is made, what waits, and what was made."""

from typing import Any, NamedTuple

import gradio as gr

from opensora.ui import render
from opensora.ui.events import CLICKS, LIVE
from opensora.ui.words import ENGLISH


class Screen(NamedTuple):
    """Parts of the screen."""

    html: list[Any]
    """In the order of :data:`opensora.ui.handlers.PARTS`."""
    clicked: list[Any]
    """Panels with buttons in them."""
    search: Any
    """What is looked for in the history."""


def add_screen() -> Screen:
    """Place the right column here."""
    with gr.Column(elem_classes="os-card"):
        panel = gr.HTML(render.empty(ENGLISH), elem_id="panel", js_on_load=CLICKS)
        progress = gr.HTML("", elem_id="progress", js_on_load=None)
    announcement = gr.HTML("", elem_id="announcement", js_on_load=LIVE)
    waiting = gr.HTML("", elem_id="waiting", js_on_load=CLICKS)
    search = gr.Textbox(
        label=ENGLISH("history"), placeholder=ENGLISH("history.search"), max_lines=1, elem_id="search", visible=False
    )
    history = gr.HTML("", elem_id="history", js_on_load=CLICKS)
    return Screen([panel, progress, announcement, waiting, history], [panel, waiting, history], search)
