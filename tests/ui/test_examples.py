"""Examples show what was made of them before, say by which weights, and fill in their settings."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from memory_queue import MemoryQueue
from stepwise import Steps
from ui.test_handlers import values
from ui.test_restore import got, write_clip

from opensora.datasets.video_io import read_metadata
from opensora.ui import examples, room
from opensora.ui.browser import identity
from opensora.ui.handlers import Handlers
from opensora.ui.web import add_page
from opensora.ui.words import ENGLISH, LANGUAGES

BALL = examples.EXAMPLES[0]


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the clip of the first example alone."""
    monkeypatch.setattr(examples, "folder", lambda: tmp_path)
    write_clip(tmp_path / "ball.mp4", prompt=BALL.prompt)
    return tmp_path


def click(name: str) -> SimpleNamespace:
    return SimpleNamespace(act="example", name=name)


@pytest.mark.parametrize("example", examples.EXAMPLES, ids=examples.BY_NAME)
def test_every_example_is_a_request_that_can_be_served(example: examples.Example) -> None:
    assert example.request().prompt == example.prompt and example.request().seed == example.seed


def test_the_clips_that_come_along_carry_the_examples_requests_and_are_small() -> None:
    there = [example for example in examples.EXAMPLES if example.clip.is_file()]
    assert sum(example.clip.stat().st_size for example in there) <= examples.MOST_BYTES
    for example in there:
        settings = read_metadata(example.clip)["settings"]
        assert (settings["prompt"], settings["seed"]) == (example.prompt, example.seed)


def test_pictures_are_loaded_when_they_come_into_sight_and_an_example_without_one_is_there_too(clips: Path) -> None:
    html = examples.gallery(ENGLISH)
    assert html.count("data-act='example'") == len(examples.EXAMPLES)
    assert html.count("<img") == html.count("loading='lazy'") == 1 and "<video" not in html


def test_a_click_fills_in_the_settings_and_shows_the_clip_as_made_before(clips: Path, tmp_path: Path) -> None:
    queue = MemoryQueue(Steps(), tmp_path / "out")
    acts, browser = Handlers(queue), identity(None)
    shown, told, *updates = examples.choose(browser, {}, click("ball"))
    assert told == "" and (got(updates)["prompt"], got(updates)["seed"]) == (BALL.prompt, str(BALL.seed))
    shown, panel, *_ = acts.poll(browser, shown)
    assert "examples/ball.mp4" in panel and "earlier weights" in panel and queue.jobs(browser["owner"]) == []
    shown, panel, *_ = acts.poll({**browser, "job": "another"}, shown)
    assert "examples/" not in panel  # what is shown next takes its place
    shown, _, *updates = examples.choose(browser, {}, click("star"))
    assert shown["example"] is None and got(updates)["prompt"] == examples.EXAMPLES[1].prompt
    assert examples.choose(browser, {}, click("../../etc/passwd"))[0] == {}
    queue.close()


def test_generate_leaves_the_example(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "require_weights", lambda bundle: None)
    queue = MemoryQueue(Steps(), tmp_path / "out")
    browser = identity(None)
    shown = examples.choose(browser, {}, click("ball"))[0]
    _, refusal, shown, panel, *_ = Handlers(queue).generate(browser, shown, *values())
    assert refusal == "" and "examples/" not in panel and shown["example"] is None
    queue.close()


@pytest.mark.parametrize("w", LANGUAGES.values(), ids=LANGUAGES)
def test_a_clip_says_whether_the_weights_here_made_it(clips: Path, w: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "_weights_here", lambda: {"a", "b"})
    assert examples.made_here({"plan": {"weights": {"stdit": "a", "vae": "b"}}})
    for plan in ({}, {"weights": {}}, {"weights": {"stdit": "c"}}):
        assert not examples.made_here({"plan": plan})
    assert w("example.earlier") in examples.panel(w, "ball")


def test_the_clips_are_served_and_nothing_else(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    queue = MemoryQueue(Steps(), tmp_path / "out")
    client = TestClient(add_page(FastAPI(), queue, tmp_path / "out"))
    assert client.get("/examples/ball.mp4").content == (clips / "ball.mp4").read_bytes()
    assert client.get("/examples/ball.jpg").headers["content-type"] == "image/jpeg"
    for name in ("secret.mp4", "star.mp4", "ball.png", "..%2fball.mp4"):
        assert client.get(f"/examples/{name}").status_code == 404
    queue.close()
