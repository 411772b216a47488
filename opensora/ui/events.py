"""How events of the page are sent, and the pieces of script that they run in the browser."""

from pathlib import Path
from typing import Any

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
"""Of every event: the page draws its own progress and is no API. Handlers are quick, so each is answered in its own
request: answers that come through gradio's queue share one stream per visitor, and an event that begins in the moment
in which that stream is closed for want of others is never answered."""
LATEST: dict[str, Any] = {**QUIET, "show_progress": "minimal", "trigger_mode": "always_last"}
"""Of events that work out a note on the settings: the old one is dim until the new one is there."""

TO_RESULT = "() => { if (innerWidth < 820) document.querySelector('#result').scrollIntoView({behavior: 'smooth'}) }"
"""On a small screen the result is below the settings: go there."""
TO_PANEL = (
    "() => { const top = document.querySelector('#result');"
    " if (top.getBoundingClientRect().top < 0 || innerWidth < 820)"
    " top.scrollIntoView({behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth'}) }"
)
"""Something is shown that was asked for below: show the panel if it is out of sight."""
TO_COMPOSER = (
    "() => { const top = document.querySelector('#prompt');"
    " if (top.getBoundingClientRect().top < 0) top.scrollIntoView({behavior: 'smooth'}) }"
)
"""The settings have changed: show them if they are out of sight."""
NOTHING = "() => ['']"
"""Empties a note."""
CLICKS = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
"""Clicks on buttons inside a panel, with what the button is for."""
LIVE = "element.setAttribute('role', 'status'); element.setAttribute('aria-live', 'polite');"
"""Makes a panel one whose changes are read out."""
