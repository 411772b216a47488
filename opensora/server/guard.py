"""Looks at every request before anything else does: is it for this server, from its own page, by whom, how often.

It is plain ASGI around the whole application, so nothing that is mounted later can forget to ask it.
"""

import math
import re
import socket
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opensora.server.errors import ApiError
from opensora.server.rates import RateLimits, network
from opensora.server.sessions import Identity, Sessions
from opensora.server.settings import ServerSettings, is_loopback
from opensora.server.uploads import MAX_BODY
from opensora.server.users import UsersError

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
OPEN_PATHS = ("/healthz", "/readyz", "/login", "/logout", "/favicon.ico", "/robots.txt")
"""What everybody may ask."""
PROGRAM_PATHS = re.compile(r"/(v1|mcp|metrics|docs|openapi\.json)(/|$)")
"""What is for programs: without a login it is for those of this machine."""
HEAVY_PATHS = re.compile(r"/(v1/videos|gradio_api/upload|gradio_api/call/.*)/?")
"""Where requests for clips and files arrive."""
LONGEST_KIND = 250
"""Letters of the type of a multipart body, with what divides its parts."""
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
"""What pages may load: only what is here. Gradio's page needs inline scripts."""


class Guard:
    """ASGI middleware.

    Args:
        app: everything else.
        settings: how the server is reached.
        sessions: tells who asks.
        rates: counts.
        closed: paths that are answered as if they were not there.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        sessions: Sessions,
        rates: RateLimits,
        closed: re.Pattern[str] | None = None,
    ) -> None:
        self._app, self._settings, self._sessions, self._rates, self._closed = app, settings, sessions, rates, closed
        own = socket.gethostname().lower()
        self._names = {own, f"{own}.local", "localhost", settings.host.lower(), *map(str.lower, settings.allow_hosts)}
        self._headers = _security_headers(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        send = self._with_headers(send)
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            path = scope["path"]
            if CONTROL.search(path):
                raise ApiError(400, "invalid_request", "This address holds characters that no address has.")
            if scope["type"] != "http" or (self._closed is not None and self._closed.match(path)):
                raise ApiError(404, "not_found", "There is nothing at this address.")
            identity = await run_in_threadpool(self._identify, headers)
            self._check_origin(scope, headers, identity)
            self._check_rate(scope, headers, identity)
            _check_boundary(headers)
            if identity is None and not self._is_open(path):
                if self._sessions.users is not None and _wants_page(scope, headers):
                    target = path + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
                    await RedirectResponse(f"/login?next={quote(target)}", 303)(scope, receive, send)
                    return
                raise self._unknown()
        except ApiError as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await error.response()(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["identity"] = identity
        state["person"] = identity.owner if identity is not None and identity.user is not None else None
        state["admin"] = identity is not None and identity.admin
        await self._app(scope, receive, send)

    def _identify(self, headers: Headers) -> Identity | None:
        try:
            return self._sessions.identify(headers)
        except UsersError as error:
            raise ApiError(503, "unavailable", "The server's list of users cannot be read now.") from error

    def _is_open(self, path: str) -> bool:
        if path in OPEN_PATHS:
            return True
        return self._sessions.users is None and not PROGRAM_PATHS.match(path)

    def _unknown(self) -> ApiError:
        if self._sessions.users is not None:
            how = "Log in, or send an API key as Authorization: Bearer os_…"
        else:
            how = (
                "This server is open to others and has no users, so its programming interface is closed. Start it "
                "with --users FILE, and make keys with: python -m opensora users key NAME --file FILE"
            )
        return ApiError(401, "authentication", how, headers={"WWW-Authenticate": "Bearer"})

    def _check_host(self, headers: Headers) -> None:
        """Refuse names of strangers: a page of theirs whose name points here would count as this server's own."""
        if self._sessions.users is not None:
            return  # a stranger's name has no cookie and no key
        host = headers.get("host", "")
        name = _hostname(host)
        known = name in self._names or host.lower() in self._names or is_loopback(name)
        if not known and not (not self._settings.local and re.fullmatch(r"[0-9.]+|[0-9a-f:]+", name)):
            raise ApiError(
                421,
                "host",
                f"Got a request for {host[:80]!r}, which is no name of this server. If it is one, start it with "
                f"--allow-host {name[:80] or 'NAME'}.",
            )

    def _check_origin(self, scope: Scope, headers: Headers, identity: Identity | None) -> None:
        """Refuse changes that another site's page asks a browser for."""
        if scope["method"] in SAFE_METHODS or (identity is not None and identity.by_key):
            return
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site in ("same-origin", "none"):
            return
        if site is None and origin is None:
            return  # no browser
        if origin is not None:
            there = _netloc(origin)
            allowed = {headers.get("host", "").lower(), *map(str.lower, self._settings.allow_hosts)}
            if there and there in allowed:
                return
        raise ApiError(
            403,
            "origin",
            f"A page of {(origin or 'another site')[:80]} asked for this, not one of this server. Behind a proxy, let "
            "it pass the Host header on, or start the server with --allow-host NAME.",
        )

    def _check_rate(self, scope: Scope, headers: Headers, identity: Identity | None) -> None:
        path = scope["path"]
        address = network((scope.get("client") or ("", 0))[0])
        who = address if identity is None else identity.owner
        if path == "/login" and scope["method"] == "POST":
            self._rates.check("logins", address)
        if PROGRAM_PATHS.match(path):
            self._rates.check("requests", who)
        heavy = scope["method"] == "POST" and HEAVY_PATHS.fullmatch(path) is not None
        if heavy:
            self._rates.check("heavy", who)
        if heavy or (scope["method"] == "POST" and path == "/mcp"):  # whose messages may hold pictures
            self._rates.check("megabytes", who, _megabytes(headers))

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]  # gradio lets pages of any origin read answers; none is asked to here
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        return sending


def _security_headers(settings: ServerSettings) -> dict[str, str]:
    ancestors = " ".join(("'self'", *settings.framed_by))
    headers = {
        "Content-Security-Policy": f"{POLICY}; frame-ancestors {ancestors}",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
    }
    if not settings.framed_by:
        headers |= {"X-Frame-Options": "SAMEORIGIN", "Cross-Origin-Opener-Policy": "same-origin"}
    return headers


def _check_boundary(headers: Headers) -> None:
    """Refuse a multipart body that no reader takes: gradio fails at what divides the parts if it is too long."""
    kind = headers.get("content-type", "")
    if kind.lower().startswith("multipart/") and len(kind) > LONGEST_KIND:
        raise ApiError(400, "invalid_request", "The boundary of this multipart body is too long; use up to 70 letters.")


def _megabytes(headers: Headers) -> int:
    """Size of a body, rounded up; the largest that is taken where it is not said."""
    told = headers.get("content-length", "")
    size = int(told) if told.isascii() and told.isdecimal() and len(told) < 16 else MAX_BODY
    return max(1, math.ceil(min(size, MAX_BODY) / 2**20))


def _hostname(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _wants_page(scope: Scope, headers: Headers) -> bool:
    return scope["method"] == "GET" and "text/html" in headers.get("accept", "")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
