"""What the list of models says: what is here and where, downloads with their numbers, and what tests found."""

import math
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from memory_queue import MemoryQueue
from stepwise import Steps, until

from opensora.models import zoo
from opensora.pipelines import self_test
from opensora.pipelines.request import RequestError
from opensora.pipelines.self_test import Finding, Record, Verdict
from opensora.ui import model_list, room
from opensora.ui.model_acts import Models, found_by
from opensora.ui.model_downloads import Phase, Status
from opensora.ui.model_list import listed
from opensora.ui.words import ENGLISH, LANGUAGES

NAME = "opensora-1.3-t2v-360p"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Models:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))  # whatever this machine has downloaded
    return Models(SimpleNamespace())  # type: ignore[arg-type]  # no clip is made


def shown(models: Models, monkeypatch: pytest.MonkeyPatch, found: Status) -> str:
    """The list while one model's download is at something."""
    monkeypatch.setattr(models.downloads, "status", lambda preset: found if preset.name == NAME else None)
    return listed(ENGLISH, models, admin=True)


def acts(html: str, name: str) -> list[str]:
    """Buttons of a model."""
    buttons = [part.split("'") for part in html.split("data-act=")[1:]]
    return [part[1] for part in buttons if part[3] == name]


def test_what_is_here_can_be_checked_and_tried_and_the_rest_downloaded(models: Models) -> None:
    html = listed(ENGLISH, models, admin=True)
    assert acts(html, "tiny") == ["check", "self-test"] and acts(html, NAME) == ["download"]
    assert str(zoo.status(zoo.PRESETS["tiny"]).where) in html
    assert str(zoo.status(zoo.PRESETS["tiny"]).where) not in listed(ENGLISH, models, admin=False)
    assert "&lt;b&gt;no&lt;/b&gt;" in listed(ENGLISH, models, False, "<b>no</b>")


def test_a_download_says_how_far_it_is_how_fast_and_how_long(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    html = shown(models, monkeypatch, Status(Phase.RUNNING, 6 * 10**9, 24 * 10**9, speed=30e6))
    assert "aria-valuenow='25'" in html and "width:25.0%" in html
    assert "Downloading · 6.0 GB of 24.0 GB · 30 MB/s · about 10 min 00 s left" in html
    assert acts(html, NAME) == ["pause-download", "cancel-download"]
    html = shown(models, monkeypatch, Status(Phase.RUNNING, 1, 10**9, stopping=True))
    assert acts(html, NAME) == [] and "Stopping" in html
    html = shown(models, monkeypatch, Status(Phase.FAILED, 10**9, 2 * 10**9, error="<i>broken</i>"))
    assert acts(html, NAME) == ["download", "cancel-download"] and "&lt;i&gt;broken" in html and "Go on" in html
    html = shown(models, monkeypatch, Status(Phase.PAUSED, 10**9, 2 * 10**9))
    assert "Paused · 1.0 GB of 2.0 GB<" in html


def test_what_a_test_found_is_said_in_every_language() -> None:
    verdict = Verdict(Finding.AS_RECORDED, 39.47, False)
    assert found_by(ENGLISH, verdict) == (
        "The test clip is the recorded one: 39.5 dB, at least 30 dB wanted. Not equal to the last run to the byte."
    )
    assert "no difference" in found_by(ENGLISH, Verdict(Finding.AS_BEFORE, math.inf, True))
    for w in LANGUAGES.values():
        assert len({found_by(w, Verdict(finding, 20.0)) for finding in Finding}) == len(Finding)


def test_the_clip_of_a_test_is_compared_when_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "require_weights", lambda bundle: None)
    steps = Steps(total=1)
    queue = MemoryQueue(steps, tmp_path)
    models = Models(queue)
    compared: list[Any] = []

    def taken(file: Path, plan: dict[str, Any]) -> Record:
        compared.append(file)
        return None  # type: ignore[return-value]  # what is made of it is replaced too

    monkeypatch.setattr(self_test, "taken", taken)
    monkeypatch.setattr(self_test, "examine", lambda preset, made: Verdict(Finding.OTHER, 12.0))
    job = models.tests.begin("tiny", "me")
    view = queue.view(job, "me")
    assert view is not None and (view.request.prompt, view.request.seed) == (self_test.request_of("tiny").prompt, 1)
    assert models.busy and models.tests.state(ENGLISH, "tiny") == "The test clip is being made …"
    steps.go.release(1)
    queue.wait(job, "me", timeout=60)
    assert models.tests.state(ENGLISH, "tiny").startswith("The test clip is not the recorded one: 12.0 dB")
    assert not models.busy and [file.suffix for file in compared] == [".mp4"]
    queue.close()


def test_a_model_that_is_not_here_cannot_be_tried(models: Models) -> None:
    with pytest.raises(RequestError, match="--download"):
        models.tests.begin(NAME, "me")
    assert models.tests.state(ENGLISH, NAME) == "" and model_list.size_of(Path(__file__).parent) > 0


def test_files_are_looked_at_once_an_hour_unless_an_administrator_asks(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, looked = threading.Event(), []
    monkeypatch.setattr(zoo, "weights", lambda preset: (looked.append(preset.name), go.wait(60)))
    assert models.act(ENGLISH, "check", "tiny", admin=False) == ""
    assert models.act(ENGLISH, "check", "tiny", admin=False) == ""  # it is being done
    assert "less than an hour ago" in models.act(ENGLISH, "check", NAME, admin=False)  # one after the other
    go.set()
    until(lambda: not models.busy)
    assert "less than an hour ago" in models.act(ENGLISH, "check", "tiny", admin=False) and looked == ["tiny"]
    assert models.act(ENGLISH, "check", NAME, admin=False) == ""
    assert models.act(ENGLISH, "check", "tiny", admin=True) == ""
    until(lambda: not models.busy)
    assert sorted(looked) == sorted(["tiny", "tiny", NAME])
