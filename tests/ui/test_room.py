"""What cannot be made is refused before it is queued, with the way out, by what refuses programs too."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from memory_queue import MemoryQueue
from stepwise import Steps
from ui.test_handlers import SKIP, values

from opensora.pipelines import verdict
from opensora.pipelines.errors import RequestError
from opensora.pipelines.memory import Room as Memory
from opensora.pipelines.preflight import estimate
from opensora.pipelines.request import GenerationRequest
from opensora.ui.fields import FIELDS
from opensora.ui.handlers import SCREEN, Handlers
from opensora.ui.layout import create_demo
from opensora.ui.room import Room
from opensora.ui.words import LANGUAGES

LONG = {"length": "65f", "prompt": "a {red|green} ball"}
"""What does not fit."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which a clip of 17 frames fits and none of 65 does."""
    most = estimate(GenerationRequest("a red ball", length="17f")).bytes_memory
    monkeypatch.setattr(verdict, "room", lambda _: Memory(2 * most, most))


@pytest.fixture
def acts(tmp_path: Path) -> Iterator[Handlers]:
    queue = MemoryQueue(Steps(total=2), tmp_path)
    yield Handlers(queue, Room(tmp_path))
    queue.close()


def test_generate_refuses_a_red_verdict_with_its_sentence_and_a_way_out(acts: Handlers) -> None:
    assert "os-red" in acts.preflight(None, *values(**LONG))
    browser, refusal, *screen = acts.generate(None, {}, *values(**LONG))
    assert "It will not work as it is." in refusal and "are free now. Close other programs." in refusal
    assert "data-act='fit'" in refusal and "data-fill='1'" in refusal and "Make it fit" in refusal
    assert screen == [SKIP] * SCREEN and acts.queue.jobs(browser["owner"]) == []
    korean, w = {**browser, "language": "ko"}, LANGUAGES["ko"]
    _, refusal, *_ = acts.generate(korean, {}, *values(**LONG))
    assert w("verdict.red") in refusal and w("do.fit") in refusal and "free" not in refusal


def test_what_fits_is_filled_in_and_what_was_typed_stays(acts: Handlers) -> None:
    told, *inputs = acts.fit(None, *values(**LONG, negative_prompt="fog", seed="5"))
    got = dict(zip(FIELDS, inputs, strict=True))
    assert "Set the length to 17f instead of 65f." in told
    assert (got["prompt"], got["negative_prompt"], got["seed"]) == (LONG["prompt"], "fog", "5")
    assert got["length"]["value"] == "17f"
    browser, refusal, *_ = acts.generate(None, {}, *values(length="17f"))
    assert refusal == "" and len(acts.queue.jobs(browser["owner"])) == 1


def test_the_way_out_is_connected_where_the_verdict_and_the_refusal_are_shown(acts: Handlers) -> None:
    demo = create_demo(acts.queue, room=acts.room)
    shown = {block._id for block in demo.blocks.values() if block.elem_id in ("cost", "refusal")}
    fitting = {
        place
        for event in demo.fns.values()
        for place, kind in event.targets
        if kind == "select" and event.name == "fit"
    }
    assert len(shown) == 2 and fitting == shown


def test_nothing_else_that_makes_clips_passes_a_red_verdict(acts: Handlers) -> None:
    browser, refusal, shown, *_ = acts.generate(None, {}, *values(length="17f"))
    job = acts.queue.jobs(browser["owner"])[0].id
    _, refusal, *_ = acts.generate(browser, {**shown, "editing": job}, *values(**LONG))
    assert "data-act='fit'" in refusal and acts.queue.view(job, browser["owner"]).request.length == "17f"
    for _, refusal in (
        acts.several.drafts(browser, 3, *values(**LONG)),
        acts.several.everything(browser, 2, "4, 7", "", "", *values(**LONG)),
    ):
        assert "are free now" in refusal and "data-act='fit'" in refusal
    assert len(acts.queue.jobs(browser["owner"])) == 1


def test_a_job_that_no_longer_fits_is_not_queued_again(acts: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, _, shown, *_ = acts.generate(None, {}, *values(length="17f"))
    owner, again = browser["owner"], SimpleNamespace(act="duplicate", job=browser["job"])
    assert acts.act(browser, shown, again)[1] == "" and len(acts.queue.jobs(owner)) == 2
    monkeypatch.setattr(verdict, "room", lambda _: Memory(2000, 1000))
    refusal = acts.act(browser, shown, again)[1]
    assert "of memory" in refusal and "role='alert'" in refusal and len(acts.queue.jobs(owner)) == 2


def test_a_disk_without_room_is_refused_and_where_others_make_the_clips_it_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def full(folder: Path) -> Any:
        asked.append(folder)
        return SimpleNamespace(free=9000)

    monkeypatch.setattr(verdict.shutil, "disk_usage", full)
    request = GenerationRequest("a red ball", length="17f")
    with pytest.raises(RequestError, match=r"9 kB are free\. Make room first\."):
        Room(tmp_path).require(request)
    assert asked == [tmp_path]  # where the results go, not the folder that the server was started in
    elsewhere = Room(tmp_path, here=False)
    assert elsewhere.require(GenerationRequest("a red ball", length="65f")).resolution == "144p"
    assert "os-red" not in elsewhere.told(LANGUAGES["en"], GenerationRequest("a red ball", length="65f"))


def test_settings_that_fit_are_looked_for_once_at_a_time(tmp_path: Path) -> None:
    room = Room(tmp_path)
    request = GenerationRequest("a red ball", model="tiny", length="17f")
    with room._searching, pytest.raises(RequestError, match="being looked for already"):
        room.fit(request)
    assert room.fit(request).changes == {}
    with pytest.raises(RequestError, match="steps"):
        room.fit(GenerationRequest("a red ball", model="tiny", steps=-1))
    assert room.fit(request).changes == {}  # a refusal leaves the way free
