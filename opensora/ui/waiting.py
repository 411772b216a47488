"""HTML of a visitor's unfinished jobs: in their order, with how long they wait, and what can be done with them."""

from html import escape

from opensora.jobs.queue import JobState, JobView
from opensora.ui import render, said
from opensora.ui.icons import ICONS
from opensora.ui.words import Words


def listed(w: Words, jobs: list[JobView], present: str | None, editing: str | None) -> str:
    """The list; nothing while all that is unfinished is what the large panel shows.

    Args:
        jobs: of the visitor, the newest first.
        present: id of the job in the large panel.
        editing: id of the waiting job that Generate will replace.
    """
    own = sorted((job for job in jobs if not job.state.finished), key=_order)
    if not own or (len(own) == 1 and own[0].id == present and own[0].state is JobState.RUNNING):
        return ""
    waiting = [job.id for job in own if job.state is JobState.QUEUED]
    pace = usual_seconds(jobs)
    rows = "".join(_row(w, job, pace, waiting, editing) for job in own)
    head = f"<div class='os-row os-queue-head'><h2 class='os-label'>{w('queue')}</h2>{_of_all(w, own)}</div>"
    return f"{head}<ol class='os-queue'>{rows}</ol>"


def _of_all(w: Words, own: list[JobView]) -> str:
    """What can be done with all of a visitor's unfinished jobs at once."""
    paused = sum(job.state is JobState.PAUSED for job in own)
    waiting = sum(job.state in (JobState.PAUSED, JobState.QUEUED) for job in own)
    tools = "" if paused == len(own) else said.button(w("do.pause-all"), "os-button os-small", act="pause-all")
    if paused:
        tools += said.button(w("do.resume-all"), "os-button os-small", act="resume-all")
    if waiting:
        sure = w("clear.sure", count=waiting)
        tools += said.button(w("do.clear"), "os-button os-small", act="clear", confirm=sure)
    return f"<div class='os-row os-right'>{tools}</div>"


def usual_seconds(jobs: list[JobView]) -> float | None:
    """What the visitor's last clips took on average; ``None`` before the first."""
    took = [job.seconds for job in jobs if job.state is JobState.DONE and job.seconds is not None][:5]
    return sum(took) / len(took) if took else None


def _order(job: JobView) -> tuple[bool, bool, int, float]:
    return job.state is JobState.PAUSED, job.state is not JobState.RUNNING, job.position, job.created


def _row(w: Words, job: JobView, pace: float | None, waiting: list[str], editing: str | None) -> str:
    prompt = escape(job.request.prompt[:200])
    if job.id == editing:
        tools = _tool(w, "leave", job, "edit.leave", text=True)
    elif job.state is JobState.RUNNING:
        tools = _tool(w, "show", job) + _tool(w, "pause", job) + _tool(w, "remove", job)
    else:
        place = waiting.index(job.id) if job.id in waiting else None
        tools = "".join(
            [
                _tool(w, "resume", job) if job.state is JobState.PAUSED else _tool(w, "pause", job),
                _tool(w, "up", job, off=place in (None, 0)),
                _tool(w, "down", job, off=place in (None, len(waiting) - 1)),
                _tool(w, "edit", job, fill=True),
                _tool(w, "duplicate", job),
                _tool(w, "remove", job),
            ]
        )
    return (
        f"<li class='os-waits'><div class='os-waits-what'><span class='os-clip-prompt' dir='auto'>{prompt}</span>"
        f"<span class='os-faint'>{_when(w, job, pace, editing)}</span></div><div class='os-tools'>{tools}</div></li>"
    )


def _when(w: Words, job: JobView, pace: float | None, editing: str | None) -> str:
    """State, place and about how long until it begins."""
    if job.id == editing:
        return w("edit.now")
    if job.state is JobState.RUNNING:
        left = job.seconds_left_now
        return f"{w('state.running')}{'' if left is None else ' · ' + w('left', time=said.seconds(w, left))}"
    if job.state is JobState.PAUSED:
        return w("state.paused")
    place = render.ahead(w, job.position)
    wait = "" if pace is None or not job.position else " · " + w("wait", time=said.seconds(w, pace * job.position))
    return place + wait


def _tool(
    w: Words, act: str, job: JobView, key: str = "", *, off: bool = False, fill: bool = False, text: bool = False
) -> str:
    label = w(key or f"do.{act}")
    data = " data-fill='1'" if fill else ""
    disabled = " disabled" if off else ""
    inside = label if text else ICONS[act]
    return (
        f"<button type='button' class='os-icon{' os-wide' if text else ''}' data-act='{act}' data-job='{job.id}' "
        f"aria-label='{label}' title='{label}'{data}{disabled}>{inside}</button>"
    )
