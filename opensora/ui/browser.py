"""What the browser keeps between visits. It comes back from there, so nothing of it is trusted."""

import secrets
from typing import Any

from opensora.ui import words
from opensora.ui.words import Words

Browser = dict[str, Any]
"""``owner``, an unguessable id; ``job``, the id of the job that is shown, or ``batch`` of the sheet; ``language``;
``presets`` by name. ``rest``, how programs reach the server, is said anew by every request."""


def identity(browser: Browser | None) -> Browser:
    """The browser's own state, with an unguessable owner id."""
    if isinstance(browser, dict) and isinstance(browser.get("owner"), str):
        return browser
    return {"owner": secrets.token_urlsafe(16), "job": None}


def owner_of(browser: Browser | None) -> str:
    """Whose jobs are shown; nobody's for a page without identity."""
    owner = browser.get("owner") if isinstance(browser, dict) else None
    return owner if isinstance(owner, str) else ""


def job_of(browser: Browser | None) -> str:
    """The job that is shown."""
    job = browser.get("job") if isinstance(browser, dict) else None
    return job if isinstance(job, str) else ""


def words_of(browser: Browser | None) -> Words:
    """The language of the page."""
    return words.of(browser.get("language") if isinstance(browser, dict) else None)
