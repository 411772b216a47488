"""The page in the browser's language, and the switch to another."""

from html import escape
from typing import Any

import gradio as gr

from opensora.ui import choices, words
from opensora.ui.browser import Browser, identity, words_of
from opensora.ui.words import LANGUAGES, Words

TELL = "browser => { document.documentElement.lang = (browser && browser.language) || 'en' }"
"""Tells screen readers and the browser which language the page is in."""


def settled(browser: Browser | None, accept: str | None, chosen: str | None = None) -> Browser:
    """The browser's state with a language: the one chosen, the one from before, or the one that it likes best.

    Args:
        accept: its ``Accept-Language`` header.
    """
    browser = identity(browser)
    before = browser.get("language")
    known = next((code for code in (chosen, before) if isinstance(code, str) and code in LANGUAGES), None)
    return {**browser, "language": known or words.preferred(accept)}


def head(w: Words, person: str = "") -> str:
    """The name of the page, the switch of languages, and the way out for a person who logged in."""
    switch = "".join(
        f"<button type='button' data-act='language' data-language='{code}' lang='{code}' "
        f"aria-pressed='{str(code == w.code).lower()}'>{escape(other.name)}</button>"
        for code, other in LANGUAGES.items()
    )
    leave = (
        f"<form class='os-leave' method='post' action='logout'><span>{escape(person)}</span>"
        f"<button class='os-button os-small'>{w('logout')}</button></form>"
    )
    return (
        f"<header><h1>Open-Sora</h1><p>{w('tagline')}</p></header><div class='os-row os-head-tools'>"
        f"<div class='os-languages' role='group' aria-label='{w('language')}'>{switch}</div>"
        f"{leave if person else ''}</div><div id='drop-here' class='os-drop' hidden>{w('restore.drop')}</div>"
    )


KEYS = {"keys.generate": "Ctrl+Enter, G", "keys.prompt": "P", "keys.random": "R", "keys.search": "H", "keys.play": "␣"}
"""Keys of ``page.js`` by what they do."""


def keys(w: Words) -> str:
    """Which keys do what, and the switch without which single ones do nothing: they are typed by mistake, and spoken by
    people who dictate."""
    rows = "".join(f"<div><dt><kbd>{escape(key)}</kbd></dt><dd>{w(name)}</dd></div>" for name, key in KEYS.items())
    switch = f"<label class='os-switch'><input type='checkbox' id='single-keys'> {w('keys.single')}</label>"
    return f"<details class='os-more'><summary>{w('keys')}</summary>{switch}<dl class='os-facts'>{rows}</dl></details>"


def choose_resolution(browser: Browser | None, model: str, resolution: str, ratio: str) -> Any:
    """Aspect ratios with the pixel sizes of a resolution."""
    offered = choices.ratios(words_of(browser), model, resolution)
    values = [value for _, value in offered]
    return gr.update(choices=offered, value=ratio if ratio in values else values[0])
