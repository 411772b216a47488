"""Whose jobs a page shows: those of the person who logged in, whatever the browser says."""

from types import SimpleNamespace
from typing import Any

from opensora.ui.browser import owner_of
from opensora.ui.people import answering, own, pressed


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
