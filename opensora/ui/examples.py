"""Examples on the page: prompts with settings, and the clip that the bundled model made of each before.

``python scripts/make_examples.py`` makes the clips anew. A clip carries its whole request and the hashes of the weights
that made it, so the page says whether these are the weights that are here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gradio as gr

from opensora.checkpoint.locate import assets_folder
from opensora.datasets.video_io import read_metadata
from opensora.pipelines.request import GenerationRequest
from opensora.ui import fields, said
from opensora.ui.browser import Browser, job_of, words_of
from opensora.ui.fields import FIELDS
from opensora.ui.picture import poster
from opensora.ui.words import Words

MODEL = "tiny"
MOST_BYTES = 1_200_000
"""Of all clips together."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Example:
    """A request for the bundled model."""

    name: str
    """Of its file."""
    prompt: str
    seed: int = 7
    settings: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    """Other fields of the request."""

    def request(self) -> GenerationRequest:
        """The request, validated."""
        return GenerationRequest(self.prompt, model=MODEL, length="49f", seed=self.seed, **self.settings).validated()

    @property
    def clip(self) -> Path:
        """Where its clip is."""
        return folder() / f"{self.name}.mp4"


EXAMPLES = (
    Example("ball", "a red ball rolls to the right over a green meadow, rain"),
    Example("star", "a yellow star moves up over the sea"),
    Example("boat", "a blue boat moves left on the sea with waves"),
    Example("bird", "a purple bird flies to the left over the desert"),
    Example("triangle", "a purple triangle bounces in the desert"),
    Example("sea", "raining, sea"),
    Example("korean", "빨간 공이 초원에서 오른쪽으로 굴러간다"),
)
"""In their order on the page."""
BY_NAME = {example.name: example for example in EXAMPLES}


def folder() -> Path:
    """The folder of the clips."""
    return assets_folder() / MODEL / "examples"


def gallery(w: Words) -> str:
    """The examples as buttons, with the first frame of what was made of each."""
    return f"<ul class='os-shelf os-examples'>{''.join(_card(w, example) for example in EXAMPLES)}</ul>"


def _card(w: Words, example: Example) -> str:
    prompt = escape(example.prompt, quote=True)
    inside = "<span aria-hidden='true'>▷</span>"
    if example.clip.is_file():
        address = f"examples/{example.name}.jpg?{int(example.clip.stat().st_mtime)}"
        inside = f"<img src='{address}' alt='' loading='lazy' decoding='async' width='256' height='144'>"
    return (
        f"<li class='os-clip'><button type='button' class='os-example' data-act='example' data-fill='1' "
        f"data-name='{example.name}' id='example-{example.name}'><span class='os-tile'>{inside}</span>"
        f"<span class='os-clip-prompt' dir='auto'>{prompt}</span></button></li>"
    )


def choose(browser: Browser | None, shown: dict[str, Any], event: gr.EventData) -> tuple[Any, ...]:
    """An example was clicked: it is shown, and its settings are filled in; nothing is generated."""
    example = BY_NAME.get(str(getattr(event, "name", "")))
    if example is None:
        return shown, "", *(gr.skip() for _ in FIELDS)
    values = fields.values_of(example.request(), example.seed)
    filled = fields.filled(words_of(browser), values).values()
    named = example.name if example.clip.is_file() else None
    return {**shown, "example": named, "instead": _behind(browser)}, "", *filled


def present(shown: dict[str, Any], browser: Browser | None) -> str | None:
    """The example in the panel: the one that was clicked, until another job or batch is shown."""
    name = shown.get("example")
    return name if name in BY_NAME and shown.get("instead") == _behind(browser) else None


def _behind(browser: Browser | None) -> str:
    """What the panel shows without an example."""
    batch = browser.get("batch") if isinstance(browser, dict) else None
    return f"{job_of(browser)} {batch or ''}"


def panel(w: Words, name: str) -> str:
    """The clip that was made before, which is never shown as a fresh result."""
    example = BY_NAME[name]
    clip, told = example.clip, record(example.clip, example.clip.stat().st_mtime)
    settings = told.get("settings", {})
    shape = (settings.get("width", 16), settings.get("height", 9))
    address = f"examples/{example.name}"
    version = int(clip.stat().st_mtime)
    rows = [
        (w("fact.seed"), settings.get("seed")),
        (w("fact.size"), f"{shape[0]} × {shape[1]}"),
        (w("fact.steps"), settings.get("steps")),
        (w("fact.model"), settings.get("model")),
    ]
    same = made_here(told)
    return (
        f"<p class='os-note os-before' role='status'>{w('example.before' if same else 'example.earlier')}</p>"
        f"<div class='os-screen' style='aspect-ratio:{shape[0]}/{shape[1]}'>"
        f"<video src='{address}.mp4?{version}' poster='{address}.jpg?{version}' controls loop autoplay muted "
        f"playsinline></video></div><p class='os-prompt' dir='auto' tabindex='0'>{escape(example.prompt)}</p>"
        f"{said.facts(rows, 'os-facts')}"
    )


def made_here(told: Mapping[str, Any]) -> bool:
    """Whether a clip was made with the weights that are here now."""
    weights = (told.get("plan") or {}).get("weights") or {}
    return bool(weights) and set(weights.values()) <= _weights_here()


@lru_cache(maxsize=32)
def record(clip: Path, changed: float) -> dict[str, Any]:
    """What a clip says of itself.

    Args:
        changed: when, so that a new file is read anew.
    """
    return read_metadata(clip)


@lru_cache(maxsize=32)
def first_frame(clip: Path, changed: float) -> bytes:
    """The first frame as JPEG."""
    return poster(clip)


def _weights_here() -> set[str]:
    """Hashes of the bundled weights."""
    files = sorted((assets_folder() / MODEL).glob("*/*.safetensors"))
    return {_hash(file, file.stat().st_mtime, file.stat().st_size) for file in files}


@lru_cache(maxsize=16)
def _hash(file: Path, changed: float, size: int) -> str:
    from opensora.checkpoint.safetensors_io import file_sha256

    return file_sha256(file)
