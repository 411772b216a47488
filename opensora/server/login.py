"""The page where people log in: one form, no scripts."""

import html

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from opensora.server.errors import ApiError
from opensora.server.sessions import COOKIE, DAYS, Sessions

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Open-Sora</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 ui-sans-serif, system-ui, sans-serif }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center }}
main {{ width: min(22rem, 90vw) }}
label {{ display: block; margin: .75rem 0 .25rem }}
input, button {{ width: 100%; box-sizing: border-box; font: inherit; padding: .6rem; border-radius: .5rem }}
input {{ border: 1px solid #888 }}
button {{ margin-top: 1rem; border: 0; background: #4338ca; color: #fff; cursor: pointer }}
[role=alert] {{ color: #b91c1c }}
@media (prefers-color-scheme: dark) {{ [role=alert] {{ color: #fca5a5 }} }}
</style>
</head>
<body><main><h1>Open-Sora</h1>{content}</main></body>
</html>"""
_FORM = """{problem}<form method="post" action="/login">
<input type="hidden" name="next" value="{next}">
<label for="name">Name</label>
<input id="name" name="name" autocomplete="username" required autofocus>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>Log in</button></form>"""
_LOGGED_IN = """<p>You are logged in as {name}.</p><p><a href="/">Go to the page</a></p>
<form method="post" action="/logout"><button>Log out</button></form>"""
_NO_LOGIN = """<p>This server has no login. <a href="/">Go to the page</a></p>"""
WRONG = "The name or the password is wrong."


def login_router(sessions: Sessions) -> APIRouter:
    """``/login`` and ``/logout``."""
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    def page(request: Request, next: str = "/") -> HTMLResponse:
        identity = request.state.identity
        if sessions.users is None:
            return _answer(_NO_LOGIN)
        if identity is not None:
            return _answer(_LOGGED_IN.format(name=html.escape(identity.user or "")))
        return _answer(_form(next))

    @router.post("/login")
    def log_in(
        request: Request,
        name: str = Form(default="", max_length=200),
        password: str = Form(default="", max_length=1000),
        next: str = Form(default="/", max_length=2000),
    ) -> Response:
        user = None if sessions.users is None else sessions.users.by_password(name, password)
        if user is None:
            return _answer(_form(next, WRONG), 401)
        answer = RedirectResponse(local_path(next), 303)
        answer.set_cookie(
            COOKIE,
            sessions.cookie(user),
            max_age=DAYS * 86400,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    @router.get("/logout", include_in_schema=False)
    def stay() -> Response:
        raise ApiError(405, "method", "A link logs nobody out; use the button on /login.", headers={"Allow": "POST"})

    @router.post("/logout")
    def log_out() -> Response:
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    return router


def local_path(target: str) -> str:
    """The address of a page of this server; the first one for every other address."""
    if not target.startswith("/") or target.startswith("//") or "\\" in target or not target.isprintable():
        return "/"
    return target


def _form(next: str, problem: str = "") -> str:
    said = f'<p role="alert">{html.escape(problem)}</p>' if problem else ""
    return _FORM.format(problem=said, next=html.escape(local_path(next)))


def _answer(content: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(content=content), status, {"Cache-Control": "no-store"})
