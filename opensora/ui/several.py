"""Several clips at once: other seeds, a small grid of settings, and quick drafts of which one is made in full."""

import dataclasses
import random
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr

from opensora.jobs.batch import grid
from opensora.jobs.queue import JobQueue, JobState, JobView
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.sentences import named, say
from opensora.ui import fields, render, said
from opensora.ui.browser import Browser, identity, owner_of, words_of
from opensora.ui.fields import FIELDS
from opensora.ui.room import Room, refused
from opensora.ui.said import button, problem
from opensora.ui.wildcards import expand
from opensora.ui.words import Words

AXES = ("guidance", "steps", "motion")
"""Settings of a grid, in the order in which the page hands them over after the number of seeds."""
LEAST_STEPS = 4
SHARE = 3
"""A draft takes a third of the steps: of the same noise it has the same composition, with less detail."""
REMEMBERED = 20
"""Batches of drafts whose full steps a browser remembers."""


@dataclass
class Several:
    """Handlers bound to one job queue."""

    queue: JobQueue
    room: Room = field(default_factory=Room)

    def cost(
        self, browser: Browser | None, unfolded: bool, seeds: Any, guidance: str, steps: str, motion: str, *values: Any
    ) -> Any:
        """What drafts and then one clip in full will take, and what the whole grid will; unless nobody sees it."""
        from opensora.pipelines.preflight import estimate

        if not unfolded:
            return gr.skip()

        w = words_of(browser)
        try:
            prompt = values[0] if (values[0] or "").strip() else w("prompt.example")
            request = whole_request((prompt, *values[1:]))
            drafts = drafts_of(request, seeds)
            everything = grid_of(request, seeds, guidance, steps, motion)
            one, full, *each = (
                estimate(r, self.room.processes).seconds_range for r in (drafts[0], request, *everything)
            )
            all_of = [sum(ends) for ends in zip(*each, strict=True)]
        except RequestError as error:
            return problem(w, str(error), "cost.refused")
        rows = [
            (w("several.drafts", count=len(drafts)), said.span(w, len(drafts) * one[0], len(drafts) * one[1])),
            (w("several.full"), said.span(w, *full)),
            (w("several.all", count=len(everything)), said.span(w, all_of[0], all_of[1])),
        ]
        return said.facts(rows, "os-cost")

    def drafts(self, browser: Browser | None, seeds: Any, *values: Any) -> tuple[Browser, str]:
        """Queue quick clips of several seeds; returns the browser's state and a refusal."""
        browser, w = identity(browser), words_of(browser)
        try:
            request = whole_request(_drawn(values))
            batch, _ = self.queue.submit_batch(self._room_for(drafts_of(request, seeds)), browser["owner"])
        except RequestError as error:
            return browser, refused(w, error)
        assert request.steps is not None, "validated requests have steps"
        kept = [*_full_steps(browser).items(), (batch, request.steps)][-REMEMBERED:]
        return {**browser, "batch": batch, "full": dict(kept)}, ""

    def everything(
        self, browser: Browser | None, seeds: Any, guidance: str, steps: str, motion: str, *values: Any
    ) -> tuple[Browser, str]:
        """Queue all clips of a grid; returns the browser's state and a refusal."""
        browser, w = identity(browser), words_of(browser)
        try:
            requests = grid_of(whole_request(_drawn(values)), seeds, guidance, steps, motion)
            batch, _ = self.queue.submit_batch(self._room_for(requests), browser["owner"])
        except RequestError as error:
            return browser, refused(w, error)
        return {**browser, "batch": batch}, ""

    def promote(self, browser: Browser, job_id: str) -> Browser:
        """Make a draft in full, from the same noise; returns the browser's state, which shows the new job."""
        view = self.queue.view(job_id, owner_of(browser))
        steps = None if view is None else _full_steps(browser).get(view.batch or "")
        if view is None or steps is None:
            raise RequestError("job", words_of(browser)("gone"))
        settings = view.settings or {}
        kept = [view.request.candidate, *settings.get("pictures_kept", [])][-1]
        again = {"steps": steps, "seed": settings.get("seed", view.request.seed), "candidate": kept}
        full = self.room.require(dataclasses.replace(view.request, **again))
        new = self.queue.submit(full, owner_of(browser))
        return {**browser, "job": new, "batch": None}

    def _room_for(self, requests: list[GenerationRequest]) -> list[GenerationRequest]:
        """The same, if every one can be made; those that differ in their seeds alone are looked at once.

        Raises:
            RequestError: one cannot.
        """
        unlike = {(request.guidance, request.steps, request.motion_score): request for request in requests}
        for request in unlike.values():
            self.room.require(request)
        return requests

    def stop(self, browser: Browser) -> None:
        """Cancel what is left of the batch that is shown."""
        for job in batch_of(self.queue, browser):
            self.queue.cancel(job.id, owner_of(browser))


def whole_request(values: tuple[Any, ...]) -> GenerationRequest:
    """The request of the page, checked.

    Raises:
        RequestError: a setting cannot be used, or there is no prompt.
    """
    return fields.request_of(values[: len(FIELDS)]).validated()


def _drawn(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values with one word drawn for every ``{a|b}``: one for all clips, which differ in what is varied alone."""
    return expand(values[0] or "", random.SystemRandom()), *values[1:]


def drafts_of(request: GenerationRequest, seeds: Any) -> list[GenerationRequest]:
    """Quick requests of several seeds."""
    assert request.steps is not None, "validated requests have steps"
    steps = min(request.steps, max(LEAST_STEPS, round(request.steps / SHARE)))
    return grid(dataclasses.replace(request, steps=steps, num_videos=1), seeds=fields.whole("seeds", seeds) or 1)


def grid_of(request: GenerationRequest, seeds: Any, guidance: str, steps: str, motion: str) -> list[GenerationRequest]:
    """Requests of every combination.

    Raises:
        RequestError: a value is no number, or there are too many.
    """
    return grid(
        dataclasses.replace(request, num_videos=1),
        seeds=fields.whole("seeds", seeds) or 1,
        guidance=numbers("guidance", guidance),
        steps=[int(number) for number in numbers("steps", steps, whole=True)],
        motion=[int(number) for number in numbers("motion", motion, whole=True)],
    )


def numbers(name: str, text: str | None, whole: bool = False) -> list[float]:
    """Numbers that were typed with commas or spaces between them.

    Raises:
        RequestError: one of them is none.
    """
    found = []
    for word in (text or "").replace(",", " ").split():
        try:
            number = float(word)
        except ValueError:
            number = float("nan")
        if number != number or (whole and not number.is_integer()):
            told = {"got": word[:40], "field": named(name)}
            raise RequestError(name, say("grid.whole", **told) if whole else say("grid.number", **told))
        found.append(number)
    return found


def batch_of(queue: JobQueue, browser: Browser | None) -> list[JobView]:
    """The batch that a browser shows, if it is its own."""
    batch = browser.get("batch") if isinstance(browser, dict) else None
    return queue.batch(batch, owner_of(browser)) if isinstance(batch, str) and batch else []


def sheet(w: Words, browser: Browser | None, jobs: list[JobView]) -> str:
    """All clips of a batch beside each other, each with what is its own."""
    full = _full_steps(browser).get(jobs[0].batch or "")
    done = sum(job.state is JobState.DONE for job in jobs)
    varied = [name for name in ("seed", *_VARIED) if len({_value(job, name) for job in jobs}) > 1]
    cells = "".join(_cell(w, job, varied, full) for job in jobs)
    title = w("sheet.drafts" if full else "sheet", done=done, count=len(jobs))
    hint = f"<p class='os-faint'>{w('sheet.pick')}</p>" if full else ""
    rest = any(not job.state.finished for job in jobs)
    stop = f"<div class='os-row'>{button(w('sheet.stop'), act='stop-batch')}</div>" if rest else ""
    return f"<h2 class='os-label'>{title}</h2>{hint}<div class='os-sheet' data-together='1'>{cells}</div>{stop}"


_VARIED = {"guidance": "guidance", "steps": "steps", "motion_score": "motion"}
"""What a grid varies besides seeds, with the key of its name."""


def _value(job: JobView, name: str) -> Any:
    return (job.settings or {}).get(name, getattr(job.request, name))


def _cell(w: Words, job: JobView, varied: list[str], full: int | None) -> str:
    facts = " · ".join(f"{w(_VARIED.get(name, name))} {_value(job, name)}" for name in varied)
    shape = job.request.size()[::-1] if job.request.resolution else (16, 9)
    if job.state is JobState.DONE and job.files:
        media = render.player(w, job.id, job.files[0], shape, plain=True)
    elif job.preview is not None:
        media = render.screen(render.preview(w, job.preview), shape)
    else:
        media = render.screen(f"<span class='os-faint'>{w(f'state.{job.state}')}</span>", shape)
    tools = button(w("do.show"), "os-button os-small", act="show", job=job.id)
    if full and job.state is JobState.DONE:
        tools += button(w("sheet.promote"), "os-button os-small", act="promote", job=job.id)
    error = f"<p class='os-faint'>{escape(w.tell(job.error))}</p>" if job.error else ""
    return f"<figure>{media}<figcaption>{escape(facts)}</figcaption>{error}<div class='os-row'>{tools}</div></figure>"


def _full_steps(browser: Browser | None) -> dict[str, int]:
    """Steps of a clip in full, by the batch of its drafts."""
    full = browser.get("full") if isinstance(browser, dict) else None
    if not isinstance(full, dict):
        return {}
    return {batch: steps for batch, steps in full.items() if isinstance(steps, int) and 1 <= steps <= 1000}


def add_several(labels: Any) -> dict[str, Any]:
    """Place the section here; returns its components."""
    unfolded = gr.State(False)
    with labels.make(gr.Accordion, {"label": "several"}, open=False, elem_id="several") as section:
        seeds = labels.make(gr.Slider, {"label": "seeds"}, minimum=1, maximum=8, value=4, step=1, elem_id="seeds")
        with gr.Row(elem_classes="os-pair"):
            axes = [
                labels.make(
                    gr.Textbox,
                    {"label": f"grid.{name}", "placeholder": f"grid.{name}.example"},
                    max_lines=1,
                    elem_id=f"grid-{name}",
                    min_width=80,
                )
                for name in AXES
            ]
        cost = gr.HTML("", elem_id="several-cost", js_on_load=None)
        with gr.Row(elem_classes="os-actions"):
            drafts = labels.make(gr.Button, {"value": "drafts"}, elem_id="drafts", min_width=120)
            everything = labels.make(gr.Button, {"value": "grid"}, elem_id="grid", min_width=120)
    return {
        "unfolded": unfolded,
        "section": section,
        "inputs": [seeds, *axes],
        "cost": cost,
        "drafts": drafts,
        "all": everything,
    }
