"""The page as a person uses it: real server, bundled checkpoint, headless Chromium."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from browser.conftest import WAIT, Visit
from PIL import Image
from playwright.sync_api import Page, expect

from opensora.datasets.video_io import read_metadata, read_video

pytestmark = [pytest.mark.browser, pytest.mark.timeout(500)]

PROMPT = "a red ball rolls to the right over a green meadow, <b>rain</b> & 비"

READ_PIXELS = """async ([url, times]) => {
  const video = document.createElement('video');
  video.muted = true; video.src = url;
  await new Promise((done, fail) => {
    video.oncanplaythrough = done;
    video.onerror = () => fail(video.error.message);
  });
  const canvas = document.createElement('canvas');
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  const pictures = [];
  for (const time of times) {
    video.currentTime = time;
    await new Promise(done => { video.onseeked = done; });
    pen.drawImage(video, 0, 0);
    const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    pictures.push(Array.from(data).filter((_, i) => i % 4 < 3));
  }
  return {width: video.videoWidth, height: video.videoHeight, duration: video.duration, pictures};
}"""
"""Plays a file as the page does and reads what is on the screen at some times."""


WATCH = """() => {
  const seen = window.seen = {steps: false, preview: false};
  new MutationObserver(() => {
    seen.steps ||= !!document.querySelector('#progress')?.textContent.includes('of 8');
    seen.preview ||= document.querySelector('#panel img[src^="data:image/webp;base64,"]') !== null;
  }).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: true});
}"""
"""Notes what is shown for moments only: a test that looks from outside may look between them."""


def result_file(visit: Visit, page: Page, selector: str = "#panel video") -> tuple[str, Path]:
    """Address and place on the disk of the result that is shown."""
    source = page.get_attribute(selector, "src")
    assert source is not None and source.startswith("files/")
    return f"{visit.server.url}/{source}", visit.server.outputs / source.removeprefix("files/")


def work_of(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def comes_to_rest(page: Page, value: Callable[[], float], slack: float = 0.0) -> None:
    """Wait until a value has not grown by more than ``slack`` within three seconds."""
    end = time.monotonic() + WAIT / 1000
    while True:
        before = value()
        page.wait_for_timeout(3000)
        if value() - before <= slack:
            return
        assert time.monotonic() < end, "it goes on"


def test_a_prompt_becomes_a_clip_that_plays_in_its_own_colours(visit: Visit) -> None:
    page = visit.open()
    visit.quick()
    page.fill("#prompt textarea", PROMPT)
    page.fill("#seed textarea, #seed input", "7")
    page.evaluate(WATCH)
    page.click("#generate")
    expect(page.locator("#announcement [role=status]")).to_have_text("The clip is ready", timeout=WAIT)
    assert page.evaluate("window.seen") == {"steps": True, "preview": True}
    expect(page.locator("#panel .os-prompt")).to_have_text(PROMPT)
    expect(page.locator("#panel dl div").first.locator("dt, dd")).to_have_text(["Seed", "7"])
    expect(page.locator("#generate")).to_have_text("Generate")
    expect(page.locator("#cancel")).to_be_hidden()
    page.wait_for_function("document.querySelector('#panel video').currentTime > 0.1")  # it plays by itself

    url, file = result_file(visit, page)
    with page.expect_download() as download:
        page.click("#panel a[download]")
    assert Path(download.value.path()).read_bytes() == file.read_bytes()
    assert download.value.suggested_filename == "opensora-video.mp4"
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 17)
        assert (stream.width, stream.height, float(stream.average_rate)) == (256, 144, 24.0)
    settings = read_metadata(file)["settings"]
    assert (settings["prompt"], settings["seed"], settings["steps"]) == (PROMPT, 7, 4)

    times = [0.5 / 24, 8.5 / 24, 16.5 / 24]
    played = page.evaluate(READ_PIXELS, [url, times])
    assert (played["width"], played["height"]) == (256, 144)
    assert played["duration"] == pytest.approx(17 / 24, abs=0.01)
    decoded = read_video(file).frames
    for index, pixels in zip((0, 8, 16), played["pictures"], strict=True):
        seen = np.array(pixels, np.float64).reshape(144, 256, 3)
        error = np.abs(seen - decoded[index])
        assert error.mean() < 2.5 and np.abs((seen - decoded[index]).mean((0, 1))).max() < 2.0
    assert visit.outside() == []
    assert visit.failures == []
    comes_to_rest(page, lambda: len(visit.requests))  # nothing is polled when nothing runs


def test_a_dropped_image_picks_the_aspect_ratio_and_becomes_the_first_frame(visit: Visit, tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:600, 0:400]
    picture = np.stack([columns * 255 // 400, rows * 255 // 600, np.full_like(rows, 90)], -1).astype(np.uint8)
    upright = Image.fromarray(picture)
    exif = upright.getexif()
    exif[0x0112] = 6  # stored lying on its side, as phones do
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    page = visit.open()
    visit.quick()
    page.set_input_files("#reference-image input[type=file]", str(tmp_path / "photo.jpg"))
    expect(page.locator("#crop")).to_contain_text("First frame, 2:3", timeout=WAIT)
    expect(page.locator("#aspect input")).to_have_value(re.compile("^2:3 upright"))
    page.fill("#prompt textarea", "a photo comes alive")
    page.click("#generate")
    page.wait_for_selector("#panel video", timeout=WAIT)
    _, file = result_file(visit, page)
    frames = read_video(file).frames
    height, width = frames.shape[1:3]
    assert len(frames) == 17 and height > width
    wanted = np.asarray(upright.resize((width, height)), np.float64)
    turned = [wanted, wanted[::-1], wanted[:, ::-1], wanted[::-1, ::-1]]
    likeness = [np.corrcoef(frames[0].ravel().astype(np.float64), other.ravel())[0, 1] for other in turned]
    assert likeness[0] == max(likeness) > 0.4  # how close it comes is measured by benchmarks/adherence.py
    assert read_metadata(file)["settings"]["mode"] == "i2v"
    assert visit.failures == []


def test_cancel_stops_within_a_step_and_the_next_job_runs(visit: Visit) -> None:
    page = visit.open()
    page.click("#example-star")
    expect(page.locator("#prompt textarea")).to_have_value("a yellow star moves up over the sea", timeout=WAIT)
    assert page.locator("#history .os-tile").count() == 0  # an example fills in, and shows what was made before
    page.click("#generate")
    expect(page.locator("#progress")).to_contain_text(re.compile(r"step \d+ of \d+"), timeout=WAIT)
    page.click("#cancel")
    expect(page.locator("#panel")).to_contain_text("Cancelled. Nothing was saved.", timeout=WAIT)
    expect(page.locator("#cancel")).to_be_hidden()
    expect(page.locator("#generate")).to_have_text("Generate")
    page.click("#length input")
    page.get_by_role("option", name="1 frame").click()
    page.click("#advanced > button")
    visit.steps(4)
    page.click("#generate")
    page.wait_for_selector("#panel img[src^=files]", timeout=WAIT)
    _, file = result_file(visit, page, "#panel img")
    assert Image.open(file).size == (256, 144)
    expect(page.locator("#history .os-tile")).to_have_count(2)
    assert visit.failures == []


def test_a_closed_tab_finds_its_job_again_and_another_browser_does_not(visit: Visit) -> None:
    page = visit.open()
    visit.quick()
    page.fill("#prompt textarea", "a blue boat moves left on the sea")
    page.click("#generate")
    expect(page.locator("#announcement [role=status]")).not_to_be_empty(timeout=WAIT)
    page.close()
    again = visit.context.new_page()
    again.goto(visit.server.url)
    expect(again.locator("#panel .os-prompt")).to_have_text("a blue boat moves left on the sea", timeout=WAIT)
    again.wait_for_selector("#panel video", timeout=WAIT)
    url, _ = result_file(visit, again)
    assert again.request.get(url).headers["content-type"] == "video/mp4"
    again.click("#panel [data-act=reuse]")
    expect(again.locator("#prompt textarea")).to_have_value("a blue boat moves left on the sea")
    again.click("#advanced > button")
    expect(again.locator("#seed textarea, #seed input")).to_have_value(again.inner_text("#panel dd >> nth=0"))
    stranger = visit.context.browser.new_context().new_page()  # type: ignore[union-attr]  # a context made by a browser
    stranger.goto(visit.server.url)
    expect(stranger.locator("#panel")).to_contain_text("Your clip appears here", timeout=WAIT)
    stranger.context.close()
    assert visit.failures == []
    assert not any("/queue/" in url for url in visit.requests)  # its stream can lose an answer


def test_mistakes_are_answered_with_a_sentence(visit: Visit, tmp_path: Path) -> None:
    page = visit.open()
    page.click("#generate")
    expect(page.locator("#refusal [role=alert]")).to_contain_text("The prompt is empty", timeout=WAIT)
    page.fill("#prompt textarea", "x" * 100_000)
    expect(page.locator("#refusal [role=alert]")).to_have_count(0)
    page.click("#generate")
    expect(page.locator("#refusal [role=alert]")).to_contain_text("100000 characters; at most 4000", timeout=WAIT)
    page.fill("#prompt textarea", "a ball")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 40)
    page.set_input_files("#reference-image input[type=file]", str(tmp_path / "broken.png"))
    expect(page.locator("#crop [role=alert]")).to_contain_text("damaged", timeout=WAIT)
    page.click("#generate")
    expect(page.locator("#refusal [role=alert]")).to_contain_text("damaged", timeout=WAIT)
    expect(page.locator("#panel")).to_contain_text("Your clip appears here")
    assert visit.failures == []


def test_a_model_that_is_not_here_says_how_to_get_it(visit: Visit) -> None:
    page = visit.open()
    page.click("#advanced > button")
    page.click("#model input")
    page.get_by_role("option", name="Open-Sora 1.3 360p").click()
    expect(page.locator("#cost")).to_contain_text("models --download opensora-1.3-t2v-360p", timeout=WAIT)
    expect(page.locator("#resolution input")).to_have_value("360p")
    page.fill("#prompt textarea", "a ball")
    page.click("#generate")
    expect(page.locator("#refusal [role=alert]")).to_contain_text(
        "The weights of Open-Sora 1.3 360p are not on", timeout=WAIT
    )


def test_an_idle_page_asks_for_nothing_and_fits_a_phone(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 360, "height": 740})
    page = visit.open()
    while not any("loaded" in line for line in visit.server.lines):
        page.wait_for_timeout(200)
    comes_to_rest(page, lambda: work_of(visit.server.process.pid), slack=0.06)  # 2 % of a core
    comes_to_rest(page, lambda: len(visit.requests))
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    unlabelled = page.evaluate(
        "[...document.querySelectorAll('input, textarea, button, select')].filter(e => e.offsetParent"
        " && !e.labels?.length && !e.ariaLabel && !e.innerText.trim() && !e.title && !e.getAttribute('aria-labelledby')"
        ").map(e => e.outerHTML.slice(0, 120))"
    )
    assert json.dumps(unlabelled) == "[]"
    assert visit.outside() == []
