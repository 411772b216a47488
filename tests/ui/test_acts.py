"""What a person is told of what was pressed: it came too late, another model was chosen, a job began elsewhere."""

import pytest
from stepwise import Steps
from ui.test_handlers import SKIP, pressed, values

from opensora.ui import choices, handlers
from opensora.ui.again import fill
from opensora.ui.fields import FIELDS, request_of
from opensora.ui.handlers import SCREEN, Handlers


def test_a_change_that_comes_too_late_is_said(acts: Handlers, steps: Steps) -> None:
    browser, _, shown, *_ = acts.generate(None, {}, *values())
    first = browser["job"]
    steps.go.release(2)
    acts.queue.wait(first, browser["owner"], timeout=60)
    for act, job in (("pause", first), ("up", first), ("remove", first), ("delete", "gone"), ("duplicate", "gone")):
        _, told, *screen = acts.act(browser, shown, pressed(act, job))
        assert "came too late" in told and len(screen) == SCREEN, act
    for act in ("again", "promote"):
        _, told, *_ = acts.act(browser, shown, pressed(act, "gone"))
        assert "no longer there" in told, act
    assert acts.act(browser, shown, pressed("pin", first))[1] == ""


def test_another_model_that_was_chosen_is_told(acts: Handlers, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    steps.go.release(2)
    browser, *_ = acts.generate(None, {}, *values())
    acts.queue.wait(browser["job"], browser["owner"], timeout=60)
    _, told, *inputs = fill(acts.queue, browser, {}, pressed("circle", browser["job"], time="0", file="0"))
    chosen = dict(zip(FIELDS, inputs, strict=True))["model"]
    title = choices.zoo.PRESETS[chosen].title
    assert chosen != "tiny" and f"cannot do this, so {title}" in told and "to download" in told
    assert fill(acts.queue, browser, {}, pressed("continue", browser["job"], time="0", file="0"))[1] == ""


def test_an_idle_page_looks_now_and_then_and_finds_what_began_elsewhere(acts: Handlers) -> None:
    browser = {"owner": "me", "job": None}
    shown, *_, timer, _, _, _ = acts.poll(browser, {})
    assert (timer.active, timer.value) == (True, handlers.IDLE_SECONDS) and handlers.IDLE_SECONDS >= 30
    assert acts.poll(browser, shown)[1:] == (SKIP,) * (SCREEN - 1)  # a look that finds nothing new changes nothing
    acts.queue.submit(request_of(values(prompt="a boat from a phone")), "me")
    shown, *_, timer, _, _, _ = acts.poll(browser, shown)
    assert timer.value == handlers.POLL_SECONDS and "a boat from a phone" in shown["waiting"]
