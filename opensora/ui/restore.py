"""Settings that come back from a file, are shared as one, or are written as a command."""

import dataclasses
import json
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from opensora.jobs.queue import JobView
from opensora.models import zoo
from opensora.pipelines import lora_folder
from opensora.pipelines.copy_as import TEXTS, as_curl
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest
from opensora.sentences import say
from opensora.ui import fields, rerun
from opensora.ui.browser import Browser, identity, words_of
from opensora.ui.fields import FIELDS, PLAIN
from opensora.ui.picture import clip_file
from opensora.ui.said import button, problem
from opensora.ui.words import Words

MOST_PRESETS, LONGEST_NAME = 50, 60
LARGEST = 200_000
"""Bytes of a file of settings."""
KIND = "opensora preset"
"""What a file of settings says that it is."""


def restored(browser: Browser | None, shown: dict[str, Any], path: str | None) -> tuple[Any, ...]:
    """A file was given: what the page remembers, what is to be said of it, and the updates of all inputs."""
    from opensora.pipelines.reproduce import read_settings

    w = words_of(browser)
    try:
        if path is None:
            return shown, "", *(gr.skip() for _ in FIELDS)
        if Path(path).suffix.lower() == ".json":
            return shown, "", *fields.filled(w, preset_of(Path(path))).values()
        recorded = read_settings(Path(path))
        here = lora_folder.recorded(recorded.record["settings"].get("loras"))
        missing = [need for need in recorded.needs if not (need.field == "loras" and here)]
        values = of_recorded(dataclasses.replace(recorded.request, loras=here or ()))
        whole = dataclasses.replace(recorded.request, loras=here or ())
        first = None if missing or recorded.shows else rerun.dropped(Path(path), whole, recorded.record)
    except (RequestError, ValueError) as error:
        return shown, problem(w, str(error), "restore.refused"), *(gr.skip() for _ in FIELDS)
    needs = "".join(f"<p class='os-note'>{escape(w.tell(need.text))}</p>" for need in missing)
    told = f"<p class='os-note' role='status'>{w('restore.done')} {rerun.offer(w, first)}</p>{needs}"
    return {**shown, "dropped": first}, told, *fields.filled(w, values).values()


def of_recorded(request: GenerationRequest) -> dict[str, Any]:
    """Values of the inputs for what a file says, for a model that the page offers.

    Raises:
        RequestError: a setting is none that can be used.
    """
    model = request.model if request.model in zoo.PRESETS else next(iter(zoo.PRESETS))
    values = fields.values_of(dataclasses.replace(request, model=model).validated(), request.seed)
    for name in ("reference_video", "lead_video"):
        if values[name] is not None:
            values[name] = clip_file(values[name])
    return values


def preset_of(path: Path) -> dict[str, Any]:
    """Values of the inputs in a file that somebody shared.

    Raises:
        ValueError: it is no such file.
    """
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    try:
        told = json.loads(data) if len(data) <= LARGEST else None
    except ValueError:
        told = None
    if not isinstance(told, dict) or told.get("kind") != KIND or not isinstance(told.get("settings"), dict):
        raise ValueError(say("preset.file"))
    return checked(told["settings"])


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Plain values of the inputs, each of a kind that it can have; what is not named is as a new page has it.

    Raises:
        ValueError: they are no settings of this page.
    """
    plain = {name: value for name, value in settings.items() if name in PLAIN}
    names = plain.get("loras", [])
    single = all(isinstance(value, str | int | float | bool) for name, value in plain.items() if name != "loras")
    if not single or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(say("preset.damaged"))
    model = plain.get("model")
    if model not in zoo.PRESETS:
        raise ValueError(say("preset.model", model=str(model)[:60]))
    values = {name: None for name in FIELDS} | fields.starting(str(model)) | plain
    request = fields.request_of([values[name] for name in FIELDS])
    dataclasses.replace(request, prompt=request.prompt or "a clip").validated()
    return values


def save(browser: Browser | None, name: str | None, *values: Any) -> tuple[Browser, str, str]:
    """Keep the present settings under a name; returns the browser's state, the list, and a refusal."""
    browser, w = identity(browser), words_of(browser)
    name = (name or "").strip()[:LONGEST_NAME]
    try:
        if not name:
            raise RequestError("name", w("preset.unnamed"))
        settings = {k: v for k, v in zip(FIELDS, values, strict=True) if k in PLAIN and v is not None}
        fields.request_of([value if field in PLAIN else None for field, value in zip(FIELDS, values, strict=True)])
    except RequestError as error:
        return browser, presets(w, browser), problem(w, str(error))
    kept = [(k, v) for k, v in presets_of(browser).items() if k != name]
    browser = {**browser, "presets": dict([*kept, (name, settings)][-MOST_PRESETS:])}
    return browser, presets(w, browser), ""


def drop(browser: Browser | None, event: gr.EventData) -> tuple[Browser, str]:
    """Forget a preset; returns the browser's state and the list."""
    browser = identity(browser)
    kept = {name: value for name, value in presets_of(browser).items() if name != str(getattr(event, "name", ""))}
    browser = {**browser, "presets": kept}
    return browser, presets(words_of(browser), browser)


def load(browser: Browser | None, event: gr.EventData) -> tuple[Any, ...]:
    """Fill in a preset; returns a refusal and the updates of all inputs."""
    w = words_of(browser)
    try:
        values = checked(presets_of(browser).get(str(getattr(event, "name", "")), {}))
    except (RequestError, ValueError) as error:
        return problem(w, str(error)), *(gr.skip() for _ in FIELDS)
    return "", *fields.filled(w, values).values()


def presets_of(browser: Browser | None) -> dict[str, dict[str, Any]]:
    """The presets that a browser keeps."""
    kept = browser.get("presets") if isinstance(browser, dict) else None
    return {str(k): v for k, v in kept.items() if isinstance(v, dict)} if isinstance(kept, dict) else {}


def presets(w: Words, browser: Browser | None) -> str:
    """The list, with buttons to use, share and forget each."""
    rows = []
    for name, settings in presets_of(browser).items():
        shared = json.dumps({"kind": KIND, "name": name, "settings": settings}, ensure_ascii=False, indent=1)
        tools = button(w("preset.use"), "os-button os-small", act="preset", fill="1", name=name)
        tools += button(w("preset.share"), "os-button os-small", act="save-file", content=shared, name=name)
        tools += button(w("do.delete"), "os-button os-small", act="drop", name=name)
        rows.append(f"<li class='os-waits'><span>{escape(name)}</span><div class='os-row'>{tools}</div></li>")
    return f"<ul class='os-queue'>{''.join(rows)}</ul>" if rows else f"<p class='os-faint'>{w('preset.none')}</p>"


def copies(w: Words, view: JobView, rest: dict[str, Any] | None) -> str:
    """A finished clip's request as commands, to copy.

    Args:
        rest: how programs reach this server, see :func:`opensora.ui.people.rest_of`; ``None``: not at all.
    """
    seed = (view.settings or {}).get("seed", view.request.seed)
    loras = tuple((Path(file).name, strength) for file, strength in view.request.loras)  # not where they are
    request = dataclasses.replace(view.request, seed=seed, loras=tuple((Path(name), x) for name, x in loras))
    parts = []
    for name, write in TEXTS.items():
        if name == "curl" and rest is None:
            continue
        try:
            text = as_curl(request, **rest) if name == "curl" and rest is not None else write(request)
        except RequestError:  # a folder of weights, which this way cannot name
            continue
        place = f"copy-{name}"
        copy = (
            f"<button type='button' class='os-button os-small' data-act='copy' data-from='{place}' "
            f"data-done='{w('copy.done')}' data-failed='{w('copy.failed')}'>{w('copy')}</button>"
        )
        parts.append(
            f"<div class='os-copy'><div class='os-row'><strong>{w(f'copy.{name}')}</strong>{copy}</div>"
            f"<pre id='{place}' tabindex='0'>{escape(text)}</pre></div>"
        )
    return f"<details class='os-more'><summary>{w('copy.as')}</summary>{''.join(parts)}</details>"


def compared(w: Words, before: JobView | None, now: JobView) -> str:
    """Whether a clip that was made again is equal, and what was different."""
    if before is None or not before.sha256 or not now.sha256:
        return f"<p class='os-note'>{w('verdict.gone')}</p>"
    return rerun.compared(w, before.sha256[0], before.plan or {}, now, now.plan or {})
