"""A button under the prompt that has a language model write it anew, what that changed, and the way back."""

import difflib
import html
from typing import Any, NamedTuple

import gradio as gr

from opensora.pipelines.refine import configured, improved
from opensora.ui.browser import Browser, words_of
from opensora.ui.labels import Labels
from opensora.ui.said import problem
from opensora.ui.words import ENGLISH, Words


class Improve(NamedTuple):
    """The parts."""

    button: gr.Button
    undo: gr.Button
    note: gr.HTML


def add_improve(labels: Labels) -> Improve | None:
    """Place the buttons here; nothing where no language model is set up."""
    if not configured():
        return None
    button = gr.Button(
        ENGLISH("improve"), size="sm", elem_id="improve", scale=0, min_width=140, elem_classes="os-quiet"
    )
    labels.remember(button, {"value": "improve"})
    undo = labels.make(
        gr.Button,
        {"value": "improve.undo"},
        size="sm",
        elem_id="improve-undo",
        scale=0,
        min_width=80,
        visible=False,
        elem_classes="os-quiet",
    )
    return Improve(button, undo, gr.HTML("", elem_id="improved", js_on_load=None))


def connect(parts: Improve, browser: Any, prompt: Any, quiet: dict[str, Any]) -> None:
    """Let the buttons act.

    Args:
        prompt: what is replaced.
        quiet: settings of every event of the page.
    """
    button: Any = parts.button
    undo: Any = parts.undo
    before = gr.State("")
    asked = button.click(wait, browser, [prompt, button, undo, parts.note], **quiet)
    answered = asked.then(improve, [browser, prompt], [prompt, before, undo, parts.note], **quiet)
    answered.then(ready, browser, [prompt, button], **quiet)
    undo.click(take_back, before, [prompt, undo, parts.note], **quiet)


def wait(browser: Browser | None) -> tuple[Any, ...]:
    """While the model writes: the prompt and the button are locked, and what was said of the last time is gone."""
    locked = gr.update(interactive=False)
    busy = gr.update(value=words_of(browser)("improve.busy"), interactive=False)
    return locked, busy, gr.update(visible=False), ""


def improve(browser: Browser | None, prompt: str | None) -> tuple[Any, ...]:
    """The prompt, the one before, whether there is a way back, and a note; the prompt is untouched if it fails."""
    w, refined = words_of(browser), improved(prompt or "")
    if refined.problem:
        return gr.skip(), gr.skip(), gr.update(visible=False), problem(w, refined.problem, "improve.failed")
    note = f"<p class='os-faint'>{html.escape(w('improve.done'))}</p>{difference(w, prompt or '', refined.text)}"
    return refined.text, prompt, gr.update(visible=True), note


def difference(w: Words, before: str, after: str) -> str:
    """Words that went and words that came."""
    old, new = before.split(), after.split()
    parts: list[str] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        gone, come = html.escape(" ".join(old[a:b])), html.escape(" ".join(new[c:d]))
        if kind == "equal":
            parts.append(come)
            continue
        parts += [f"<del>{gone}</del>"] if gone else []
        parts += [f"<ins>{come}</ins>"] if come else []
    return f"<p class='os-difference' dir='auto' aria-label='{w('improve.difference')}'>{' '.join(parts)}</p>"


def ready(browser: Browser | None) -> tuple[Any, ...]:
    """The prompt can be changed, and the button pressed again, however the last press ended."""
    return gr.update(interactive=True), gr.update(value=words_of(browser)("improve"), interactive=True)


def take_back(before: str) -> tuple[Any, ...]:
    """The prompt as it was, without a way back and a note."""
    return before, gr.update(visible=False), ""
