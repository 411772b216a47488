"""Whose page it is: that of the person who logged in, or of the browser where nobody has to."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from opensora.ui.browser import Browser, identity

Handler = Callable[..., Any]


def person_of(request: gr.Request) -> str | None:
    """Who logged in; ``None`` where the server has no login."""
    state = getattr(getattr(request, "request", None), "state", None)
    person = getattr(state, "person", None)
    return person if isinstance(person, str) else None


def admin_of(request: gr.Request) -> bool:
    """Whether somebody may change what is installed on the server; nobody where the server does not say."""
    state = getattr(getattr(request, "request", None), "state", None)
    return getattr(state, "admin", False) is True


def name_of(request: gr.Request) -> str:
    """Name of who logged in; empty where the server has no login."""
    identity = getattr(getattr(getattr(request, "request", None), "state", None), "identity", None)
    name = getattr(identity, "user", None)
    return name if isinstance(name, str) else ""


def own(browser: Browser | None, request: gr.Request) -> Browser | None:
    """The browser's state with the person who logged in as owner, and with how programs reach this server, whatever
    the browser says."""
    person = person_of(request)
    if person is not None:
        browser = {**identity(browser), "owner": person}
    return {**browser, "rest": rest_of(request)} if isinstance(browser, dict) else browser


def rest_of(request: gr.Request) -> dict[str, Any] | None:
    """Where programs send requests for videos, as this browser reaches the server, and whether they need a key;
    ``None`` where they may not."""
    asked = getattr(request, "request", None)
    known = getattr(getattr(asked, "state", None), "identity", None)
    if asked is None or known is None:
        return None
    address = urlsplit(str(asked.base_url))
    origin = asked.headers.get("origin", "")  # as the browser sees it, also behind a proxy that speaks https
    base = origin if origin.startswith(("https://", "http://")) else f"{address.scheme}://{address.netloc}"
    return {"address": f"{base}{address.path.rstrip('/')}/v1/videos", "key": name_of(request) != ""}


def answering(handler: Handler) -> Handler:
    """A handler of the browser's state and values, told whose page it is."""

    def answer(request: gr.Request, browser: Browser | None, *values: Any) -> Any:
        return handler(own(browser, request), *values)

    return answer


def told(event: gr.EventData | None, name: str) -> str:
    """What a button says by its data; nothing for events without, such as those of a timer."""
    try:
        return str(getattr(event, name))
    except (AttributeError, TypeError):
        return ""


def managing(handler: Handler) -> Handler:
    """As :func:`pressed`, for a handler that is also told whether that person may change what is installed."""

    def answer(request: gr.Request, event: gr.EventData, browser: Browser | None, *values: Any) -> Any:
        return handler(own(browser, request), *values, admin_of(request), event)

    return answer


def pressed(handler: Handler) -> Handler:
    """As :func:`answering`, for a handler that is also told which button was pressed."""

    def answer(request: gr.Request, event: gr.EventData, browser: Browser | None, *values: Any) -> Any:
        return handler(own(browser, request), *values, event)

    return answer
