"""More of what people do on the page: another language, drafts, going on from a frame, history, files; and axe-core."""

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.conftest import WAIT, Server, Visit
from PIL import Image
from playwright.sync_api import Browser, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
SECTIONS = ("#advanced", "#several", "#presets", "#models")


def serious(page: Page) -> list[str]:
    """What axe-core finds that keeps people out."""
    found = Axe().run(page, options={"resultTypes": ["violations"], "runOnly": RULES}).response["violations"]
    return [
        f"{v['impact']} {v['id']}: {v['nodes'][0]['html'][:200]}"
        for v in found
        if v["impact"] in ("serious", "critical", "moderate")
    ]


def still(visit: Visit) -> Page:
    """Choose the quickest result: one frame in 4 steps."""
    page = visit.page
    page.click("#length input")
    page.get_by_role("option", name="1 frame").click()
    page.wait_for_selector("#cost :text('1 frame')", timeout=WAIT)
    page.click("#advanced > button")
    visit.steps(4)
    return page


DROP = """async address => {
  const carried = new DataTransfer();
  carried.items.add(new File([await (await fetch(address)).blob()], 'clip.png', {type: 'image/png'}));
  const send = kind => document.body.dispatchEvent(
    new DragEvent(kind, {dataTransfer: carried, bubbles: true, cancelable: true}));
  send('dragover');
  if (document.querySelector('#drop-here').hidden) throw new Error('nothing says that a file can be dropped');
  send('drop');
}"""
"""Drops a file of the server on the page."""


@pytest.fixture
def korean(server: Server, browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 390, "height": 844}, locale="ko-KR", reduced_motion="reduce")
    visit = Visit(context.new_page(), context, server)
    visit.page.set_default_timeout(WAIT)
    yield visit
    context.close()


def test_drafts_are_picked_promoted_found_compared_and_restored(visit: Visit) -> None:
    page = visit.open()
    still(visit)
    page.fill("#prompt textarea", "a {purple} kite")
    page.fill("#seed textarea, #seed input", "11")
    page.click("#several > button")
    page.fill("#seeds input[type=number]", "2")
    page.press("#seeds input[type=number]", "Tab")
    expect(page.locator("#several-cost")).to_contain_text("2 drafts", timeout=WAIT)
    page.click("#drafts")
    expect(page.locator("#panel h2")).to_have_text("Drafts · 2 of 2 finished", timeout=WAIT)
    page.click("#panel [data-act=promote] >> nth=1")
    page.wait_for_selector("#panel [data-act=again]", timeout=WAIT)
    assert page.inner_text("#panel dl").split("\n")[:2] == ["Seed", "12"]
    page.click("#panel [data-act=again]")
    expect(page.locator("#panel .os-good")).to_contain_text("byte for byte", timeout=WAIT)

    expect(page.locator("#history .os-tile")).to_have_count(4)
    for number in (0, 2):
        page.click(f"#history [data-act=compare] >> nth={number}")
    expect(page.locator("#history .os-compare figure")).to_have_count(2)
    page.click("#history [data-act=pin] >> nth=3")
    expect(page.locator("#history [aria-pressed=true][data-act=unpin]")).to_have_count(1)
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#history [data-act=delete] >> nth=2")  # a draft, not the clip that is shown
    expect(page.locator("#history .os-tile")).to_have_count(3)
    page.locator("#search textarea, #search input").press_sequentially("zzz")
    expect(page.locator("#history")).to_contain_text("No clip has these words")

    source = page.get_attribute("#panel img", "src")
    assert source is not None
    page.fill("#prompt textarea", "something else")
    page.evaluate(DROP, source)
    expect(page.locator("#refusal")).to_contain_text("were filled in", timeout=WAIT)
    expect(page.locator("#prompt textarea")).to_have_value("a {purple} kite")
    page.click("#panel [data-act=continue]")
    expect(page.locator("#crop img")).to_be_visible(timeout=WAIT)
    assert Image.open(visit.server.outputs / source.removeprefix("files/")).size == (256, 144)
    assert visit.failures == []


def test_nobody_is_kept_out(visit: Visit) -> None:
    page = visit.open()
    for section in SECTIONS:
        page.click(f"{section} > button")
    page.wait_for_selector("#model-list li")
    page.click("#generate")
    page.wait_for_selector("#refusal [role=alert]")
    assert serious(page) == []
    page.goto(f"{visit.server.url}/?__theme=dark")
    page.wait_for_selector("#cost .os-cost", timeout=WAIT)
    assert serious(page) == []
    page.focus("#prompt textarea")
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.closest('[id]')?.id || ''"))
    assert reached.index("random") < next(
        i for i, name in enumerate(reached) if name in ("generate", "reference-image")
    )
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("r")  # a single key does nothing before it is switched on
    page.click("#keys summary")
    page.check("#single-keys")
    expect(page.locator("#prompt textarea")).to_have_value("")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("r")
    expect(page.locator("#prompt textarea")).to_have_value(re.compile("[a-z]{3}"), timeout=WAIT)


def test_a_korean_browser_gets_a_korean_page_that_fits_a_phone(korean: Visit) -> None:
    page = korean.open()
    expect(page.locator("#generate")).to_have_text("만들기", timeout=WAIT)
    expect(page.locator("#length input")).to_have_value("2초 · 49프레임")
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    expect(page.locator("#cost")).to_contain_text("크기")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert serious(page) == []
    page.click("#head [data-language=en]")
    expect(page.locator("#generate")).to_have_text("Generate", timeout=WAIT)
    expect(page.locator("#prompt label, #prompt span[data-testid=block-info]").first).to_have_text("Prompt")
    page.reload()
    page.wait_for_selector("#cost .os-cost", timeout=WAIT)
    expect(page.locator("#generate")).to_have_text("Generate")  # the choice is kept
