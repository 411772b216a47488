"""The page where people log in: one form, no scripts."""

import html
from collections.abc import Callable

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from opensora.sentences import say
from opensora.server.errors import ApiError
from opensora.server.sessions import COOKIE, DAYS, Sessions

Tell = Callable[[str, str | None], str]
"""A sentence in the language that a browser likes best, by its ``Accept-Language`` header."""

_PAGE = """<!doctype html>
<html lang="{language}">
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
<label for="name">{name}</label>
<input id="name" name="name" autocomplete="username" required autofocus>
<label for="password">{password}</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>{do}</button></form>"""
_LOGGED_IN = """<p>{told}</p><p><a href="/">{page}</a></p>
<form method="post" action="/logout"><button>{leave}</button></form>"""
_NO_LOGIN = """<p>{told} <a href="/">{page}</a></p>"""


def in_english(text: str, _: str | None) -> str:
    """The sentence itself."""
    return text


class Pages:
    """The forms of the page in the language of a browser.

    Args:
        tell: says sentences in it.
        accept: its ``Accept-Language`` header.
    """

    def __init__(self, tell: Tell, accept: str | None) -> None:
        self._tell, self._accept = tell, accept

    def __call__(self, code: str, **values: str) -> str:
        """A sentence, as HTML."""
        return html.escape(self._tell(say(code, **values), self._accept))

    def ask(self, next: str, wrong: bool = False, status: int = 200) -> HTMLResponse:
        """Name and password."""
        problem = f'<p role="alert">{self("login.wrong")}</p>' if wrong else ""
        words = {"name": self("login.name"), "password": self("login.password"), "do": self("login.do")}
        return self._answer(_FORM.format(problem=problem, next=html.escape(local_path(next)), **words), status)

    def inside(self, name: str) -> HTMLResponse:
        """Who is logged in, and the way out."""
        told, page = self("login.in", name=name), self("login.page")
        return self._answer(_LOGGED_IN.format(told=told, page=page, leave=self("login.leave")))

    def no_login(self) -> HTMLResponse:
        """Nobody has to log in."""
        return self._answer(_NO_LOGIN.format(told=self("login.none"), page=self("login.page")))

    def _answer(self, content: str, status: int = 200) -> HTMLResponse:
        page = _PAGE.format(content=content, language=self("login.language"))
        return HTMLResponse(page, status, {"Cache-Control": "no-store", "Vary": "Accept-Language"})


def login_router(sessions: Sessions, tell: Tell = in_english) -> APIRouter:
    """``/login`` and ``/logout``.

    Args:
        tell: says sentences in the language of a browser.
    """
    router = APIRouter(include_in_schema=False)

    def form(request: Request) -> Pages:
        return Pages(tell, request.headers.get("accept-language"))

    @router.get("/login")
    def page(request: Request, next: str = "/") -> HTMLResponse:
        identity = request.state.identity
        if sessions.users is None:
            return form(request).no_login()
        if identity is not None:
            return form(request).inside(identity.user or "")
        return form(request).ask(next)

    @router.post("/login")
    def log_in(
        request: Request,
        name: str = Form(default="", max_length=200),
        password: str = Form(default="", max_length=1000),
        next: str = Form(default="/", max_length=2000),
    ) -> Response:
        user = None if sessions.users is None else sessions.users.by_password(name, password)
        if user is None:
            return form(request).ask(next, wrong=True, status=401)
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
