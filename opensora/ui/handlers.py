"""What happens when a person does something on the page.

No handler waits for a generation: Generate queues a job and returns, a timer polls it, and the page finds its jobs
again after a reload through the id kept in the browser. Torch is loaded by the first handler that needs it.
"""

import logging
import secrets
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from opensora.datasets.aspect import closest_aspect_ratio, pixel_size
from opensora.datasets.image_io import load_image
from opensora.jobs.queue import JobQueue, JobView
from opensora.models import zoo
from opensora.pipelines.image_first import bundles
from opensora.pipelines.request import GenerationRequest, RequestError, require_weights
from opensora.ui import choices, render
from opensora.ui.picture import clip_file

log = logging.getLogger(__name__)

FIELDS = (
    "prompt",
    "reference_image",
    "last_image",
    "reference_video",
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
    "num_videos",
    "loops",
    "picture_model",
)
"""Names of the inputs, in the order in which the page hands them over."""

FOLLOWING = (
    "resolution",
    "aspect_ratio",
    "steps",
    "guidance",
    "image_guidance",
    "length",
    "camera_motion",
    "aesthetic_score",
    "loops",
    "last_image",
    "reference_video",
    "picture_model",
)
"""Inputs that follow the model."""

SOMETHING = "a clip"
"""Stands for an empty prompt when only the cost is asked."""

Browser = dict[str, Any]
"""What the browser keeps: ``owner``, an unguessable id, and ``job``, the id of the job that is shown."""


@dataclass
class Handlers:
    """Handlers bound to one job queue."""

    queue: JobQueue

    def request(self, *values: Any) -> GenerationRequest:
        """Settings of the page -> request.

        Raises:
            RequestError: a value is no number where it has to be one.
        """
        fields = dict(zip(FIELDS, values, strict=True))
        motion, aesthetic = fields["motion_score"], fields["aesthetic_score"]
        return GenerationRequest(
            prompt=fields["prompt"] or "",
            **{k: fields[k] for k in ("reference_image", "last_image", "reference_video")},
            **{k: fields[k] for k in ("model", "resolution", "aspect_ratio", "length")},
            motion_score=int(motion) if motion else None,
            aesthetic_score=float(aesthetic) if aesthetic else None,
            camera_motion=fields["camera_motion"] or None,
            picture_model=fields["picture_model"] or None,
            steps=whole("steps", fields["steps"]),
            guidance=fields["guidance"],
            image_guidance=fields["image_guidance"],
            negative_prompt=fields["negative_prompt"] or "",
            seed=whole("seed", fields["seed"]),
            num_videos=whole("videos", fields["num_videos"]) or 1,
            loops=whole("loops", fields["loops"]) or 1,
        )

    def generate(self, browser: Browser | None, shown: dict[str, str], *values: Any) -> tuple[Any, ...]:
        """Queue a job; returns the browser's state, why it was refused, and the screen.

        When a request cannot be served nothing else changes. While a job runs, the panel stays with it and the new one
        waits in the strip.
        """
        browser = identity(browser)
        try:
            request = self.request(*values).validated()
            for bundle in bundles(request):
                require_weights(bundle)
            job_id = self.queue.submit(request, browser["owner"])
        except RequestError as error:
            return browser, render.problem(str(error)), *(gr.skip() for _ in range(SCREEN))
        present = self.view(browser)
        if present is None or present.state.finished:
            browser = {**browser, "job": job_id}
        return browser, "", *self.poll(browser, shown)

    def poll(self, browser: Browser | None, shown: dict[str, str]) -> tuple[Any, ...]:
        """The screen: what is shown, panel, progress, announcement, recent jobs, timer and both buttons.

        Args:
            shown: what the page shows already; a part that would not change is left alone, so that a playing video or
                preview is not started again.
        """
        view = self.view(browser)
        jobs = self.queue.jobs((browser or {}).get("owner") or "")
        busy = any(not job.state.finished for job in jobs)
        present = view is not None and not view.state.finished
        new = {
            "panel": "" if view is None else f"{view.id} {view.state} {view.preview_number}",
            "progress": "" if view is None else render.progress(view),
            "announcement": render.announcement(view),
            "recent": render.recent(jobs, None if view is None else view.id),
            "controls": f"{busy} {present} {view is not None and view.stopping}",
        }
        parts: list[Any] = [gr.skip()] * 4
        if new["panel"] != shown.get("panel"):
            parts[0] = render.empty(nothing_here()) if view is None else render.panel(view)
        for place, name in enumerate(("progress", "announcement", "recent"), start=1):
            if new[name] != shown.get(name):
                parts[place] = new[name]
        if new["controls"] == shown.get("controls"):
            return new, *parts, *(gr.skip() for _ in range(3))
        return new, *parts, *_controls(busy, present, stopping=view is not None and view.stopping)

    def open(self, browser: Browser | None) -> tuple[Any, ...]:
        """A page was opened or reloaded: give it an identity, show its jobs again, and list the models anew."""
        browser = identity(browser)
        return browser, gr.update(choices=choices.models()), *self.poll(browser, {})

    def show(self, browser: Browser | None, shown: dict[str, str], event: gr.EventData) -> tuple[Any, ...]:
        """A job in the strip was clicked: show it."""
        browser = {**identity(browser), "job": str(event.job)}
        return browser, *self.poll(browser, shown)

    def cancel(self, browser: Browser | None, shown: dict[str, str]) -> tuple[Any, ...]:
        """Ask the job that is shown to stop."""
        browser = identity(browser)
        self.queue.cancel(browser.get("job") or "", browser["owner"])
        return self.poll(browser, shown)

    def reuse(self, browser: Browser | None, event: gr.EventData) -> list[Any]:
        """All inputs as they were for a job, with the seed that was used."""
        view = self.queue.view(str(event.reuse), (browser or {}).get("owner") or "")
        if view is None:
            return [gr.skip()] * len(FIELDS)
        values: dict[str, Any] = {name: getattr(view.request, name) for name in FIELDS}
        for name in ("motion_score", "aesthetic_score"):
            values[name] = "" if values[name] is None else f"{values[name]:g}"
        for name in ("camera_motion", "picture_model"):
            values[name] = values[name] or ""
        values["seed"] = str((view.settings or {}).get("seed", ""))
        following = of_model(values["model"])
        following["aspect_ratio"]["choices"] = choices.ratios(values["resolution"])
        offered = following["length"]["choices"]
        if values["length"] not in [value for _, value in offered]:
            following["length"]["choices"] = [*offered, (str(values["length"]), values["length"])]
        if values["reference_video"] is not None:
            values["reference_video"] = clip_file(values["reference_video"])
        for name, update in following.items():
            values[name] = gr.update(**{**update, "value": values[name]})
        return [values[name] for name in FIELDS]

    def preflight(self, *values: Any) -> str:
        """The cost of the present settings, or why they cannot be used."""
        from opensora.pipelines.preflight import estimate

        try:
            filled = (values[0] if (values[0] or "").strip() else SOMETHING, *values[1:])
            return render.cost(estimate(self.request(*filled)))
        except RequestError as error:
            return render.problem(str(error), "These settings cannot be used.")

    def view(self, browser: Browser | None) -> JobView | None:
        """The job that a browser shows, if it is its own and still known."""
        browser = browser or {}
        return self.queue.view(browser.get("job") or "", browser.get("owner") or "")


SCREEN = 8
"""Number of outputs of :meth:`Handlers.poll`."""


def identity(browser: Browser | None) -> Browser:
    """The browser's own state, with an unguessable owner id."""
    if isinstance(browser, dict) and isinstance(browser.get("owner"), str):
        return browser
    return {"owner": secrets.token_urlsafe(16), "job": None}


def nothing_here() -> str:
    """Why nothing can be generated on this machine; empty when some model is here."""
    presets = list(zoo.PRESETS.values())
    if any(zoo.status(preset).installed for preset in presets):
        return ""
    return f"No model is on this machine. {presets[0].title}: {zoo.how_to_get(presets[0])}"


def choose_model(name: str) -> list[Any]:
    """The inputs of :data:`FOLLOWING` for a model: its choices and its own numbers; what it cannot be asked for is
    emptied and hidden."""
    return [gr.update(**update) for update in of_model(name).values()]


def of_model(name: str) -> dict[str, dict[str, Any]]:
    """What changes in each input of :data:`FOLLOWING`."""
    resolution = zoo.PRESETS[name].resolutions[0]
    own, offer = choices.defaults(name), choices.offer(name)
    updates: dict[str, dict[str, Any]] = {
        "resolution": {"choices": choices.resolutions(name), "value": resolution},
        "aspect_ratio": {"choices": choices.ratios(resolution), "value": "16:9"},
        "steps": {"value": own.steps},
        "guidance": {"value": own.guidance},
        "image_guidance": {"value": own.image_guidance},
        "length": {"choices": offer.lengths, "value": offer.length},
    }
    shown = (
        ("camera_motion", offer.camera, ""),
        ("aesthetic_score", offer.aesthetic, ""),
        ("loops", offer.loops, 1),
        ("last_image", offer.last_image, None),
        ("reference_video", offer.video, None),
        ("picture_model", offer.picture, ""),
    )
    for field, is_offered, nothing in shown:
        updates[field] = {"visible": is_offered} | ({} if is_offered else {"value": nothing})
    assert tuple(updates) == FOLLOWING
    return updates


def choose_resolution(resolution: str, ratio: str) -> Any:
    """Aspect ratios with the pixel sizes of a resolution."""
    offered = choices.ratios(resolution)
    values = [value for _, value in offered]
    return gr.update(choices=offered, value=ratio if ratio in values else values[0])


def choose_image(path: str | None, resolution: str) -> tuple[Any, str]:
    """A dropped image picks the closest aspect ratio; returns it and the picture of the crop, or what is wrong."""
    try:
        image = _read(path)
    except ValueError as error:
        return gr.skip(), render.problem(str(error), "This image cannot be used.")
    if image is None:
        return gr.skip(), ""
    ratio = closest_aspect_ratio(image.width, image.height, resolution)
    return gr.update(value=ratio), _crop(image, resolution, ratio)


def show_crop(path: str | None, resolution: str, ratio: str) -> str:
    """The picture of the crop for another aspect ratio or resolution."""
    try:
        image = _read(path)
    except ValueError as error:
        return render.problem(str(error), "This image cannot be used.")
    return "" if image is None else _crop(image, resolution, ratio)


def machine() -> str:
    """What this server computes on."""
    from opensora.pipelines.plan import choose_device, device_name

    device = choose_device(None)
    return render.machine(device_name(device), gpu=device.type != "cpu")


def whole(name: str, value: Any) -> int | None:
    """A whole number that was typed or chosen; ``None`` where nothing was.

    Raises:
        RequestError: it is no whole number.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = int(value) if isinstance(value, str) else value
        if number != int(number):
            raise ValueError
    except (ValueError, OverflowError, TypeError):
        empty = "; leave it empty for a random one." if name == "seed" else "."
        shown = value[:40] if isinstance(value, str) else type(value).__name__
        raise RequestError(name, f"Got the {name} {shown}; expected a whole number{empty}") from None
    return int(number)


def _read(path: str | None) -> Image.Image | None:
    return load_image(path) if path else None


def _crop(image: Image.Image, resolution: str, ratio: str) -> str:
    height, width = pixel_size(resolution, ratio)
    return render.crop(image, width, height, ratio)


def _controls(busy: bool, present: bool, stopping: bool) -> tuple[Any, ...]:
    """Timer, Generate button and Cancel button.

    Args:
        busy: some job of this browser is unfinished.
        present: the one that is shown is.
        stopping: it was asked to stop.
    """
    return (
        gr.Timer(active=busy),
        gr.update(value="Add to queue" if busy else "Generate"),
        gr.update(visible=present, interactive=not stopping, value="Stopping …" if stopping else "Cancel"),
    )
