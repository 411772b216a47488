"""What the page says of the place where it runs, below everything else."""

from dataclasses import dataclass

import gradio as gr

from opensora.ui.labels import Labels


@dataclass(frozen=True)
class Surroundings:
    """Where the page runs, as far as visitors have to know."""

    notice: str = ""
    """A sentence of :mod:`opensora.sentences`, such as that clips are gone after a restart."""
    duplicate: bool = False
    """Whether there is a button by which visitors get a Hugging Face Space of their own."""


NOTHING = Surroundings()


def add_surroundings(labels: Labels, surroundings: Surroundings) -> None:
    """Add the notice and the button to the page that is being built."""
    if not surroundings.notice and not surroundings.duplicate:
        return
    with gr.Row(elem_classes="os-left", elem_id="surroundings"):
        if surroundings.notice:
            labels.make(gr.HTML, {"value": surroundings.notice}, js_on_load=None)
        if surroundings.duplicate:
            labels.make(gr.DuplicateButton, {"value": "duplicate"}, elem_id="duplicate")
