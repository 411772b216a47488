"""HTML of the models: what is here, how large, whether its files are whole, downloads, and what self-tests found."""

from html import escape
from pathlib import Path

from opensora.models import zoo
from opensora.ui import choices, said
from opensora.ui.model_acts import Models
from opensora.ui.model_downloads import Phase, Status
from opensora.ui.said import button
from opensora.ui.words import Words

SMALL = "os-button os-small"
PHASES = {
    Phase.WAITING: "fetch.waiting",
    Phase.RUNNING: "fetch.running",
    Phase.CHECKING: "fetch.checking",
    Phase.PAUSED: "fetch.paused",
    Phase.FAILED: "fetch.failed",
    Phase.DONE: "fetch.done",
}


def listed(w: Words, models: Models, admin: bool, problem: str = "") -> str:
    """Every model with what can be done about it.

    Args:
        admin: whether whoever looks may change what is installed; nobody else is told where files lie.
        problem: why what was asked for last was refused.
    """
    rows = "".join(_row(w, preset, models, admin) for preset in zoo.PRESETS.values())
    note = f"<p class='os-note' role='alert'>{escape(problem)}</p>" if problem else ""
    return f"<ul class='os-queue'>{rows}</ul>{note}"


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _row(w: Words, preset: zoo.Preset, models: Models, admin: bool) -> str:
    state, fetched = zoo.status(preset), models.downloads.status(preset)
    weight = f" · {said.size(size_of(state.where))}" if preset.bundled and state.installed else ""
    told = [text for text in (models.checks.state(w, preset.name), models.tests.state(w, preset.name)) if text]
    tools, below = "", ""
    if state.installed and (fetched is None or not fetched.phase.busy):
        if fetched is not None and fetched.phase is Phase.DONE:
            told.insert(0, w(PHASES[Phase.DONE]))
        tools = button(w("models.check"), SMALL, act="check", name=preset.name)
        tools += button(w("models.test"), SMALL, act="self-test", name=preset.name)
        where = f"<span class='os-faint os-path'>{escape(str(state.where))}</span>" if admin else ""
    else:
        where = "" if fetched else f"<span class='os-faint'>{escape(w.tell(zoo.how_to_get(preset)))}</span>"
        if fetched is None and not preset.bundled:
            tools = button(w("fetch.begin"), SMALL, act="download", name=preset.name)
        elif fetched is not None:
            tools, below = _fetch_tools(w, preset.name, fetched), _progress(w, fetched)
    found = "".join(f"<span role='status'>{escape(text)}</span>" for text in told)
    return (
        f"<li class='os-waits os-model'><div class='os-waits-what'><strong>{escape(preset.title)}</strong>"
        f"<span class='os-faint'>{escape(choices.whereabouts(w, preset))}{weight}</span>{where}{found}{below}</div>"
        f"<div class='os-row os-model-tools'>{tools}</div></li>"
    )


def _fetch_tools(w: Words, name: str, fetched: Status) -> str:
    """Buttons of a download."""
    if fetched.phase.busy:
        if fetched.stopping:
            return f"<span class='os-faint'>{w('stopping')}</span>"
        first = button(w("do.pause"), SMALL, act="pause-download", name=name)
    elif fetched.phase is Phase.DONE:
        return ""
    else:
        first = button(w("do.resume"), SMALL, act="download", name=name)
    return first + button(w("cancel"), SMALL, act="cancel-download", name=name, confirm=w("fetch.sure"))


def _progress(w: Words, fetched: Status) -> str:
    """How far a download is, and what went wrong with it."""
    total = max(fetched.total, 1)
    share = min(1.0, fetched.done / total)
    here = said.size(fetched.done) if fetched.done else "0"
    facts = [w(PHASES[fetched.phase]), w("fetch.bytes", done=here, total=said.size(fetched.total))]
    if fetched.speed:
        facts.append(w("fetch.speed", speed=said.size(round(fetched.speed))))
    if fetched.phase is Phase.RUNNING and (left := fetched.seconds_left) is not None:
        facts.append(w("left", time=said.seconds(w, left)))
    wrong = f"<span role='alert'>{escape(w.tell(fetched.error))}</span>" if fetched.error else ""
    return (
        f"<div class='os-bar' role='progressbar' aria-label='{w('fetch.running')}' aria-valuemin='0' "
        f"aria-valuemax='100' aria-valuenow='{round(100 * share)}'><i style='width:{100 * share:.1f}%'></i></div>"
        f"<span class='os-faint os-numbers'>{' · '.join(facts)}</span>{wrong}"
    )
