"""What happens when a person does something on the page.

No handler waits for a generation: Generate queues a job and returns, a timer polls it, and the page finds its jobs
again after a reload through the id kept in the browser. Torch is loaded by the first handler that needs it.
"""

import dataclasses
import logging
import random
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr

from opensora.jobs.order import Move
from opensora.jobs.queue import JobQueue, JobState, JobView
from opensora.models import zoo
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.ui import examples, fields, history, render, rerun, restore, several, waiting
from opensora.ui.browser import Browser, identity, job_of, owner_of, words_of
from opensora.ui.model_acts import Models
from opensora.ui.model_list import listed
from opensora.ui.people import told
from opensora.ui.room import Room, refused
from opensora.ui.said import problem
from opensora.ui.several import Several, batch_of
from opensora.ui.wildcards import expand
from opensora.ui.words import Words

log = logging.getLogger(__name__)

PARTS = ("panel", "progress", "announcement", "waiting", "history")
"""Parts of the screen that are HTML."""
POLL_SECONDS, IDLE_SECONDS = 0.5, 30.0
"""Seconds between two looks while something of this person is unfinished, and else: jobs may begin on another device.
The browser looks only while the page can be seen."""
CONTROLS = 4
"""Timer, Generate, Cancel and search."""
SCREEN = 1 + len(PARTS) + CONTROLS
"""Number of outputs of :meth:`Handlers.poll`."""
KEPT = ("query", "most", "pair", "editing", "example")
"""What of :data:`Shown` a person chose."""
SHOWING = ("show", "sheet", "stop-batch", "promote", "again", "self-test")
"""Buttons after which another job or batch is shown."""
REMEMBERED = 20
"""Second runs whose first one a browser remembers."""
Shown = dict[str, Any]
"""What a page shows already, by part, and what a person looks at: ``query`` and ``most`` of the history, the ``pair``
that is compared, ``editing``, the waiting job that Generate replaces, and the ``example`` in the panel."""


@dataclass
class Handlers:
    """Handlers bound to one job queue."""

    queue: JobQueue
    room: Room = field(default_factory=Room)
    models: Models = field(init=False)

    def __post_init__(self) -> None:
        self.models = Models(self.queue, self.room)

    @property
    def several(self) -> Several:
        """What is done with several clips at once."""
        return Several(self.queue, self.room)

    def generate(self, browser: Browser | None, shown: Shown, *values: Any) -> tuple[Any, ...]:
        """Queue a job, or put it in place of the waiting one that is edited; returns the browser's state, why it was
        refused, and the screen.

        When a request cannot be served nothing else changes. While a job runs, the panel stays with it and the new one
        waits in the list.
        """
        browser = identity(browser)
        try:
            wanted = fields.request_of([expand(values[0] or "", random.SystemRandom()), *values[1:]])
            request = self.room.require(wanted)
            if (edited := shown.get("editing")) is not None:
                return self._edited(browser, {**shown, "editing": None}, edited, request)
            job_id = self.queue.submit(request, browser["owner"])
        except RequestError as error:
            return browser, refused(words_of(browser), error), *skipped()
        return self.queued(browser, {**shown, "example": None}, job_id)

    def _edited(self, browser: Browser, shown: Shown, job_id: str, request: GenerationRequest) -> tuple[Any, ...]:
        w = words_of(browser)
        done = self.queue.edit(job_id, browser["owner"], request)
        return browser, "" if done else problem(w, w("edit.late")), *self.poll(browser, shown)

    def queued(self, browser: Browser, shown: Shown, job_id: str) -> tuple[Any, ...]:
        """A job was queued: show it, unless another one is being made."""
        present = self.view(browser)
        if present is None or present.state.finished:
            browser = {**browser, "job": job_id, "batch": None}
        return browser, "", *self.poll(browser, shown)

    def poll(self, browser: Browser | None, shown: Shown) -> tuple[Any, ...]:
        """The screen: what is shown, panel, progress, announcement, waiting jobs, history, timer and both buttons.

        Args:
            shown: what the page shows already; a part that would not change is left alone, so that a playing video or
                preview is not started again.
        """
        w, view, sheet = words_of(browser), self.view(browser), batch_of(self.queue, browser)
        example = examples.present(shown, browser)
        next_one = view is not None and view.state is JobState.QUEUED and not view.position
        trouble = self.queue.trouble() if next_one else None
        jobs = self.queue.jobs(owner_of(browser))
        ended = any(job.state.finished for job in jobs)
        busy = any(not job.state.finished for job in jobs)
        present = view is not None and not view.state.finished
        stopping = view is not None and view.stopping
        editing = any(job.id == shown.get("editing") and not job.state.finished for job in jobs)
        new = {
            **shown,
            "panel": f"example {example}"
            if example
            else _seen(*sheet)
            if sheet
            else ""
            if view is None
            else _seen(view),
            "progress": "" if view is None or sheet or example else render.progress(w, view, trouble),
            "announcement": render.announcement(w, view),
            "waiting": waiting.listed(w, jobs, None if view is None or example else view.id, shown.get("editing")),
            "history": history.shelf(w, jobs, job_of(browser), history.Look.of(shown)),
            "controls": f"{busy} {present} {stopping} {editing} {ended}",
        }
        parts: list[Any] = [gr.skip()] * len(PARTS)
        for place, name in enumerate(PARTS):
            if new[name] != shown.get(name):
                parts[place] = new[name]
        if new["panel"] != shown.get("panel"):
            parts[0] = (
                examples.panel(w, example)
                if example
                else several.sheet(w, browser, sheet)
                if sheet
                else self._panel(w, browser, view)
            )
        if new["controls"] == shown.get("controls"):
            return new, *parts, *(gr.skip() for _ in range(CONTROLS))
        return (
            new,
            *parts,
            *_controls(w, busy, present, stopping, editing),
            gr.update(visible=ended, label=w("history"), placeholder=w("history.search")),
        )

    def _panel(self, w: Words, browser: Browser | None, view: JobView | None) -> str:
        """The large panel without a batch."""
        if view is None:
            return render.empty(w, nothing_here(w))
        more = "" if view.state is not JobState.DONE else restore.copies(w, view, (browser or {}).get("rest"))
        before = again_of(browser).get(view.id)
        if before is not None and view.state is JobState.DONE:
            more = restore.compared(w, self.queue.view(before, owner_of(browser)), view) + more
        if view.state is JobState.DONE:
            more = rerun.of_file(w, browser, view) + more
        return render.panel(w, view, more)

    def act(self, browser: Browser | None, shown: Shown, event: gr.EventData) -> tuple[Any, ...]:
        """A button of a panel was pressed; returns the browser's state, a refusal, and the screen."""
        browser = identity(browser)
        act, job_id = str(event.act), str(getattr(event, "job", ""))
        try:
            if act == "again-file":
                browser = rerun.start(self.queue, self.room, browser, shown.get("dropped"))
                shown = {**shown, "example": None}
            elif act in SHOWING:
                browser, shown = self._shown(browser, act, job_id, event), {**shown, "example": None}
            elif act in ("more", "compare", "side", "uncompare", "leave"):
                shown = looked(shown, act, job_id, event)
            elif not self._change(act, job_id, browser["owner"]):
                return browser, problem(w := words_of(browser), w("act.late")), *self.poll(browser, shown)
        except RequestError as error:
            return browser, problem(words_of(browser), str(error)), *skipped()
        return browser, "", *self.poll(browser, shown)

    def _shown(self, browser: Browser, act: str, job_id: str, event: gr.EventData) -> Browser:
        """Another job or batch is shown, which may be a new one."""
        owner = browser["owner"]
        match act:
            case "show":
                return {**browser, "job": job_id, "batch": None}
            case "sheet":
                return {**browser, "batch": str(getattr(event, "batch", ""))}
            case "stop-batch":
                self.several.stop(browser)
                return browser
            case "promote":
                return self.several.promote(browser, job_id)
        if act == "self-test":
            begun = self.models.tests.begin(str(getattr(event, "name", "")), owner)
            return {**browser, "job": begun, "batch": None}
        view = self.queue.view(job_id, owner)
        if view is None or view.state is not JobState.DONE:
            raise RequestError("job", words_of(browser)("gone"))
        request = dataclasses.replace(view.request, seed=(view.settings or {}).get("seed", view.request.seed))
        new = self.queue.submit(self.room.require(request), owner)
        kept = [*again_of(browser).items(), (new, view.id)][-REMEMBERED:]
        return {**browser, "job": new, "batch": None, "again": dict(kept)}

    def check(self, browser: Browser | None, admin: bool, event: gr.EventData | None = None) -> tuple[Any, str]:
        """Do with a model what was asked for; returns the timer of the list, and the list."""
        w = words_of(browser)
        refused = self.models.act(w, told(event, "act"), told(event, "name"), admin)
        return gr.Timer(active=self.models.busy), listed(w, self.models, admin, refused)

    def _change(self, act: str, job_id: str, owner: str) -> bool:
        """Change something about a job; ``False`` where its owner has none of that id, or it is past that."""
        match act:
            case "remove":
                return self.queue.cancel(job_id, owner)
            case "delete":
                return self.queue.remove(job_id, owner)
            case "pin" | "unpin":
                return self.queue.pin(job_id, owner, act == "pin")
            case "pause":
                return self.queue.pause(job_id, owner)
            case "resume":
                return self.queue.resume(job_id, owner)
            case "up" | "down":
                return self.queue.move(job_id, owner, Move(act))
            case "duplicate":
                view = self.queue.view(job_id, owner)
                return view is not None and bool(
                    self.queue.submit(self.room.require(view.request), owner, view.priority)
                )
            case "pause-all" | "resume-all" | "clear":
                self._change_all(act, owner)
        return True

    def _change_all(self, act: str, owner: str) -> None:
        """Pause, resume or remove what of an owner is unfinished; what runs comes last, so that nothing else begins."""
        jobs = [job for job in self.queue.jobs(owner) if not job.state.finished]
        for job in sorted(jobs, key=lambda job: (job.state is JobState.RUNNING, -job.position)):
            if act == "pause-all":
                self.queue.pause(job.id, owner)
            elif act == "resume-all":
                self.queue.resume(job.id, owner)
            elif job.state is not JobState.RUNNING:
                self.queue.cancel(job.id, owner)

    def cancel(self, browser: Browser | None, shown: Shown) -> tuple[Any, ...]:
        """Ask the job that is shown to stop."""
        self.queue.cancel(job_of(browser), owner_of(browser))
        return self.poll(browser, shown)

    def search(self, browser: Browser | None, shown: Shown, query: str | None) -> tuple[Any, ...]:
        """Show the part of the history whose prompts hold some words."""
        return self.poll(browser, {**shown, "query": (query or "")[:200], "most": history.MOST})

    def preflight(self, browser: Browser | None, *values: Any) -> str:
        """The cost of the present settings, or why they cannot be used."""
        w = words_of(browser)
        try:
            filled = (values[0] if (values[0] or "").strip() else w("prompt.example"), *values[1:])
            return self.room.told(w, fields.request_of(filled))
        except RequestError as error:
            return problem(w, str(error), "cost.refused")

    def fit(self, browser: Browser | None, *values: Any) -> tuple[Any, ...]:
        """The nearest settings that this machine can serve: what changed or why there are none, and all inputs."""
        w = words_of(browser)
        named = dict(zip(fields.FIELDS, values, strict=True))
        try:
            filled = (values[0] if (values[0] or "").strip() else w("prompt.example"), *values[1:])
            found = self.room.fit(fields.request_of(filled))
        except RequestError as error:
            return problem(w, str(error), "cost.refused"), *(gr.skip() for _ in values)
        changed = {k: v for k, v in fields.values_of(found.request).items() if k in found.changes}
        if "length" in found.changes and isinstance(changed["length"], int):
            changed["length"] = f"{changed['length']}f"
        told = "".join(
            f"<p class='os-note' role='status'>{escape(w.tell(sentence))}</p>" for sentence in found.sentences
        )
        return told, *fields.filled(w, named | changed).values()

    def view(self, browser: Browser | None) -> JobView | None:
        """The job that a browser shows, if it is its own and still known."""
        return self.queue.view(job_of(browser), owner_of(browser))


def looked(shown: Shown, act: str, job_id: str, event: gr.EventData) -> Shown:
    """What is looked at changes: more of the history, two clips side by side, or no waiting job that is edited."""
    match act:
        case "more":
            return {**shown, "most": (shown.get("most") or history.MOST) + history.MOST}
        case "compare":
            return {**shown, "pair": history.chosen(shown.get("pair") or [], job_id)}
        case "side":
            pair = shown.get("pair") or []
            return {**shown, "pair": history.other_clip(pair, told(event, "place"), job_id, told(event, "number"))}
        case "uncompare":
            return {**shown, "pair": []}
    return {**shown, "editing": None}


def skipped() -> list[Any]:
    """The screen stays as it is."""
    return [gr.skip() for _ in range(SCREEN)]


def nothing_here(w: Words) -> str:
    """Why nothing can be generated on this machine; empty when some model is here."""
    presets = list(zoo.PRESETS.values())
    if any(zoo.status(preset).installed for preset in presets):
        return ""
    return w("none.here", model=presets[0].title, how=w.tell(zoo.how_to_get(presets[0])))


def machine(browser: Browser | None) -> str:
    """What this server computes on."""
    from opensora.pipelines.plan import choose_device, device_name

    device = choose_device(None)
    return render.machine(words_of(browser), device_name(device), gpu=device.type != "cpu")


def _controls(w: Words, busy: bool, present: bool, stopping: bool, editing: bool) -> tuple[Any, ...]:
    """Timer, Generate button and Cancel button.

    Args:
        busy: some job of this browser is unfinished.
        present: the one that is shown is.
        stopping: it was asked to stop.
        editing: Generate replaces a waiting job.
    """
    generate = "edit.save" if editing else "generate.more" if busy else "generate"
    return (
        gr.Timer(POLL_SECONDS if busy else IDLE_SECONDS, active=True),
        gr.update(value=w(generate)),
        gr.update(visible=present, interactive=not stopping, value=w("cancel.busy" if stopping else "cancel")),
    )


def again_of(browser: Browser | None) -> dict[str, str]:
    """Jobs that were run again, and which job each repeats."""
    again = browser.get("again") if isinstance(browser, dict) else None
    return {str(k): str(v) for k, v in again.items()} if isinstance(again, dict) else {}


def _seen(*jobs: JobView) -> str:
    """What of jobs a panel shows; it is drawn anew when this changes."""
    return " ".join(f"{job.id} {job.state} {job.preview_number} {job.pinned}" for job in jobs)
