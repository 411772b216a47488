"""The server's application: health, REST, MCP, metrics and login behind the guard. The page is mounted later."""

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.routing import Route

from opensora import __version__
from opensora.jobs.queue import JobQueue
from opensora.server import kept_secrets
from opensora.server.errors import ApiError
from opensora.server.guard import Guard
from opensora.server.login import Tell, in_english, login_router
from opensora.server.mcp_tools import McpTools
from opensora.server.metrics import CountRequests, Metrics
from opensora.server.rates import RateLimits
from opensora.server.rest import loras_router, rest_router
from opensora.server.room import Doorkeeper
from opensora.server.sessions import Sessions
from opensora.server.settings import ServerSettings
from opensora.server.uploads import MAX_BODY
from opensora.server.videos import Videos, describe
from opensora.server.webhooks import Webhooks

log = logging.getLogger(__name__)

WEBHOOKS = ".webhooks"
"""Folder below that of the results: who is still to be told of a job."""


def create_server(
    queue: JobQueue,
    settings: ServerSettings,
    closed: re.Pattern[str] | None = None,
    *,
    made_here: bool = True,
    tell: Tell = in_english,
) -> tuple[FastAPI, Videos]:
    """The application without the page, and the programs' jobs.

    Args:
        queue: makes the clips.
        settings: who reaches the server, and how.
        closed: paths of the page's library that nobody may ask.
        made_here: whether all clips are made on this machine, so that its memory decides what is taken.
        tell: says sentences in the language of a browser, for the page where people log in.

    Raises:
        ValueError: the server's own secrets or the users file are damaged.
        OSError: they cannot be read.
    """
    sessions = Sessions(settings, kept_secrets.load(settings.output_dir))
    if sessions.users is not None:
        sessions.users.all()
    webhooks = _webhooks(queue, settings)
    videos = Videos(queue, Doorkeeper(settings.output_dir, made_here, queue.processes), webhooks)
    metrics, tools = Metrics(queue), McpTools(videos)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await tools.close()
        if webhooks is not None:
            webhooks.close()

    app = FastAPI(
        title="Open-Sora",
        version=__version__,
        summary="Text to video and image to video.",
        docs_url=None,
        redoc_url=None,
        max_body_size=MAX_BODY,
        lifespan=lifespan,
    )
    app.include_router(rest_router(videos, settings.rates))
    app.include_router(loras_router())
    app.include_router(login_router(sessions, tell))
    app.router.routes.append(Route("/mcp", tools, include_in_schema=False))
    _add_health(app, queue, metrics)
    _add_docs(app)
    _add_errors(app)
    app.add_middleware(Guard, settings=settings, sessions=sessions, rates=RateLimits(settings.rates), closed=closed)
    app.add_middleware(CountRequests, metrics=metrics)
    return app, videos


def _webhooks(queue: JobQueue, settings: ServerSettings) -> Webhooks | None:
    if not settings.webhook_hosts:
        return None
    assert settings.webhook_secret is not None
    folder = settings.output_dir / WEBHOOKS
    return Webhooks(queue, folder, settings.webhook_hosts, settings.webhook_secret, describe)


def _add_health(app: FastAPI, queue: JobQueue, metrics: Metrics) -> None:
    @app.get("/healthz", tags=["health"])
    def healthz() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"])
    def readyz() -> JSONResponse:
        """Whether clips can be made: the worker lives and has loaded the model; 503 and the reason if not."""
        trouble = queue.trouble()
        if trouble is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": trouble}, 503, {"Retry-After": "5"})

    @app.get("/metrics", tags=["health"], response_class=Response)
    def numbers() -> Response:
        """Jobs, queue, stages and requests for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_docs(app: FastAPI) -> None:
    """``/docs``: the interface to read and try, from files that are here."""
    package = find_spec("fastapi_offline")
    assert package is not None and package.origin is not None
    app.mount("/docs/static", StaticFiles(directory=Path(package.origin).parent / "static"))

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="Open-Sora: programming interface",
            swagger_js_url="/docs/static/swagger-ui-bundle.js",
            swagger_css_url="/docs/static/swagger-ui.css",
            swagger_favicon_url="/docs/static/favicon.png",
        )


def _add_errors(app: FastAPI) -> None:
    """Every refusal and failure has one shape, and none shows the server's insides."""

    @app.exception_handler(ApiError)
    def refused(_: Request, error: Any) -> Response:
        answer: Response = error.response()
        return answer

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: Any) -> Response:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        return ApiError(422, "invalid_request", f"{name}: {first['msg']}.", name).response()

    @app.exception_handler(HTTPException)
    def other(_: Request, error: Any) -> Response:
        kind = {404: "not_found", 405: "method", 413: "too_large"}.get(error.status_code, "invalid_request")
        return ApiError(error.status_code, kind, f"{error.detail}", headers=error.headers).response()

    @app.exception_handler(Exception)
    def failed(_: Request, __: Any) -> Response:
        return ApiError(500, "server", "The server failed at this; its log has the details.").response()
