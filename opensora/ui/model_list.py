"""HTML of the models: what is here, how large, what it takes, whether its files are whole, and a test clip."""

import threading
from html import escape
from pathlib import Path
from typing import Any

from opensora.models import zoo
from opensora.pipelines.doctor import SELF_TEST
from opensora.ui import choices, said
from opensora.ui.said import button
from opensora.ui.words import Words


class Checks:
    """Looks at the hashes of models, each in a thread of its own: of 25 GB that takes a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._verdicts: dict[str, str | None] = {}

    def begin(self, name: str) -> None:
        """Look at a model, unless that is being done."""
        if name not in zoo.PRESETS:
            return
        with self._lock:
            if name in self._verdicts and self._verdicts[name] is None:
                return
            self._verdicts[name] = None
        threading.Thread(target=self._look, args=(name,), name=f"opensora-check-{name}", daemon=True).start()

    def _look(self, name: str) -> None:
        try:
            zoo.weights(zoo.PRESETS[name])
            verdict = ""
        except ValueError as error:
            verdict = str(error)
        except OSError as error:
            verdict = f"The files cannot be read: {error.strerror}."
        with self._lock:
            self._verdicts[name] = verdict

    def state(self, w: Words, name: str) -> str:
        """What is known of a model's files; nothing before a look."""
        with self._lock:
            if name not in self._verdicts:
                return ""
            verdict = self._verdicts[name]
        if verdict is None:
            return w("models.checking")
        return verdict or w("models.whole")

    @property
    def busy(self) -> bool:
        """Whether a look is going on."""
        with self._lock:
            return None in self._verdicts.values()


def listed(w: Words, checks: Checks) -> str:
    """Every model with what can be done about it."""
    return f"<ul class='os-queue'>{''.join(_row(w, preset, checks) for preset in zoo.PRESETS.values())}</ul>"


def self_test(model: str) -> dict[str, Any]:
    """Settings of the clip that shows that a model works."""
    return {**SELF_TEST, "model": model}


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _row(w: Words, preset: zoo.Preset, checks: Checks) -> str:
    state = zoo.status(preset)
    weight = f" · {said.size(size_of(state.where))}" if preset.bundled and state.installed else ""
    told = checks.state(w, preset.name)
    tools = ""
    if state.installed:
        tools = button(w("models.check"), "os-button os-small", act="check", name=preset.name)
        tools += button(w("models.test"), "os-button os-small", act="self-test", fill="1", name=preset.name)
    how = "" if state.installed else f"<span class='os-faint'>{escape(w.tell(zoo.how_to_get(preset)))}</span>"
    found = f"<span role='status'>{escape(told)}</span>" if told else ""
    return (
        f"<li class='os-waits'><div class='os-waits-what'><strong>{escape(preset.title)}</strong>"
        f"<span class='os-faint'>{escape(choices.whereabouts(w, preset))}{weight}</span>{how}{found}</div>"
        f"<div class='os-row'>{tools}</div></li>"
    )
