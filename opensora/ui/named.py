"""The page's functions for programs, called by name with ``gradio_client``: the jobs of the REST interface."""

from collections.abc import Callable
from typing import Any, Protocol

import gradio as gr


class Jobs(Protocol):
    """What makes the jobs of programs; refusals are exceptions whose text is a sentence for people."""

    def create(self, owner: str, values: Any) -> dict[str, Any]:
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

    def generate_video(
        request: gr.Request,
        prompt: str,
        model: str | None = None,
        resolution: str | None = None,
        aspect_ratio: str | None = None,
        length: str = "2s",
        motion_score: int | None = None,
        camera_motion: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        negative_prompt: str = "",
        seed: int | None = None,
        num_videos: int = 1,
        loops: int = 1,
        priority: str = "normal",
    ) -> dict:
        """Queue a video; returns what is known of it, with its id."""
        values = {
            "prompt": prompt,
            "model": model,
            "resolution": resolution,
            "aspect_ratio": aspect_ratio,
            "length": length,
            "motion_score": motion_score,
            "camera_motion": camera_motion,
            "steps": steps,
            "guidance": guidance,
            "negative_prompt": negative_prompt,
            "seed": seed,
            "num_videos": num_videos,
            "loops": loops,
            "priority": priority,
        }
        return told(request, lambda owner: jobs.create(owner, values))

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

    for function in (generate_video, video_status, video_result, cancel_video):
        gr.api(function, api_name=function.__name__, concurrency_limit=8)
