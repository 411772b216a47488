"""Which files the page's functions may be given: those that were uploaded, and no others.

A program can send any path or address in place of an upload. Gradio checks that only in pages that it started itself,
and copies what is named in any value of any component into its folder of uploads, where it is served. Ours is mounted
into a larger application, so we check every value before gradio sees it.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from gradio.exceptions import InvalidPathError
from gradio.utils import get_upload_folder

TAKES_FILES = (gr.Image, gr.Video, gr.File, gr.UploadButton)
"""Components whose value is a file."""


def only_uploads(page: gr.Blocks) -> None:
    """Let every call of the page's functions be checked first."""
    call = page.process_api

    async def checked(block_fn: Any, inputs: list[Any], *more: Any, **named: Any) -> dict[str, Any]:
        function = page.fns[block_fn] if isinstance(block_fn, int) else block_fn
        check(function.inputs, inputs)
        return await call(block_fn, inputs, *more, **named)

    setattr(page, "process_api", checked)  # noqa: B010  # of this page alone; a plain assignment is no method to mypy
    page.has_launched = True  # gradio's own checks too


def check(components: Sequence[Any], values: Any) -> None:
    """Refuse values that name a file which was not uploaded.

    Args:
        components: the inputs of a function.
        values: what was sent for them.

    Raises:
        InvalidPathError: there is one.
    """
    folder = os.path.realpath(get_upload_folder())
    for place, value in enumerate(values if isinstance(values, list) else [values]):
        component = components[place] if place < len(components) else None
        for path in named_files(value):
            inside = os.path.realpath(path).startswith(folder + os.sep) if "\0" not in path else False
            if not (inside and isinstance(component, TAKES_FILES)):
                raise InvalidPathError("A file is given that was not uploaded here; choose the file again.")


def named_files(value: Any) -> Iterator[str]:
    """Paths of everything inside a value that gradio could take for a file."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            if isinstance(inner.get("path"), str):
                yield inner["path"]
            waiting.extend(inner.values())
        elif isinstance(inner, list | tuple):
            waiting.extend(inner)
