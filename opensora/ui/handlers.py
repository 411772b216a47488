"""What happens when a person does something on the page.

No handler waits for a generation: Generate queues a job and returns, a timer polls it, and the page finds its job again
after a reload through the id kept in the browser.
"""

import logging
import secrets
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from opensora.datasets.aspect import closest_aspect_ratio
from opensora.jobs.queue import JobQueue, JobState
from opensora.models import zoo
from opensora.pipelines.preflight import estimate
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.ui import choices, render

log = logging.getLogger(__name__)

FIELDS = (
    "prompt",
    "reference_image",
    "model",
    "resolution",
    "aspect_ratio",
    "length",
    "motion_score",
    "camera_motion",
    "aesthetic_score",
    "steps",
    "guidance",
    "image_guidance",
    "negative_prompt",
    "seed",
    "random_seed",
    "num_videos",
    "loops",
)
"""Names of the inputs, in the order in which the page hands them over."""


@dataclass
class Handlers:
    """Handlers bound to one job queue."""

    queue: JobQueue

    def request(self, *values: Any) -> GenerationRequest:
        """Settings of the page -> request.

        Raises:
            RequestError: a value is missing or unusable.
        """
        fields = dict(zip(FIELDS, values, strict=True))
        random_seed = fields.pop("random_seed")
        seed = fields.pop("seed")
        if not random_seed and seed is None:
            raise RequestError("seed", "Give a seed, or tick “Random seed”.")
        motion = int(fields.pop("motion_score") or 0)
        aesthetic = fields.pop("aesthetic_score")
        return GenerationRequest(
            **{k: fields[k] for k in ("prompt", "reference_image", "model", "resolution", "aspect_ratio", "length")},
            motion_score=motion or None,
            aesthetic_score=float(aesthetic) if aesthetic else None,
            camera_motion=fields["camera_motion"] or None,
            steps=_whole(fields["steps"]),
            guidance=_number(fields["guidance"]),
            image_guidance=_number(fields["image_guidance"]),
            negative_prompt=fields["negative_prompt"] or "",
            seed=None if random_seed else _whole(seed),
            num_videos=_whole(fields["num_videos"]) or 1,
            loops=_whole(fields["loops"]) or 1,
        )

    def generate(self, browser: dict[str, Any] | None, *values: Any) -> tuple[Any, ...]:
        """Queue the job; returns browser state, panel, timer, Generate button and Cancel button."""
        browser = self.identity(browser)
        try:
            job_id = self.queue.submit(self.request(*values), browser["owner"])
        except RequestError as error:
            return browser, render.problem(str(error)), gr.skip(), gr.skip(), gr.skip()
        browser = {**browser, "job": job_id}
        view = self.queue.view(job_id, browser["owner"])
        return browser, render.job(view) if view else render.EMPTY, *_controls(running=True)

    def poll(self, browser: dict[str, Any] | None) -> tuple[Any, ...]:
        """Panel, timer, Generate button and Cancel button of the browser's present job."""
        browser = browser or {}
        view = self.queue.view(browser.get("job") or "", browser.get("owner") or "")
        if view is None:
            return render.EMPTY, *_controls(running=False)
        return render.job(view), *_controls(running=not view.state.finished)

    def open(self, browser: dict[str, Any] | None) -> tuple[Any, ...]:
        """A page was opened or reloaded: give it an identity and show its job again."""
        browser = self.identity(browser)
        return browser, *self.poll(browser)

    def cancel(self, browser: dict[str, Any] | None) -> tuple[Any, ...]:
        """Ask the present job to stop."""
        browser = browser or {}
        self.queue.cancel(browser.get("job") or "", browser.get("owner") or "")
        view = self.queue.view(browser.get("job") or "", browser.get("owner") or "")
        if view is not None and view.state is JobState.RUNNING:
            return gr.skip(), gr.skip(), gr.skip(), gr.update(value="Stopping …", interactive=False)
        return self.poll(browser)

    def preflight(self, *values: Any) -> str:
        """The cost line for the present settings."""
        try:
            return render.cost(estimate(self.request(*values).validated()))
        except RequestError as error:
            return f"<div class='os-cost'>{render.escape(str(error))}</div>" if values[0] else render.COST_HINT

    @staticmethod
    def identity(browser: dict[str, Any] | None) -> dict[str, Any]:
        """The browser's own state, with an unguessable owner id."""
        if isinstance(browser, dict) and isinstance(browser.get("owner"), str):
            return browser
        return {"owner": secrets.token_urlsafe(16), "job": None}

    @staticmethod
    def choose_model(name: str) -> tuple[Any, ...]:
        """Resolutions, aspect ratios and defaults of a model."""
        preset = zoo.PRESETS[name]
        resolution = preset.resolutions[0]
        return (
            gr.update(choices=choices.resolutions(name), value=resolution),
            gr.update(choices=choices.ratios(resolution), value="16:9"),
        )

    @staticmethod
    def choose_resolution(resolution: str, ratio: str) -> Any:
        """Aspect ratios with the pixel sizes of a resolution."""
        offered = choices.ratios(resolution)
        values = [value for _, value in offered]
        return gr.update(choices=offered, value=ratio if ratio in values else values[0])

    @staticmethod
    def choose_image(path: str | None, resolution: str) -> Any:
        """A dropped image picks the closest aspect ratio."""
        if not path:
            return gr.skip()
        try:
            with Image.open(path) as image:
                width, height = image.size
                rotated = image.getexif().get(0x0112, 1) >= 5
        except (OSError, Image.DecompressionBombError):
            return gr.skip()  # submitting it says what is wrong with the file
        width, height = (height, width) if rotated else (width, height)
        return gr.update(value=closest_aspect_ratio(width, height, resolution))


def _controls(running: bool) -> tuple[Any, ...]:
    """Timer, Generate button and Cancel button."""
    return (
        gr.Timer(active=running),
        gr.update(interactive=not running, value="Generating …" if running else "Generate"),
        gr.update(visible=running, interactive=running, value="Cancel"),
    )


def _number(value: Any) -> float | None:
    return None if value is None or value == 0 else float(value)


def _whole(value: Any) -> int | None:
    if value is None:
        return None
    if float(value) != int(value):
        raise RequestError("number", f"{value} must be a whole number.")
    return int(value)
