"""A clip that is asked for on the page is there although the server was killed while it was made."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser.conftest import WAIT, Server, Visit, start_server, stop_server
from playwright.sync_api import Browser, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

STEPS = 40  # of the picture, and again of the clip
"""Enough to be killed in the middle."""


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[list[Server]]:
    """A server of its own; the last of the list is the one that runs."""
    servers = [start_server(tmp_path / "outputs")]
    yield servers
    stop_server(servers[-1])


def test_a_clip_outlives_the_server_that_was_killed(killed: list[Server], browser: Browser) -> None:
    context = browser.new_context()
    visit = Visit(context.new_page(), context, killed[0])
    page = visit.open()
    page.set_default_timeout(3 * WAIT)
    visit.quick()
    visit.steps(STEPS)
    page.fill("#prompt textarea", "a green kite")
    page.click("#generate")
    expect(page.locator("#progress")).to_contain_text(f"of {2 * STEPS}", timeout=3 * WAIT)
    killed[0].process.kill()
    killed[0].process.wait()
    port = killed[0].url.rpartition(":")[2]
    killed.append(start_server(killed[0].outputs, "--port", port))
    page.goto("about:blank")  # the page of the killed server may just be asking for itself
    page.goto(killed[-1].url)
    expect(page.locator("#panel .os-prompt")).to_have_text("a green kite", timeout=3 * WAIT)
    page.wait_for_selector("#panel video")
    expect(page.locator("#announcement [role=status]")).to_have_text("The clip is ready", timeout=WAIT)
    context.close()
