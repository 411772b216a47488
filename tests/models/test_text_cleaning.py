"""Caption cleaning."""

import pytest

from opensora.models.text.cleaning import clean_caption, text_preprocessing
from tests.golden_io import load_json

ROWS: list[list[str]] = load_json("utils_text_v13")["table"]


@pytest.mark.parametrize(("text", "once", "twice", "plain"), ROWS)
def test_published_captions(text: str, once: str, twice: str, plain: str) -> None:
    assert clean_caption(text) == once
    assert text_preprocessing(text) == twice
    assert text_preprocessing(text, use_text_preprocessing=False) == plain


def test_versions_clean_alike() -> None:
    assert load_json("utils_text_v12")["table"] == ROWS


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "text",
    ["a\ud800b", "a\0b", "<![cdata[ x", "%<![[>0x=#", "&#xd800;", "%ff%", "<b>" * 3000, "page.html", "a&b.htm", ""],
)
def test_odd_captions_pass(text: str) -> None:
    assert isinstance(text_preprocessing(text), str)
