"""The page's functions for programs, called by name with ``gradio_client``: the jobs of the REST interface."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from gradio.components.api_component import Api


class Jobs(Protocol):
    """What makes the jobs of programs; refusals are exceptions whose text is a sentence for people."""

    @property
    def settings(self) -> Mapping[str, dict[str, Any]]:
        """Schema of every setting by name."""
        ...

    @property
    def uploads(self) -> Mapping[str, str]:
        """What each picture or clip is for that may be brought, by name."""
        ...

    def create(self, owner: str, values: Any, files: Mapping[str, Path] | None = None) -> dict[str, Any]:
        """Queue a job."""
        ...

    def get(self, owner: str, job_id: str) -> dict[str, Any]:
        """What is known of a job."""
        ...

    def result(self, owner: str, job_id: str) -> dict[str, Any]:
        """What is known of a job that is done."""
        ...

    def cancel(self, owner: str, job_id: str) -> dict[str, Any]:
        """Ask a job to stop."""
        ...


def add_named(jobs: Jobs, refusal: type[Exception]) -> None:
    """Add the functions to the page that is being built.

    Args:
        refusal: the exceptions of ``jobs`` that are told to the program; every other stays in the server's log.
    """

    def video_status(request: gr.Request, id: str) -> dict:
        """How far a video is."""
        return told(request, lambda owner: jobs.get(owner, id))

    def video_result(request: gr.Request, id: str) -> dict:
        """Addresses, hashes and settings of a video that is done."""
        return told(request, lambda owner: jobs.result(owner, id))

    def cancel_video(request: gr.Request, id: str) -> dict:
        """Stop a video that waits or runs."""
        return told(request, lambda owner: jobs.cancel(owner, id))

    def told(request: gr.Request, call: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        identity = getattr(request.request.state, "identity", None) if request.request is not None else None
        if identity is None:
            raise gr.Error("This server takes no calls of programs without an API key.", print_exception=False)
        try:
            return call(identity.owner)
        except refusal as error:
            raise gr.Error(str(error), print_exception=False) from error

    _add_generate(jobs, told)
    for function in (video_status, video_result, cancel_video):
        gr.api(function, api_name=function.__name__, concurrency_limit=8)


def _add_generate(jobs: Jobs, told: Callable[..., dict[str, Any]]) -> None:
    """``generate_video``: a parameter for every setting and every file, so that a new one needs no word here."""
    names = [*jobs.settings, *jobs.uploads]

    def generate_video(request: gr.Request, *values: Any) -> dict[str, Any]:
        """Queue a video; returns what is known of it, with its id."""
        sent = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        files = {name: Path(sent.pop(name)) for name in jobs.uploads if name in sent}
        return told(request, lambda owner: jobs.create(owner, {"prompt": "", **sent}, files))

    parameters = [inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)]
    for name in names:
        default = inspect.Parameter.empty if name == "prompt" else jobs.settings.get(name, {}).get("default")
        parameters.append(inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default))
    setattr(generate_video, "__signature__", inspect.Signature(parameters))  # noqa: B010  (gradio reads it)
    inputs: list[Any] = [Api(schema.get("default"), _kind(schema), name) for name, schema in jobs.settings.items()]
    inputs += [gr.File(label=name, visible=False) for name in jobs.uploads]
    made: dict[str, Any] = {"type": "object", "additionalProperties": {}}
    gr.Button(visible=False).click(
        generate_video,
        inputs,
        Api(None, made, "video"),
        api_name="generate_video",
        concurrency_limit=8,
        show_progress="hidden",
    )


def _kind(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The type of a value as gradio's clients read it: one, or any of several."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    items: dict[str, Any] = {"items": {}}
    plain = [{"type": kind} | (items if kind == "array" else {}) for kind in kinds]
    return plain[0] if len(plain) == 1 else {"anyOf": plain}
