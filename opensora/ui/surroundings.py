"""What the page says of the place where it runs, below everything else."""

import html
from dataclasses import dataclass

import gradio as gr


@dataclass(frozen=True)
class Surroundings:
    """Where the page runs, as far as visitors have to know."""

    notice: str = ""
    """A sentence, such as that clips are gone after a restart."""
    duplicate: bool = False
    """Whether there is a button by which visitors get a Hugging Face Space of their own."""


NOTHING = Surroundings()


def add_surroundings(surroundings: Surroundings) -> None:
    """Add the notice and the button to the page that is being built."""
    if not surroundings.notice and not surroundings.duplicate:
        return
    with gr.Row(elem_classes="os-left", elem_id="surroundings"):
        if surroundings.notice:
            gr.HTML(f"<p>{html.escape(surroundings.notice)}</p>", js_on_load=None)
        if surroundings.duplicate:
            gr.DuplicateButton("Duplicate this Space", elem_id="duplicate")
