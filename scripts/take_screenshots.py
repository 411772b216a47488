"""Take the README's pictures of the page again: start it, generate with the bundled checkpoint, and photograph it.

``python scripts/take_screenshots.py`` needs a Chromium (see ``scripts/setup_browser.py``) and a few minutes on a CPU.
"""

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1440, 900
MAX_BYTES = 300_000
"""Largest picture in the repository."""
PATIENCE = 900_000
"""Milliseconds that a generation may take."""
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PROMPT = "a red ball rolls to the right over a green meadow, rain"
IMAGE_PROMPT = "a purple ball moves up over the sea"


def main(
    output: Annotated[Path, typer.Option(help="Folder of the pictures.")] = ROOT / "docs" / "images",
    length: Annotated[str, typer.Option(help="Label of the clip's length on the page.")] = "2 s · 49 frames",
    seed: Annotated[int, typer.Option(help="Seed of both clips.")] = 7,
) -> None:
    """Write page.png, progress.png and image-to-video.png."""
    from playwright.sync_api import sync_playwright

    find = [sys.executable, str(ROOT / "scripts" / "setup_browser.py")]
    path = subprocess.run(find, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    if not path:
        raise SystemExit("Pictures of the page need a Chromium; install one and try again.")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        text_to_video(browser, url, length, seed, output)
        picture = Path(folder) / "seaside.png"
        seaside().save(picture)
        image_to_video(browser, url, length, seed, picture, output)
        browser.close()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The page in a process of its own; gives its address."""
    command = [sys.executable, "app.py", "--port", "0", "--output-dir", str(folder / "outputs")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    log = folder / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        while not (found := re.search(r"http://localhost:\d+", log.read_text())):
            if process.poll() is not None:
                raise SystemExit(f"The page did not start:\n{log.read_text()}")
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def text_to_video(browser: "Browser", url: str, length: str, seed: int, output: Path) -> None:
    """A clip forming, and the clip."""
    page = visit(browser, url, "dark")
    choose(page, length, seed)
    page.fill("#prompt textarea", PROMPT)
    page.click("#generate")
    page.wait_for_function(
        "() => { const found = /step (\\d+) of (\\d+)/.exec(document.querySelector('#progress').innerText);"
        " return found && found[1] >= 0.6 * found[2] && document.querySelector('#panel img') }",
        timeout=PATIENCE,
    )
    photograph(page, output / "progress.png")
    finish(page)
    photograph(page, output / "page.png")
    page.context.close()


def image_to_video(browser: "Browser", url: str, length: str, seed: int, picture: Path, output: Path) -> None:
    """A clip that starts from an image, with its crop."""
    page = visit(browser, url, "light")
    choose(page, length, seed)
    page.set_input_files("#reference-image input[type=file]", str(picture))
    page.wait_for_selector("#crop img")
    page.fill("#prompt textarea", IMAGE_PROMPT)
    page.click("#generate")
    finish(page)
    photograph(page, output / "image-to-video.png")
    page.context.close()


def visit(browser: "Browser", url: str, scheme: str) -> "Page":
    """A fresh visitor's page."""
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{url}/?__theme={scheme}")
    page.wait_for_selector("#cost .os-cost")
    return page


def choose(page: "Page", length: str, seed: int) -> None:
    """Length and seed; the advanced settings are folded again."""
    page.click("#length input")
    page.get_by_role("option", name=length).click()
    page.click("#advanced > button")
    page.fill("#seed textarea, #seed input", str(seed))
    page.press("#seed textarea, #seed input", "Tab")
    page.click("#advanced > button")


def finish(page: "Page") -> None:
    """Wait for the clip and stop it in the middle."""
    page.wait_for_selector("#panel video", timeout=PATIENCE)
    page.wait_for_function("document.querySelector('#panel video').readyState >= 3")
    page.evaluate(
        "async () => { const video = document.querySelector('#panel video'); video.pause();"
        " video.currentTime = video.duration / 2; await new Promise(done => { video.onseeked = done; }); }"
    )
    page.wait_for_timeout(1000)


def photograph(page: "Page", path: Path) -> None:
    """Write a screenshot, with fewer colours if it would be too large."""
    page.mouse.move(5, 5)
    data = page.screenshot(full_page=True)
    for colours in (None, 256, 128, 64, 32):
        image = Image.open(io.BytesIO(data)).convert("RGB")
        if colours is not None:
            image = image.quantize(colours, dither=Image.Dither.NONE)
        image.save(path, optimize=True)
        if path.stat().st_size <= MAX_BYTES:
            break
    typer.echo(f"{path}: {path.stat().st_size // 1000} kB")


def seaside(width: int = 1200, height: int = 800) -> Image.Image:
    """A picture to start from: a purple ball above the sea in the evening."""
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    horizon = int(height * 0.62)
    for row in range(height):
        share = row / horizon if row < horizon else (row - horizon) / (height - horizon)
        sky = (int(120 + 110 * share), int(170 + 30 * share), int(230 - 40 * share))
        sea = (int(40 - 20 * share), int(110 - 50 * share), int(170 - 50 * share))
        pen.line([(0, row), (width, row)], fill=sky if row < horizon else sea)
    pen.ellipse((width * 0.4, height * 0.36, width * 0.62, height * 0.69), fill=(128, 50, 170))
    return image.filter(ImageFilter.GaussianBlur(1))


if __name__ == "__main__":
    typer.run(main)
