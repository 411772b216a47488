"""The button that has the prompt written anew: only where a language model is set up, and never a lost prompt."""

import re
from collections.abc import Iterator
from pathlib import Path

import chat_server
import pytest
from chat_server import Chat
from memory_queue import MemoryQueue
from stepwise import Steps

from opensora.ui import improve
from opensora.ui.layout import create_demo
from opensora.ui.words import ENGLISH

SKIP = {"__type__": "update"}


def words_of_html(html: str) -> str:
    """What is read of it."""
    return re.sub("<[^>]*>", " ", html)


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENSORA_REFINER", raising=False)
    with chat_server.serve() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
        yield server


def labels(tmp_path: Path) -> set[str]:
    """Words on the buttons of the page."""
    queue = MemoryQueue(Steps(total=1), tmp_path)
    demo = create_demo(queue)
    queue.close()
    return {str(block.value) for block in demo.blocks.values() if type(block).__name__ == "Button"}


def test_the_button_is_there_only_where_a_language_model_is_set_up(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"Improve prompt", "Undo"} <= labels(tmp_path)
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert not {"Improve prompt", "Undo"} & labels(tmp_path)
    assert chat.requests == []


def test_the_new_prompt_replaces_the_old_one_which_is_kept(chat: Chat) -> None:
    text, before, undo, note = improve.improve(None, "a red ball")
    assert (text, before, undo["visible"]) == (chat.answer, "a red ball", True)
    assert "undo it" in note and "<ins>" in note
    assert improve.take_back(before)[0] == "a red ball"


@pytest.mark.parametrize(
    ("prompt", "mode"), [("a red ball", "401"), ("a red ball", "html"), ("", "fine"), (None, "fine")]
)
def test_a_failure_leaves_the_prompt_and_says_why_without_secrets(chat: Chat, prompt: str | None, mode: str) -> None:
    chat.mode = mode
    text, before, undo, note = improve.improve(None, prompt)
    assert (text, before, undo["visible"]) == (SKIP, SKIP, False)
    assert "role='alert'" in note and "sk-secret" not in note and "127.0.0.1" not in note
    korean = improve.improve({"owner": "me", "language": "ko"}, prompt)[-1]
    assert "프롬프트는 그대로 두었습니다." in korean and not re.search("[a-z]{3,} [a-z]{2,} ", words_of_html(korean))


def test_nothing_can_be_typed_over_while_the_model_writes() -> None:
    prompt, button, *_ = improve.wait(None)
    assert (prompt["interactive"], button["interactive"]) == (False, False)
    prompt, button = improve.ready(None)
    assert (prompt["interactive"], button["interactive"], button["value"]) == (True, True, "Improve prompt")


def test_what_changed_is_shown_and_typed_text_stays_text() -> None:
    html = improve.difference(ENGLISH, "a red ball <b>", "a bright red ball rolls <b>")
    assert "<ins>bright</ins>" in html and "<ins>rolls</ins>" in html
    assert "<del>" not in html and "&lt;b&gt;" in html and "<b>" not in html
    assert "<del>red</del> <ins>blue</ins>" in improve.difference(ENGLISH, "a red ball", "a blue ball")
