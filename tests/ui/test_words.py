"""Every language says everything, and the page asks for nothing that is not said."""

import re
import string
from pathlib import Path

import pytest

from opensora.datasets.aspect import RESOLUTIONS
from opensora.jobs.queue import JobState
from opensora.models import zoo
from opensora.ui import choices, fields, languages, words
from opensora.ui.words import ENGLISH, LANGUAGES, Words

FOLDER = Path(words.__file__).parent


def names(text: str) -> set[str]:
    """What a text leaves open."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("w", LANGUAGES.values(), ids=LANGUAGES)
def test_a_language_has_every_text_with_the_same_names(w: Words) -> None:
    assert list(w.texts) == list(ENGLISH.texts)
    for key, text in w.texts.items():
        assert text.strip() == text and text
        assert names(text) == names(ENGLISH.texts[key]), key


def test_every_file_of_words_is_a_language() -> None:
    assert {file.stem for file in FOLDER.glob("*.py")} - {"__init__"} == set(LANGUAGES)


def test_korean_is_written_in_korean() -> None:
    for key, text in LANGUAGES["ko"].texts.items():
        assert re.search("[가-힣]", re.sub(r"{\w+}", "", text)), key


def test_every_text_that_the_code_asks_for_is_there_and_every_text_is_asked_for() -> None:
    code = "".join(file.read_text() for file in FOLDER.parent.glob("*.py"))
    asked = set(re.findall(r"""\bw\(\s*f?["']([\w. ]+)["']""", code))
    assert asked <= set(ENGLISH.texts)
    made = re.compile(
        r"(stage|state|said|camera|score|do|setting|ahead|crop|unit|slot|shape|verdict|grid|copy|dtype|text_dtype)\."
    )
    quoted = set(re.findall(r"""["']([\w. ]+)["']""", code))
    unused = [key for key in ENGLISH.texts if key not in quoted and not made.match(key)]
    assert unused == []
    for state in JobState:
        assert f"state.{state}" in ENGLISH.texts
        assert state is JobState.RUNNING or f"said.{state}" in ENGLISH.texts


@pytest.mark.parametrize("w", LANGUAGES.values(), ids=LANGUAGES)
def test_every_choice_has_a_label_in_every_language(w: Words) -> None:
    for model in zoo.PRESETS:
        offered = fields.worded(w, fields.starting(model))
        assert all(label and value is not None for pairs in offered.values() for label, value in pairs)
    assert all(choices.ratios(w, "tiny", resolution) for resolution in RESOLUTIONS)


@pytest.mark.parametrize(
    ("accept", "code"),
    [
        ("ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("en-GB,ko;q=0.5", "en"),
        ("de-DE,ko;q=0.3", "ko"),
        ("fr", "en"),
        ("ko;q=0.2, en;q=0.9", "en"),
        ("", "en"),
        (None, "en"),
        ("ko;q=x,,;q=", "en"),
    ],
)
def test_the_page_speaks_the_language_that_the_browser_likes_best(accept: str | None, code: str) -> None:
    assert words.preferred(accept) == code
    assert languages.settled(None, accept)["language"] == code


def test_a_choice_of_language_is_kept() -> None:
    browser = languages.settled(languages.settled(None, "en"), None, "ko")
    assert browser["language"] == "ko" and languages.settled(browser, "en")["language"] == "ko"
    assert languages.settled({"language": "xx"}, "ko", "yy")["language"] == "ko"
    assert languages.head(LANGUAGES["ko"]).count("aria-pressed='true'") == 1


def test_a_person_who_logged_in_can_leave_and_nobody_else_is_asked_to() -> None:
    assert "logout" not in languages.head(ENGLISH)
    head = languages.head(LANGUAGES["ko"], "ann <b>")
    assert "method='post' action='logout'" in head and "ann &lt;b&gt;" in head and "로그아웃" in head
