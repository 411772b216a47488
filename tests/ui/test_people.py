"""Whose jobs a page shows: those of the person who logged in, whatever the browser says."""

from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from opensora.jobs.queue import JobState, JobView
from opensora.pipelines.request import GenerationRequest
from opensora.server.sessions import Identity
from opensora.ui.browser import owner_of
from opensora.ui.people import answering, own, pressed
from opensora.ui.restore import copies
from opensora.ui.words import ENGLISH


def asked_by(person: str | None) -> Any:
    """A request as gradio tells of it."""
    return SimpleNamespace(request=SimpleNamespace(state=SimpleNamespace(person=person)))


def test_a_person_who_logged_in_is_the_owner_whatever_the_browser_says() -> None:
    for browser in (None, {}, {"owner": "somebody else", "job": "1"}, "text"):
        assert owner_of(own(browser, asked_by("mina"))) == "mina"  # type: ignore[arg-type]  # what a browser may send
    assert owner_of(own({"owner": "browser"}, asked_by(None))) == "browser"
    assert owner_of(own({"owner": "browser"}, SimpleNamespace(request=None))) == "browser"  # type: ignore[arg-type]


def test_handlers_are_told_the_owner_their_values_and_the_button() -> None:
    def echo(*values: Any) -> Any:
        return values

    browser, *rest = answering(echo)(asked_by("mina"), {"owner": "x"}, 1, 2)
    assert browser["owner"] == "mina" and rest == [1, 2]
    browser, *rest = pressed(echo)(asked_by("mina"), "event", None, 1)
    assert browser["owner"] == "mina" and rest == [1, "event"]


@pytest.mark.parametrize(
    ("headers", "identity", "expected"),
    [
        ({"host": "127.0.0.1:8123"}, Identity("me"), ("http://127.0.0.1:8123/v1/videos", False)),
        (
            {"host": "clips.example.com", "origin": "https://clips.example.com"},
            Identity("mina", user="mina"),
            ("https://clips.example.com/v1/videos", True),
        ),
        ({"host": "10.0.0.5:7860", "origin": "null"}, Identity("me"), ("http://10.0.0.5:7860/v1/videos", False)),
        ({"host": "10.0.0.5:7860"}, None, None),
    ],
)
def test_a_page_knows_how_programs_reach_its_server(
    headers: dict[str, str], identity: Identity | None, expected: tuple[str, bool] | None
) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/gradio_api/run/poll",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "state": {"identity": identity, "person": None if identity is None else identity.user},
    }
    asked: Any = SimpleNamespace(request=Request(scope))
    browser = own({"owner": "browser", "rest": {"address": "http://evil.example", "key": False}}, asked)
    assert browser is not None
    assert browser["rest"] == (None if expected is None else dict(zip(("address", "key"), expected, strict=True)))


def test_a_clip_is_copied_as_curl_for_this_server_or_not_at_all_where_programs_are_not_let_in() -> None:
    view = JobView("abc", "me", GenerationRequest("a ball", model="tiny", seed=3).validated(), JobState.DONE)
    html = unescape(copies(ENGLISH, view, {"address": "https://clips.example.com/v1/videos", "key": True}))
    assert 'curl -X POST https://clips.example.com/v1/videos -H "Authorization: Bearer $KEY"' in html
    closed = copies(ENGLISH, view, None)
    assert "curl" not in closed and "torchrun" in closed
