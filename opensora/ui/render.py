"""HTML of the page's panels. Every value that a person typed is escaped."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from opensora.jobs.queue import JobState, JobView
from opensora.ui import picture

if TYPE_CHECKING:  # it loads torch, which the page does without until somebody generates
    from opensora.pipelines.preflight import Cost

STAGES = {
    "starting": "Getting ready",
    "loading": "Loading the model",
    "text": "Reading the prompt",
    "reference": "Encoding the image",
    "sampling": "Forming the frames",
    "decoding": "Decoding the pixels",
    "saving": "Writing the file",
}
STATES = {
    JobState.QUEUED: "Waiting",
    JobState.RUNNING: "Running",
    JobState.DONE: "",
    JobState.FAILED: "Failed",
    JobState.CANCELLED: "Cancelled",
}

UNITS = ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"), (math.inf, 86_400, "days"))
"""Below how many seconds a duration is said in which unit."""

COST_HINT = "<p class='os-faint'>Size, length and time are shown here before you generate.</p>"


def seconds(value: float) -> str:
    """A duration as people say it: ``8 s``, ``1 min 20 s``."""
    whole = round(value)
    if whole < 60:
        return f"{max(1, whole)} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole / 3600:.1f} h"


def size(count: int) -> str:
    """A number of bytes as people say it."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    if count >= 1e6:
        return f"{count / 1e6:.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"
    return f"{max(1, round(count / 1e3))} kB"


def span(low: float, high: float) -> str:
    """A range of durations, rounded away from the middle; one number when both ends read the same."""
    unit, name = next((unit, name) for below, unit, name in UNITS if high < below)
    ends = max(1, math.floor(low / unit)), max(1, math.ceil(high / unit))
    return f"{ends[0]} {name}" if ends[0] == ends[1] else f"{ends[0]} – {ends[1]} {name}"


def length(frames: int, duration: float) -> str:
    """Seconds and frames of a clip: ``2 s, 49 frames``."""
    return "1 frame" if frames == 1 else f"{f'{duration:.1f}'.removesuffix('.0')} s, {frames} frames"


def cost(estimate: "Cost") -> str:
    """What a click on Generate will take."""
    facts = [
        ("Size", f"{estimate.width} × {estimate.height}"),
        ("Length", length(estimate.frames, estimate.seconds_of_video)),
        ("Takes about", span(*estimate.seconds_range)),
        ("Memory", size(estimate.bytes_memory)),
    ]
    if estimate.download_bytes:
        facts.append(("To download", size(estimate.download_bytes)))
    return _facts(facts, "os-cost") + "".join(f"<p class='os-note'>{escape(note)}</p>" for note in estimate.notes)


def problem(message: str, title: str = "This did not work.") -> str:
    """An error as a sentence that says what to do."""
    return f"<div class='os-problem' role='alert'><strong>{escape(title)}</strong><p>{escape(message)}</p></div>"


def empty(notice: str = "") -> str:
    """The panel before the first clip; a notice says why there cannot be one."""
    if notice:
        return problem(notice, "Nothing can be generated yet.")
    return (
        "<div class='os-empty'><div class='os-screen'><svg viewBox='0 0 24 24' width='44' aria-hidden='true'>"
        "<rect x='2.5' y='4.5' width='19' height='15' rx='3' fill='none' stroke='currentColor'/>"
        "<path d='M10 9v6l5-3z' fill='currentColor'/></svg><p>Your clip appears here</p>"
        "<p class='os-faint'>Write a prompt and press Generate, or click an example below.</p></div></div>"
    )


def panel(view: JobView) -> str:
    """The large part of a job: what there is to look at."""
    if view.state is JobState.FAILED:
        return problem(view.error or "Unknown error.") + _prompt(view)
    if view.state is JobState.DONE:
        return done(view)
    return f"{_forming(view)}{_prompt(view)}"


def progress(view: JobView) -> str:
    """Stage, step, seconds left and the bar of an unfinished job; nothing for a finished one."""
    if view.state is JobState.QUEUED:
        ahead = (
            "it is next"
            if view.position == 0
            else f"{view.position} {'job is' if view.position == 1 else 'jobs are'} in front of it"
        )
        return f"<div class='os-row'><span class='os-stage'>Waiting</span><span class='os-faint'>{ahead}</span></div>"
    if view.state is not JobState.RUNNING:
        return ""
    stage = "Stopping" if view.stopping else stage_name(view)
    remaining = view.seconds_left_now
    left = "" if remaining is None or view.stopping else f"about {seconds(remaining)} left"
    step = f"step {view.step} of {view.total}" if view.total else ""
    share = view.step / view.total if view.total else 0.0
    bar = f"<i style='width:{100 * share:.1f}%'></i>" if view.total else "<i class='os-sweep'></i>"
    value = f" aria-valuenow='{round(100 * share)}'" if view.total else ""
    return (
        f"<div class='os-row'><span class='os-stage'>{escape(stage)}</span><span class='os-faint'>{step}</span>"
        f"<span class='os-faint os-right'>{left}</span></div>"
        f"<div class='os-bar' role='progressbar' aria-label='{escape(stage)}' aria-valuemin='0' aria-valuemax='100'"
        f"{value}>{bar}</div>"
    )


def stage_name(view: JobView) -> str:
    """What the present stage is called."""
    return STAGES.get(view.stage, view.stage.capitalize())


def announcement(view: JobView | None) -> str:
    """What a screen reader is told when it changes: the stage, not every step."""
    if view is None:
        return ""
    if view.state is JobState.RUNNING:
        return "Stopping" if view.stopping else stage_name(view)
    return {
        JobState.QUEUED: "Waiting in the queue",
        JobState.DONE: "The clip is ready",
        JobState.FAILED: "Generating failed",
        JobState.CANCELLED: "Cancelled, nothing was saved",
    }[view.state]


def done(view: JobView) -> str:
    """Player, download links and what was really used."""
    settings = view.settings or {}
    shape = (settings.get("width", 16), settings.get("height", 9))
    media = "".join(player(view.id, file, shape) for file in view.files)
    links = "".join(download(view.id, file) for file in view.files)
    frames, fps = settings.get("num_frames", 1), settings.get("fps", 24)
    facts = [
        ("Seed", settings.get("seed")),
        ("Size", f"{shape[0]} × {shape[1]}"),
        ("Length", length(frames, frames / fps)),
        ("Took", seconds(view.seconds or 0)),
        ("Steps", settings.get("steps")),
        ("Model", settings.get("model")),
    ]
    notes = "".join(f"<p class='os-note'>{escape(note)}</p>" for note in view.notes)
    again = f"<button type='button' class='os-button' data-reuse='{view.id}'>Use these settings</button>"
    return f"{media}{_prompt(view)}{_facts(facts, 'os-facts')}{notes}<div class='os-row'>{links}{again}</div>"


def player(job_id: str, file: Path, shape: tuple[int, int]) -> str:
    """A video or picture."""
    url = f"files/{job_id}/{file.name}"
    if file.suffix == ".png":
        return _screen(f"<img src='{url}' alt='Generated image'>", shape)
    still = f"posters/{job_id}/{file.name}"
    return _screen(f"<video src='{url}' poster='{still}' controls loop autoplay muted playsinline></video>", shape)


def download(job_id: str, file: Path) -> str:
    """A link that saves a file."""
    weight = f" · {size(file.stat().st_size)}" if file.exists() else ""
    text = f"Download {file.suffix[1:].upper()}{weight}"
    return f"<a class='os-button' href='files/{job_id}/{file.name}' download='opensora-{file.name}'>{text}</a>"


def recent(views: list[JobView], shown: str | None, most: int = 12) -> str:
    """The strip of this browser's jobs, newest first."""
    if not views or (len(views) == 1 and views[0].id == shown):
        return ""
    return (
        f"<h2 class='os-label'>Recent</h2><div class='os-strip'>{''.join(_tile(v, shown) for v in views[:most])}</div>"
    )


def crop(image: Image.Image, width: int, height: int, ratio: str) -> str:
    """The image that a clip starts from, with what is cut off in the dark."""
    left, top, right, bottom = picture.crop_box(image.size, width, height)
    used = (right - left) * (bottom - top) / (image.width * image.height)
    share = "The whole image is used" if used > 0.995 else f"The bright part is used, {100 * used:.0f} % of the image"
    return (
        f"<div class='os-crop'><img src='{picture.data_uri(picture.shaded(image, width, height))}' "
        f"alt='The image with the part that is used'><p class='os-faint'><strong>First frame, {escape(ratio)}</strong>"
        f"{share}, scaled to {width} × {height}. Another aspect ratio changes the crop.</p></div>"
    )


def machine(name: str, gpu: bool) -> str:
    """What this server computes on."""
    note = "" if gpu else " · no GPU, the bundled model does not need one"
    return f"<span class='os-chip'>{escape(name)}{note}</span>"


def _tile(view: JobView, shown: str | None) -> str:
    prompt = escape(view.request.prompt[:120], quote=True)
    label = STATES[view.state]
    inside = f"<span>{label}</span>"
    if view.state is JobState.DONE and view.files:
        inside = f"<img src='posters/{view.id}/{view.files[0].name}' alt='' loading='lazy'>"
    current = " aria-current='true'" if view.id == shown else ""
    return (
        f"<button type='button' class='os-tile' data-job='{view.id}' title='{prompt}'{current} "
        f"aria-label='{label or 'Finished'}: {prompt}'>{inside}</button>"
    )


def _forming(view: JobView) -> str:
    height, width = view.request.size() if view.request.resolution else (9, 16)
    if view.preview is not None:
        media = f"<img src='{picture.animation_uri(view.preview)}' alt='Preview of the forming frames'>"
    elif view.state is JobState.CANCELLED:
        media = "<p class='os-faint'>Cancelled. Nothing was saved.</p>"
    else:
        media = "<div class='os-pulse'></div>"
    return _screen(media, (width, height))


def _screen(media: str, shape: tuple[int, int]) -> str:
    """A box with the clip's own shape, so that nothing jumps when the preview becomes the clip."""
    return f"<div class='os-screen' style='aspect-ratio:{shape[0]}/{shape[1]}'>{media}</div>"


def _prompt(view: JobView) -> str:
    return f"<p class='os-prompt' dir='auto' tabindex='0'>{escape(view.request.prompt)}</p>"


def _facts(facts: Sequence[tuple[str, object]], kind: str) -> str:
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts if value is not None
    )
    return f"<dl class='{kind}'>{rows}</dl>"
