"""HTML of the page's large panel: a job in every state. Every value that a person typed is escaped."""

import dataclasses
import time
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from opensora.jobs.queue import JobState, JobView
from opensora.pipelines.result import role_of
from opensora.ui import again, picture, said
from opensora.ui.said import button, facts, problem, seconds
from opensora.ui.words import Words

FORMS = {"gif": "GIF", "webm": "WebM", "zip": "ZIP"}
"""Forms in which a clip can be saved besides its own, see :mod:`opensora.pipelines.export`, and their names."""

if TYPE_CHECKING:  # it loads torch, which the page does without until somebody generates
    from opensora.pipelines.preflight import Cost
    from opensora.pipelines.verdict import Preflight


def cost_hint(w: Words) -> str:
    """What stands where the cost will be."""
    return f"<p class='os-faint'>{escape(w('cost.hint'))}</p>"


def verdict(w: Words, found: "Preflight") -> str:
    """What a click on Generate will take, and whether this machine can do it."""
    colour = f"<span class='os-light os-{found.colour}'></span>{w(f'verdict.{found.colour}')}"
    fit = button(w("do.fit"), "os-button os-small", act="fit", fill="1") if found.colour == "red" else ""
    reasons = "".join(f"<p class='os-note'>{escape(w.tell(reason))}</p>" for reason in found.reasons)
    head = "" if found.colour == "green" else f"<div class='os-row os-verdict'><strong>{colour}</strong>{fit}</div>"
    return cost(w, dataclasses.replace(found.cost, notes=found.notes)) + head + reasons


def cost(w: Words, estimate: "Cost") -> str:
    """What a click on Generate will take."""
    rows = [
        (w("cost.size"), f"{estimate.width} × {estimate.height}"),
        (w("cost.length"), said.length(w, estimate.frames, estimate.seconds_of_video)),
        (w("cost.time"), said.span(w, *estimate.seconds_range)),
        (w("cost.memory"), said.size(estimate.bytes_memory)),
    ]
    if estimate.download_bytes:
        rows.append((w("cost.download"), said.size(estimate.download_bytes)))
    return facts(rows, "os-cost") + "".join(f"<p class='os-note'>{escape(w.tell(note))}</p>" for note in estimate.notes)


def empty(w: Words, notice: str = "") -> str:
    """The panel before the first clip; a notice says why there cannot be one."""
    if notice:
        return problem(w, notice, "problem.none")
    return (
        "<div class='os-empty'><div class='os-screen'><svg viewBox='0 0 24 24' width='44' aria-hidden='true'>"
        "<rect x='2.5' y='4.5' width='19' height='15' rx='3' fill='none' stroke='currentColor'/>"
        f"<path d='M10 9v6l5-3z' fill='currentColor'/></svg><p>{w('empty')}</p>"
        f"<p class='os-faint'>{w('empty.hint')}</p></div></div>"
    )


def panel(w: Words, view: JobView, more: str = "") -> str:
    """The large part of a job: what there is to look at.

    Args:
        more: HTML below a finished clip.
    """
    if view.state is JobState.FAILED:
        reuse = button(w("reuse"), act="reuse", fill="1", job=view.id)
        return f"{problem(w, view.error or w('unknown'))}{prompt(view)}<div class='os-row'>{reuse}</div>"
    if view.state is JobState.DONE:
        return f"{done(w, view)}{more}"
    return f"{_forming(w, view)}{prompt(view)}"


def ahead(w: Words, position: int) -> str:
    """How many jobs are in front of one."""
    return w(f"ahead.{position}") if position < 2 else w("ahead.n", count=position)


def progress(w: Words, view: JobView, trouble: str | None = None) -> str:
    """Stage, step, seconds left and the bar of an unfinished job; nothing for a finished one.

    Args:
        trouble: why the job that is next is not begun, such as a worker that loads the model.
    """
    if view.state is JobState.QUEUED and trouble is not None:
        why = w.tell(trouble)
        return _bar(why[:1].upper() + why[1:], [_since(w, view)], "", None)
    if view.state is JobState.QUEUED:
        place = f"<span class='os-faint'>{ahead(w, view.position)}</span>"
        return f"<div class='os-row'><span class='os-stage'>{w('waiting')}</span>{place}</div>"
    if view.state is not JobState.RUNNING:
        return ""
    stage = stage_name(w, view)
    remaining = view.seconds_left_now
    left = "" if remaining is None or view.stopping else w("left", time=seconds(w, remaining))
    step = w("step", step=view.step, total=view.total) if view.total else "" if left else _since(w, view)
    return _bar(stage, [step, _held(w, view)], left, view.step / view.total if view.total else None)


def _since(w: Words, view: JobView) -> str:
    """How long a job has been under way; for a wait of which nobody knows how long it will be."""
    return w("since", time=seconds(w, max(0.0, time.time() - (view.started or view.created))))


def _bar(stage: str, facts: list[str], left: str, share: float | None) -> str:
    """What is done, and a bar: of the share that is done, or one that moves while nobody knows."""
    bar = "<i class='os-sweep'></i>" if share is None else f"<i style='width:{100 * share:.1f}%'></i>"
    value = "" if share is None else f" aria-valuenow='{round(100 * share)}'"
    told = "".join(f"<span class='os-faint'>{fact}</span>" for fact in facts)
    return (
        f"<div class='os-row'><span class='os-stage'>{escape(stage)}</span>{told}"
        f"<span class='os-faint os-right'>{left}</span></div>"
        f"<div class='os-bar' role='progressbar' aria-label='{escape(stage, quote=True)}' aria-valuemin='0' "
        f"aria-valuemax='100'{value}>{bar}</div>"
    )


def _held(w: Words, view: JobView) -> str:
    """The memory of a job that runs, and its peak where that is more."""
    if view.memory is None:
        return ""
    now = said.size(view.memory)
    if view.peak is None or view.peak <= 1.03 * view.memory:
        return w("memory", now=now)
    return w("memory.peak", now=now, most=said.size(view.peak))


def stage_name(w: Words, view: JobView) -> str:
    """What the present stage is called; as it calls itself where there is no word for it."""
    if view.stopping:
        return w("stopping")
    key = f"stage.{view.stage}"
    told = w(key) if key in w.texts else w.tell(view.stage)
    return told[:1].upper() + told[1:]


def announcement(w: Words, view: JobView | None) -> str:
    """What a screen reader is told when it changes: the stage, not every step."""
    if view is None:
        return ""
    return stage_name(w, view) if view.state is JobState.RUNNING else w(f"said.{view.state}")


def done(w: Words, view: JobView) -> str:
    """Player, download links and what was really used."""
    settings = view.settings or {}
    shape = (settings.get("width", 16), settings.get("height", 9))
    media = "".join(player(w, view.id, file, shape) for file in view.files)
    frames, fps = settings.get("num_frames", 1), settings.get("fps", 24)
    rows = [
        (w("fact.seed"), settings.get("seed")),
        (w("fact.size"), f"{shape[0]} × {shape[1]}"),
        (w("fact.length"), said.length(w, frames, frames / fps)),
        (w("fact.took"), seconds(w, view.seconds or 0)),
        (w("fact.steps"), settings.get("steps")),
        (w("fact.model"), settings.get("model")),
    ]
    notes = "".join(f"<p class='os-note'>{escape(w.tell(note))}</p>" for note in view.notes)
    return f"{media}{prompt(view)}{facts(rows, 'os-facts')}{notes}{_actions(w, view)}{_forms(w, view)}"


def _actions(w: Words, view: JobView) -> str:
    """What can be done with a finished clip."""
    links = "".join(download(w, view.id, file) for file in view.files)
    begun = "".join(button(label, act=act, fill="1", job=view.id) for act, label in again.offered(w, view))
    reuse = button(w("reuse"), act="reuse", fill="1", job=view.id)
    rerun = button(w("do.again"), act="again", job=view.id)
    sheet = button(w("sheet.back"), act="sheet", batch=view.batch) if view.batch else ""
    return f"<div class='os-row'>{links}{begun}{reuse}{rerun}{sheet}</div>"


def _forms(w: Words, view: JobView) -> str:
    """Buttons that save the clips in other forms, written when somebody asks; nothing for pictures."""
    clips = [file for file in view.files if file.suffix == ".mp4"]
    rows = []
    for number, file in enumerate(clips, start=1):
        label = w("form") if len(clips) == 1 else w("form.of", number=number)
        buttons = "".join(
            button(
                w("form.frames", kind=name) if kind == "zip" else name,
                "os-button os-small",
                act="form",
                url=f"forms/{view.id}/{file.stem}.{kind}",
                doing=w("form.doing"),
            )
            for kind, name in FORMS.items()
        )
        rows.append(f"<div class='os-row os-forms'><span class='os-faint'>{label}</span>{buttons}</div>")
    return "".join(rows)


def player(w: Words, job_id: str, file: Path, shape: tuple[int, int], plain: bool = False) -> str:
    """A video or picture; that which was painted before a clip says so.

    Args:
        plain: without controls.
    """
    url = f"files/{job_id}/{file.name}"
    if role_of(file) == "picture":
        return f"<p class='os-faint'>{w('picture')}</p>" + screen(f"<img src='{url}' alt='{w('picture')}'>", shape)
    if file.suffix == ".png":
        return screen(f"<img src='{url}' alt='{w('image.alt')}'>", shape)
    still = f"posters/{job_id}/{file.name}"
    controls = "" if plain else " controls"
    return screen(f"<video src='{url}' poster='{still}'{controls} loop autoplay muted playsinline></video>", shape)


def download(w: Words, job_id: str, file: Path) -> str:
    """A link that saves a file."""
    weight = f" · {said.size(file.stat().st_size)}" if file.exists() else ""
    text = w("download", kind=file.suffix[1:].upper()) + weight
    return f"<a class='os-button' href='files/{job_id}/{file.name}' download='opensora-{file.name}'>{text}</a>"


def crop(w: Words, image: Image.Image, width: int, height: int, ratio: str, place: str = "first") -> str:
    """A given image, with what is cut off in the dark.

    Args:
        place: ``first`` or ``last``.
    """
    left, top, right, bottom = picture.crop_box(image.size, width, height)
    used = (right - left) * (bottom - top) / (image.width * image.height)
    share = w("crop.whole") if used > 0.995 else w("crop.part", share=f"{100 * used:.0f}")
    return (
        f"<div class='os-crop'><img src='{picture.data_uri(picture.shaded(image, width, height))}' "
        f"alt='{w('crop.alt')}'><p class='os-faint'><strong>{w(f'crop.{place}', ratio=escape(ratio))}</strong>"
        f"{share}, {w('crop.scaled', width=width, height=height)}</p></div>"
    )


def machine(w: Words, name: str, gpu: bool) -> str:
    """What this server computes on."""
    shown = escape(name)
    return f"<span class='os-chip'>{shown if gpu else w('machine.cpu', name=shown)}</span>"


def prompt(view: JobView) -> str:
    """The prompt of a job; it scrolls when it is long."""
    return f"<p class='os-prompt' dir='auto' tabindex='0'>{escape(view.request.prompt)}</p>"


def _forming(w: Words, view: JobView) -> str:
    height, width = view.request.size() if view.request.resolution else (9, 16)
    if view.preview is not None:
        media = preview(w, view.preview)
    elif view.state is JobState.CANCELLED:
        media = f"<p class='os-faint'>{w('cancelled')}</p>"
    else:
        media = "<div class='os-pulse'></div>"
    return screen(media, (width, height))


def preview(w: Words, frames: np.ndarray) -> str:
    """Forming frames that move."""
    return f"<img src='{picture.animation_uri(frames)}' alt='{w('preview')}'>"


def screen(media: str, shape: tuple[int, int]) -> str:
    """A box with the clip's own shape, so that nothing jumps when the preview becomes the clip."""
    return f"<div class='os-screen' style='aspect-ratio:{shape[0]}/{shape[1]}'>{media}</div>"
