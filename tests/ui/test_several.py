"""Drafts, grids and their sheet; a draft is made in full from the same seed."""

from types import SimpleNamespace
from typing import Any

import pytest
from stepwise import Steps
from ui.test_handlers import values

from opensora.pipelines.request import RequestError
from opensora.ui import several
from opensora.ui.handlers import Handlers
from opensora.ui.words import ENGLISH


def test_drafts_take_a_third_of_the_steps_and_one_is_made_in_full(acts: Handlers, steps: Steps) -> None:
    steps.go.release(100)
    browser, refusal = acts.several.drafts(None, 3, *values(seed="40"))
    jobs = acts.queue.batch(browser["batch"], browser["owner"])
    assert refusal == "" and [(job.request.seed, job.request.steps) for job in jobs] == [(40, 10), (41, 10), (42, 10)]
    for job in jobs:
        acts.queue.wait(job.id, browser["owner"], timeout=60)
    panel = acts.poll(browser, {})[1]
    assert "Drafts · 3 of 3 finished" in panel and panel.count("Make in full") == 3 and panel.count("<video") == 3
    act = SimpleNamespace(act="promote", job=jobs[1].id)
    browser, refusal, *_ = acts.act(browser, {}, act)
    made = acts.queue.view(browser["job"], browser["owner"])
    assert refusal == "" and browser["batch"] is None
    used = (made.request.seed, made.request.candidate, made.request.steps)
    assert used == (7, 3, 30)  # the generator of tests says that it used seed 7 and kept the third picture


def test_a_grid_has_every_combination_and_says_what_is_varied(acts: Handlers) -> None:
    browser, refusal = acts.several.everything(None, 2, "4, 7", "10 20", "", *values(seed="1"))
    jobs = acts.queue.batch(browser["batch"], browser["owner"])
    assert refusal == ""
    assert [(j.request.guidance, j.request.steps, j.request.seed) for j in jobs] == [
        (g, s, seed) for g in (4.0, 7.0) for s in (10, 20) for seed in (1, 2)
    ]
    html = several.sheet(ENGLISH, browser, jobs)
    assert "Seed 2 · Guidance 7.0 · Steps 20" in html and "Make in full" not in html
    browser, refusal, *_ = acts.act(browser, {}, SimpleNamespace(act="stop-batch"))
    assert refusal == "" and all(
        job.stopping or job.state.finished for job in acts.several.queue.jobs(browser["owner"])
    )


def test_the_costs_of_drafts_and_of_all_are_known_before(acts: Handlers) -> None:
    html = acts.several.cost(None, True, 4, "", "", "", *values(prompt=""))
    assert "4 drafts" in html and "Then one in full" in html and "All 4 in full" in html
    assert "role='alert'" in acts.several.cost(None, True, 4, "x", "", "", *values())
    assert acts.several.cost(None, False, 4, "", "", "", *values()) == {"__type__": "update"}  # nobody sees it


@pytest.mark.parametrize("prompt", ["", "  ", None])
def test_drafts_and_grids_without_a_prompt_are_refused(acts: Handlers, prompt: str | None) -> None:
    for browser, refusal in (
        acts.several.drafts(None, 2, *values(prompt=prompt)),
        acts.several.everything(None, 2, "", "", "", *values(prompt=prompt)),
    ):
        assert "The prompt is empty" in refusal and "batch" not in browser
        assert acts.queue.jobs(browser["owner"]) == []


def test_drafts_and_grids_draw_one_word_for_all_their_clips(acts: Handlers) -> None:
    drawn = set()
    for _ in range(40):
        one, _ = acts.several.drafts(None, 2, *values(prompt="a {red|blue} kite"))
        other, _ = acts.several.everything(None, 2, "", "", "", *values(prompt="a {red|blue} kite"))
        for browser in (one, other):
            prompts = {job.request.prompt for job in acts.queue.batch(browser["batch"], browser["owner"])}
            assert len(prompts) == 1
            drawn |= prompts
        if len(drawn) == 2:
            break
    assert drawn == {"a red kite", "a blue kite"}


@pytest.mark.parametrize(("text", "whole"), [("x", False), ("nan", False), ("2.5", True), ("1,,b", False)])
def test_numbers_of_a_grid_that_are_none_are_a_sentence(text: str, whole: bool) -> None:
    with pytest.raises(RequestError, match=r"expected (whole )?numbers"):
        several.numbers("steps", text, whole)


@pytest.mark.parametrize(
    "browser", [None, {}, {"batch": 5}, {"batch": "x", "owner": 3}, {"full": 1}, {"full": {"a": "b"}}]
)
def test_what_a_browser_says_of_batches_is_not_trusted(acts: Handlers, browser: Any) -> None:
    assert several.batch_of(acts.queue, browser) == []
    assert "Your clip appears here" in acts.poll(browser, {})[1]


def test_a_second_run_says_whether_it_is_equal(acts: Handlers, steps: Steps) -> None:
    steps.go.release(100)
    browser, *_ = acts.generate(None, {}, *values())
    acts.queue.wait(browser["job"], browser["owner"], timeout=60)
    first = browser["job"]
    browser, refusal, *_ = acts.act(browser, {}, SimpleNamespace(act="again", job=first))
    assert refusal == "" and browser["job"] != first
    acts.queue.wait(browser["job"], browser["owner"], timeout=60)
    assert "byte for byte" in acts.poll(browser, {})[1]
    acts.queue.remove(first, browser["owner"])
    assert "no longer there" in acts.poll(browser, {})[1]
