"""Chat completions of an OpenAI-compatible endpoint, over httpx, that come in time and in size or not at all."""

import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opensora.pipelines.errors import RefineError
from opensora.sentences import say

if TYPE_CHECKING:
    import httpx

VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
"""Either of them sets an endpoint up."""
PUBLIC_URL = "https://api.openai.com/v1"
"""Where a key is for when no address is given."""
PUBLIC_MODEL = "gpt-4o-mini"
"""Model that is asked for when none is named; local servers mostly have one and take any name."""
CONNECT_SECONDS = 5.0
"""Until a connection has to be there."""
TOTAL_SECONDS = 60.0
"""Until all answers have to be there, whatever the endpoint does meanwhile."""
RETRY_SECONDS = 0.5
"""Pause before the one retry after an error of the server."""
MAX_BYTES = 256 * 1024
"""Of an answer."""


@dataclass(frozen=True)
class Endpoint:
    """Where chat completions come from."""

    url: str = field(repr=False)
    """Address up to and without ``/chat/completions``."""
    key: str = field(repr=False)
    """Sent as the bearer token; empty for none."""
    model: str
    """Name of the model."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        except ValueError:
            good = False
        if not good or not self.url.isprintable():
            raise RefineError(say("endpoint.url"))
        if not (self.key.isascii() and self.key.isprintable()):
            raise RefineError(say("endpoint.key.odd"))


def from_environment() -> Endpoint | None:
    """The endpoint of ``OPENAI_BASE_URL``, ``OPENAI_API_KEY`` and ``OPENAI_MODEL``; ``None`` without the first two.

    Raises:
        RefineError: an address or a key that cannot be one.
    """
    url, key, model = (os.environ.get(f"OPENAI_{name}", "").strip() for name in ("BASE_URL", "API_KEY", "MODEL"))
    return Endpoint(url or PUBLIC_URL, key, model or PUBLIC_MODEL) if url or key else None


def ask(endpoint: Endpoint, system: str, texts: list[str]) -> list[str]:
    """The answer to each text.

    Raises:
        RefineError: the endpoint cannot be reached, refuses, fails twice, answers nonsense, too much, or not in time.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_ask(endpoint, system, texts))
    with ThreadPoolExecutor(1) as pool:  # the caller's thread runs an event loop already
        return pool.submit(asyncio.run, _ask(endpoint, system, texts)).result()


async def _ask(endpoint: Endpoint, system: str, texts: list[str]) -> list[str]:
    import httpx

    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {endpoint.key}"} if endpoint.key else {})
    timeout = httpx.Timeout(TOTAL_SECONDS, connect=CONNECT_SECONDS)
    try:
        async with asyncio.timeout(TOTAL_SECONDS), httpx.AsyncClient(headers=headers, timeout=timeout) as client:
            return [await _answer(client, endpoint, system, text) for text in texts]
    except httpx.ConnectTimeout:
        raise _unreachable() from None
    except (TimeoutError, httpx.TimeoutException):
        raise RefineError(say("endpoint.late", seconds=f"{TOTAL_SECONDS:g}")) from None
    except (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol):
        raise _unreachable() from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise RefineError(say("endpoint.broke", kind=type(error).__name__)) from None


def _unreachable() -> RefineError:
    return RefineError(say("endpoint.away"))


async def _answer(client: "httpx.AsyncClient", endpoint: Endpoint, system: str, text: str) -> str:
    body = {
        "model": endpoint.model,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}],
        "stream": False,
    }
    status, data = await _post(client, f"{endpoint.url.rstrip('/')}/chat/completions", body)
    if status >= 500:
        await asyncio.sleep(RETRY_SECONDS)
        status, data = await _post(client, f"{endpoint.url.rstrip('/')}/chat/completions", body)
    if status != 200:
        raise _refused(status)
    try:
        content = json.loads(data)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        content = None
    if not isinstance(content, str):
        raise RefineError(say("endpoint.other"))
    return content


async def _post(client: "httpx.AsyncClient", url: str, body: dict[str, Any]) -> tuple[int, bytes]:
    """Status and body of an answer."""
    data = bytearray()
    async with client.stream("POST", url, json=body) as response:
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > MAX_BYTES:
                raise RefineError(say("endpoint.large", most=MAX_BYTES // 1024))
    return response.status_code, bytes(data)


def _refused(status: int) -> RefineError:
    if status in (401, 403):
        return RefineError(say("endpoint.key", status=status))
    if status == 404:
        return RefineError(say("endpoint.none"))
    if status == 429:
        return RefineError(say("endpoint.slow"))
    return RefineError(say("endpoint.status", status=status))
