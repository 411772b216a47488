"""The real page: ``app.py`` in a process of its own with the bundled checkpoint, and a headless Chromium."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WAIT = 120_000
"""Milliseconds that anything may take on a slow, busy core; a generation of 17 frames and 4 steps, for one."""
expect.set_options(timeout=WAIT)


@dataclass
class Server:
    """A running ``app.py``."""

    url: str
    outputs: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    """What it printed."""


def start_server(outputs: Path, *arguments: str) -> Server:
    """Start ``app.py`` on a free port and wait until it says that it is ready."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": str(outputs.parent / "cache")}
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_TEMP_DIR"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", "0", "--output-dir", str(outputs), *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    server = Server("", outputs, process)
    for line in process.stdout:
        server.lines.append(line)
        if found := re.search(r"http://localhost:\d+", line):
            server.url = found[0]
            break
    assert server.url, "".join(server.lines)
    threading.Thread(target=lambda: server.lines.extend(process.stdout or ()), daemon=True).start()
    return server


def stop_server(server: Server) -> int:
    """Press Ctrl-C; returns the exit status."""
    server.process.send_signal(signal.SIGINT)
    try:
        return server.process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        server.process.kill()
        raise


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("page") / "outputs")
    yield running
    stop_server(running)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("OPENSORA_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """An open page and what went over the wire."""

    page: Page
    context: BrowserContext
    server: Server
    requests: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Answers of 400 and more, errors on the page's console, and exceptions."""

    def outside(self) -> list[str]:
        """Addresses that are not the server's own."""
        own = urlsplit(self.server.url).netloc
        return [u for u in self.requests if urlsplit(u).scheme not in ("data", "blob") and urlsplit(u).netloc != own]

    def open(self) -> Page:
        """Open the page and wait until it can be used."""
        self.page.goto(self.server.url)
        self.page.wait_for_selector("#generate", timeout=WAIT)
        self.page.wait_for_selector("#cost .os-cost", timeout=WAIT)
        return self.page

    def quick(self) -> Page:
        """Choose the quickest clip: 17 frames in 4 steps."""
        page = self.page
        page.click("#length input")
        page.get_by_role("option", name="17 frames").click()
        page.wait_for_selector("#cost :text('17 frames')", timeout=WAIT)
        page.click("#advanced > button")
        self.steps(4)
        return page

    def steps(self, number: int) -> None:
        """Type the steps as a person does: into the field, once the section that was unfolded has come to rest."""
        field = self.page.locator("#steps input[type=number]")
        field.click()
        field.fill(str(number))
        field.press("Tab")
        expect(field).to_have_value(str(number))


@pytest.fixture
def visit(server: Server, browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(WAIT)
    page = context.new_page()
    visit = Visit(page, context, server)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("response", lambda r: visit.failures.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.on("console", lambda m: visit.failures.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: visit.failures.append(f"exception: {error}"))
    yield visit
    context.close()
