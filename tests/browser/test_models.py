"""The models of the page in a real browser: a download from a hub on loopback, and a clip in other forms."""

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser.conftest import WAIT, Server, start_server, stop_server
from hub_server import Hub, serve
from playwright.sync_api import Browser, Page, expect
from safetensors.numpy import save

from opensora.models import zoo

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

MODEL = "opensora-1.3-t2v-360p"
DENOISER, AUTOENCODER, TEXT = (component.source for component in zoo.PRESETS[MODEL].components)


def weights(count: int) -> bytes:
    """A file of weights that takes about so many bytes."""
    return save({"w": np.random.default_rng(count).integers(0, 256, count, np.uint8)})


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with serve() as running:
        running.add(DENOISER, {"model.safetensors": weights(50 << 20)}, "slow")
        running.add(AUTOENCODER, {"model.safetensors": weights(100_000)})
        files = {"config.json": b"{}", "spiece.model": b"words", "model.safetensors": weights(200_000)}
        running.add(TEXT, files)
        yield running


@pytest.fixture(scope="module")
def page(hub: Hub, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The list of models of a server that downloads from the hub."""
    folder = tmp_path_factory.mktemp("models")
    before = {name: os.environ.get(name) for name in ("HF_HOME", "HF_ENDPOINT", "HF_HUB_CACHE")}
    os.environ |= {"HF_HOME": str(folder / "hf"), "HF_ENDPOINT": hub.endpoint}
    os.environ.pop("HF_HUB_CACHE", None)
    try:
        running: Server = start_server(folder / "outputs")
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(running.url)
    page.wait_for_selector("#cost .os-cost", timeout=WAIT)
    page.click("#models > button")
    page.wait_for_selector(f"[data-name='{MODEL}']")
    yield page
    context.close()
    stop_server(running)


def test_a_model_is_downloaded_paused_and_fetched_to_its_end(hub: Hub, page: Page) -> None:
    def tool(act: str) -> str:
        return f"#model-list [data-act='{act}'][data-name='{MODEL}']"

    page.click(tool("download"))
    # In MB: of the gigabytes that the other networks usually have it is less than a per cent.
    expect(page.locator("#model-list")).to_contain_text(re.compile(r"[1-9]\d* MB of "), timeout=WAIT)
    page.click(tool("pause-download"))
    expect(page.locator("#model-list")).to_contain_text("Paused · ", timeout=WAIT)
    page.click(tool("download"))
    expect(page.locator("#model-list")).to_contain_text("Downloaded and checked", timeout=WAIT)
    asked = [request.headers.get("range") for request in hub.requests if request.host == "storage"]
    assert len(asked) == 4 and asked[1] is not None and asked[1].startswith("bytes=")
    expect(page.locator(tool("check"))).to_be_visible()


def test_a_clip_is_saved_in_other_forms(page: Page, tmp_path: Path) -> None:
    page.click("#length input")
    page.get_by_role("option", name="17 frames").click()
    page.click("#advanced > button")
    field = page.locator("#steps input[type=number]")
    field.fill("4")
    field.press("Tab")
    page.fill("#prompt textarea", "a red ball rolls to the right over a green meadow")
    page.click("#generate")
    page.wait_for_selector("#panel video", timeout=WAIT)
    for name, begins in (("GIF", b"GIF89a"), ("WebM", b"\x1aE\xdf\xa3"), ("Frames (ZIP)", b"PK\x03\x04")):
        with page.expect_download(timeout=WAIT) as download:
            page.click(f"#panel [data-act=form]:text-is('{name}')")
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        assert file.read_bytes().startswith(begins)
    with zipfile.ZipFile(tmp_path / "opensora-video.zip") as archive:
        assert len(archive.namelist()) == 18
