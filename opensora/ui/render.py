"""HTML of the result panel. Every value that a person typed is escaped."""

import base64
import io
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from opensora.jobs.queue import JobState, JobView
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

EMPTY = (
    '<div class="os-card os-empty"><div class="os-frame">▷</div><p>Your clip appears here.</p>'
    "<p class='os-faint'>Write a prompt, or click an example, and press Generate.</p></div>"
)

COST_HINT = "<div class='os-cost'>Size, length and time are shown here before you generate.</div>"


def seconds(value: float) -> str:
    """A duration as people say it: ``8 s``, ``1 min 20 s``."""
    whole = round(value)
    if whole < 60:
        return f"{max(1, whole)} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole / 3600:.1f} h"


def size(count: int) -> str:
    """A number of bytes as people say it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):.1f} MB"


def cost(estimate: Cost) -> str:
    """The line under the Generate button."""
    low, high = estimate.seconds_range
    length = "still image" if estimate.frames == 1 else f"{estimate.frames} frames, {estimate.seconds_of_video:.1f} s"
    parts = [
        f"{estimate.width} × {estimate.height}",
        length,
        f"about {seconds(low)} – {seconds(high)}" if high - low >= 1 else f"about {seconds(estimate.seconds)}",
        f"{size(estimate.bytes_memory)} memory",
    ]
    if estimate.download_bytes:
        parts.append(f"{size(estimate.download_bytes)} to download first")
    notes = "".join(f"<p class='os-note'>{escape(note)}</p>" for note in estimate.notes)
    return f"<div class='os-cost' aria-live='polite'>{' · '.join(parts)}</div>{notes}"


def problem(message: str) -> str:
    """An error as a sentence that says what to do."""
    text = f"<strong>This did not work.</strong><p>{escape(message)}</p>"
    return f"<div class='os-card os-problem' role='alert'>{text}</div>"


def job(view: JobView) -> str:
    """The whole result panel of a job."""
    if view.state is JobState.QUEUED:
        ahead = "It is next." if view.position == 0 else f"{view.position} ahead of it."
        return (
            f"<div class='os-card' role='status'><p class='os-stage'>Waiting</p><p class='os-faint'>{ahead}</p></div>"
        )
    if view.state is JobState.CANCELLED:
        text = "<p class='os-stage'>Cancelled.</p><p class='os-faint'>Nothing was saved.</p>"
        return f"<div class='os-card' role='status'>{text}</div>"
    if view.state is JobState.FAILED:
        return problem(view.error or "Unknown error.")
    return running(view) if view.state is JobState.RUNNING else done(view)


def running(view: JobView) -> str:
    """Stage, step, bar, seconds left and the forming frames."""
    share = view.step / view.total if view.total else 0.0
    left = f"{seconds(view.seconds_left)} left" if view.seconds_left is not None else "measuring …"
    step = f"step {view.step} of {view.total}" if view.total else ""
    picture = (
        f"<img class='os-preview' alt='Preview of the forming frames' src='{preview_uri(view.preview)}'>"
        if view.preview is not None
        else "<div class='os-frame os-pulse'></div>"
    )
    return (
        f"<div class='os-card' role='status'>{picture}"
        f"<div class='os-row'><span class='os-stage'>{STAGES.get(view.stage, escape(view.stage))}</span>"
        f"<span class='os-faint'>{step}</span><span class='os-faint os-right'>{left}</span></div>"
        f"<div class='os-bar' role='progressbar' aria-label='Progress' aria-valuemin='0' aria-valuemax='100' "
        f"aria-valuenow='{round(100 * share)}'><i style='width:{100 * share:.1f}%'></i></div></div>"
    )


def done(view: JobView) -> str:
    """Player, download links and what was really used."""
    settings = view.settings or {}
    media = "".join(player(view.id, file) for file in view.files)
    facts = [
        ("Seed", settings.get("seed")),
        ("Size", f"{settings.get('width')} × {settings.get('height')}"),
        (
            "Frames",
            f"{settings.get('num_frames')} at {settings.get('fps'):g} per second" if settings.get("fps") else None,
        ),
        ("Took", seconds(view.seconds or 0)),
        ("Model", settings.get("model")),
    ]
    rows = "".join(
        f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts if value is not None
    )
    notes = "".join(f"<p class='os-note'>{escape(note)}</p>" for note in view.notes)
    text = f"<p class='os-prompt'>{escape(view.request.prompt)}</p><dl class='os-facts'>{rows}</dl>{notes}"
    return f"<div class='os-card os-done'>{media}{text}</div>"


def player(job_id: str, file: Path) -> str:
    """A video or picture with its download link."""
    url = f"files/{job_id}/{file.name}"
    weight = size(file.stat().st_size) if file.exists() else ""
    if file.suffix == ".png":
        media = f"<img class='os-media' src='{url}' alt='Generated image'>"
    else:
        media = f"<video class='os-media' src='{url}' controls loop autoplay muted playsinline></video>"
    kind = "PNG" if file.suffix == ".png" else "MP4"
    return f"{media}<a class='os-download' href='{url}' download='opensora-{file.name}'>Download {kind} · {weight}</a>"


def preview_uri(preview: np.ndarray, height: int = 216) -> str:
    """Preview frames, uint8 (H, W, 3) or (T, H, W, 3), as an (animated) WebP data URI."""
    frames = preview[None] if preview.ndim == 3 else preview
    scale = height / frames.shape[1]
    pictures = [
        Image.fromarray(f).resize((round(f.shape[1] * scale), height), Image.Resampling.BICUBIC) for f in frames
    ]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "WEBP", quality=60, method=0, save_all=True, append_images=pictures[1:], duration=120, loop=0
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
