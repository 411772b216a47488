"""How long a person waits for the page: until it can be used, until the first preview, until the clip plays.

``python benchmarks/page.py`` starts ``app.py`` on an empty output folder, opens the page in a headless Chromium, and
makes the clip that the page offers when it opens. ``--length 17f --steps 4`` is a try. The result goes to
``results/page.json`` with the machine, the date and the command. Needs playwright and a Chromium, as the browser tests
do; nothing else should run on the machine meanwhile.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that the file also runs as a script

from benchmarks.reliability.record import RESULTS, keep
from benchmarks.reliability.running import PATIENCE, Running, app

if TYPE_CHECKING:
    from playwright.sync_api import Page

PROMPT = "a red ball rolls to the right over a green meadow, rain"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
WORKS = "document.querySelector('#generate')?.disabled === false && !!document.querySelector('#cost .os-cost')"
"""The page answers: Generate can be pressed, and the server has told what a click will take."""
PREVIEW = "document.querySelector('#panel img')?.naturalWidth > 0"
"""A picture of the clip that is being made."""
PLAYS = "document.querySelector('#panel video')?.readyState >= 3"
"""The clip has frames to show."""


@dataclass(frozen=True)
class Waits:
    """Seconds that a person waits."""

    start_to_address: float
    """From the start of the process until it prints the address."""
    start_to_usable: float
    """From there until Generate can be pressed and the page has told what it will take, in a browser that is open."""
    again_to_usable: float
    """The same for a second visit, from the moment that the address is entered."""
    click_to_preview: float | None
    """From the click until a preview is seen; ``None`` for a clip that is too short to have one."""
    click_to_playable: float
    """From the click until the finished MP4 plays."""


def measured(folder: Path, length: str | None, steps: int | None) -> Waits:
    """Start, open, click and wait.

    Args:
        folder: of everything that is written.
        length, steps: of the clip; ``None``: what the page offers.
    """
    from playwright.sync_api import sync_playwright

    path = os.environ.get("OPENSORA_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        page = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(1000 * PATIENCE)
        begun = time.monotonic()
        with app(folder) as running:
            address = time.monotonic() - begun
            opened(page, running)
            usable, again = time.monotonic() - begun, time.monotonic()
            opened(page, running)
            again = time.monotonic() - again
            page.fill("#prompt textarea", PROMPT)
            choose(page, length, steps)
            preview, playable = generated(page)
        browser.close()
    return Waits(address, usable, again, preview, playable)


def opened(page: "Page", running: Running) -> None:
    """Open the page and wait until it can be used."""
    page.goto(running.url)
    page.wait_for_function(WORKS)


def choose(page: "Page", length: str | None, steps: int | None) -> None:
    """Set what is asked for, as a person does."""
    if length is not None:
        page.click("#length input")
        page.get_by_role("option", name=f"{length.removesuffix('f')} frames").click()
        page.wait_for_selector(f"#cost :text('{length.removesuffix('f')} frames')")
    if steps is not None:
        page.click("#advanced > button")
        page.fill("#steps input[type=number]", str(steps))
        page.press("#steps input[type=number]", "Tab")


def generated(page: "Page") -> tuple[float | None, float]:
    """Click on Generate; returns the seconds until a preview and until the clip plays.

    Raises:
        RuntimeError: the clip was refused, or it failed; with what the page says.
    """
    begun = time.monotonic()
    page.click("#generate")
    failed = "document.querySelector('#refusal [role=alert], #panel [role=alert]')"
    page.wait_for_function(f"{PREVIEW} || {PLAYS} || {failed}")
    preview = time.monotonic() - begun
    seen = page.evaluate(PREVIEW)
    page.wait_for_function(f"{PLAYS} || {failed}")
    if not page.evaluate(PLAYS):
        raise RuntimeError(page.evaluate(f"{failed}.innerText"))
    return preview if seen else None, time.monotonic() - begun


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and record; returns the exit code."""
    parser = argparse.ArgumentParser(description="How long a person waits for the page.")
    parser.add_argument("--length", help="frames, such as 17f; one of those that the page offers")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--json", type=Path, default=RESULTS / "page.json", help="write the results to this file")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="opensora-page-") as name:
        waits = measured(Path(name), chosen.length, chosen.steps)
    told = {"clip": {"prompt": PROMPT, "length": chosen.length or "the page's", "steps": chosen.steps or "the page's"}}
    seconds = {name: None if value is None else round(value, 2) for name, value in asdict(waits).items()}
    return keep("page", {**told, "seconds": seconds}, True, chosen.json)


if __name__ == "__main__":
    sys.exit(main())
