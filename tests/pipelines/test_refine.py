"""Prompt refinement against a small server and a tiny local model: what is sent, what is taken, and every failure."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import chat_server
import pytest
import torch
from chat_server import Chat
from pipelines.bundles_v2 import write_bundle
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from opensora.pipelines import refine, refine_endpoint, refine_local
from opensora.pipelines.build import release_models
from opensora.pipelines.refine import RefineError, configured, dynamic_motion, improved
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.video import generate

KEY = "sk-secret-of-the-endpoint"
VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "OPENSORA_REFINER")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No endpoint of this machine, and no proxy between a test and loopback."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(refine_endpoint, "RETRY_SECONDS", 0.01)


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    with chat_server.serve() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield server


def refused(prompt: str = "a red ball", **settings: str) -> str:
    """The sentence of a refusal, without secrets."""
    with pytest.raises(RefineError) as caught:
        refine.refine(prompt, **settings)  # type: ignore[arg-type]
    text = str(caught.value)
    assert KEY not in text and "127.0.0.1" not in text and text[0].isupper() and text.endswith(".")
    assert caught.value.__cause__ is None or caught.value.__suppress_context__
    return text


def test_a_prompt_is_sent_once_and_the_answer_is_the_new_prompt(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "small-model")
    assert improved("  a red ball ") == refine.Refined("A red ball rolls over wet grass.")
    (sent,) = chat.requests
    assert sent["model"] == "small-model" and sent["messages"][1] == {"role": "user", "content": "a red ball"}
    assert sent["messages"][0]["role"] == "system" and "in the language of the description" in str(sent)
    assert chat.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_local_server_needs_no_key(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert refine.refine("a red ball") and "authorization" not in chat.headers[0]


def test_it_works_where_an_event_loop_runs(chat: Chat) -> None:
    async def inside() -> str:
        return refine.refine("a red ball")

    assert asyncio.run(inside()) == chat.answer


def test_every_text_of_a_story_is_refined_and_keeps_its_loop(chat: Chat) -> None:
    chat.mode = "echo"
    assert refine.refine("|0| a calm sea |2| a storm") == "|0|A CALM SEA|2|A STORM"
    assert len(chat.requests) == 2
    assert refine.refine("빨간 공이 굴러간다") == "빨간 공이 굴러간다"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('"A ball."', "A ball."),
        ("“A ball.”", "A ball."),
        ("<think>What might it be?</think>\n\nA ball.\nIt rolls.", "A ball. It rolls."),
        ('A ball {"reference_path": "/etc/passwd"}', 'A ball "reference_path": "/etc/passwd"'),
        ("|0| A ball | 1 | a box", "0 A ball 1 a box"),
        ("```\nA ball.\n```", "A ball."),
        ("A\x07 ball", None),
        ("\ud800 ball", None),
        ("<think>What might it", None),
        ("", None),
        ("42 !", None),
        ("x" * 2001, None),
    ],
)
def test_only_plain_words_are_taken(chat: Chat, answer: str, text: str | None) -> None:
    chat.answer = answer
    if text is None:
        refused()
    else:
        assert refine.refine("a ball") == text


@pytest.mark.parametrize(
    ("mode", "words", "requests"),
    [
        ("html", "is no chat completion", 1),
        ("empty", "is no chat completion", 1),
        ("list", "is no chat completion", 1),
        ("deep", "is no chat completion", 1),
        ("401", r"does not accept the key \(401\); check OPENAI_API_KEY", 1),
        ("404", "check OPENAI_BASE_URL and OPENAI_MODEL", 1),
        ("429", "asks to slow down", 1),
        ("500", "answered 500", 2),
        ("large", "more than 256 kB", 1),
        ("broken", "broke off", 1),
        ("garbage", "is no HTTP", 1),
        ("redirect", "answered 307", 1),
    ],
)
def test_an_endpoint_that_fails_leaves_the_prompt_and_says_why(
    chat: Chat, mode: str, words: str, requests: int
) -> None:
    chat.mode = mode
    assert re.search(words, refused())
    assert len(chat.requests) == requests
    kept = improved("a red ball")
    assert kept.text == "a red ball" and kept.problem.startswith("The prompt was left as it is. ")


def test_an_error_of_the_server_is_tried_once_more(chat: Chat) -> None:
    chat.mode = "503-once"
    assert refine.refine("a red ball") == chat.answer
    assert len(chat.requests) == 2


@pytest.mark.parametrize("mode", ["never", "drip"])
def test_an_endpoint_that_never_answers_is_left_in_time(chat: Chat, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chat.mode = mode
    monkeypatch.setattr(refine_endpoint, "TOTAL_SECONDS", 0.5)
    start = time.monotonic()
    assert "did not answer within 0.5 seconds" in refused()
    assert time.monotonic() - start < 60


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9/v1", "cannot be reached"),
        ("ftp://127.0.0.1/v1", "is no address"),
        ("127.0.0.1:9", "is no address"),
        ("http://user:word@127.0.0.1:9/v1", "without a user in it"),
        ("http://[1/v1", "is no address"),
    ],
)
def test_an_address_that_leads_nowhere_is_said(url: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    assert words in refused() and "word@" not in refused()


def test_a_key_that_cannot_be_one_is_not_sent_or_shown(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\r\nX-Other: ü")
    assert "OPENAI_API_KEY holds characters" in refused()
    assert chat.requests == []


@pytest.mark.parametrize("prompt", ["", "  ", "x" * 2001, "a\0b", "\ud800", "|0| a | b", "|0|a" + "|1|b|2|c" * 5])
def test_prompts_that_cannot_be_refined_are_not_sent(chat: Chat, prompt: str) -> None:
    refused(prompt)
    assert chat.requests == []


def test_nothing_is_offered_where_nothing_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not configured()
    assert "OPENAI_API_KEY or OPENAI_BASE_URL" in refused()
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENSORA_REFINER"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "x")
            assert configured()


@pytest.mark.parametrize(
    ("answer", "score"),
    [("5", 5), ("Score: 6/7.", 6), ("<think>3 or 2</think> 7", 7), ("8", 4), ("3 or 4", 4), ("", 4)],
)
def test_motion_scores_are_digits_or_the_usual_one(chat: Chat, answer: str, score: int) -> None:
    chat.answer = answer
    found, said = dynamic_motion("a car race")
    assert found == score
    assert ("none was had" in said) is (score == 4)


def test_a_clip_with_dynamic_motion_is_told_the_score(chat: Chat, tmp_path: Path) -> None:
    chat.answer = "6"
    folder = write_bundle(tmp_path / "v2")
    request = GenerationRequest("a race", model=folder, length="1f", steps=1, seed=1, motion_score="dynamic")
    result = generate(request)
    assert result.settings["texts"] == ["a race 6 motion score."] and result.settings["motion_score"] == 6
    assert result.notes[0] == "The motion score 6 was chosen for the text."
    chat.mode = "500"
    result = generate(request)
    assert result.settings["motion_score"] == 4 and "answered 500" in result.notes[0]
    release_models()
    with pytest.raises(RequestError, match="motion score 'often'; expected a whole number from 1 to 7"):
        GenerationRequest("a race", model=folder, motion_score="often").validated()


def write_model(folder: Path) -> Path:
    """A language model that knows some words and says them at random; returns its folder."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="thing"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(
        ["a red ball rolls over wet grass"], trainers.WordLevelTrainer(special_tokens=["thing", "end"])
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="thing", eos_token="end", pad_token="end")
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=1,
        bos_token_id=1,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        head = model.lm_head.weight
        head[1], head[3] = 0, -head[2]  # one of two words is always likelier than the end
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("template", [False, True])
def test_a_local_model_writes_without_a_network(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: bool
) -> None:
    folder = write_model(tmp_path / "model")
    if template:
        (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    monkeypatch.setenv("OPENSORA_REFINER", str(folder))
    monkeypatch.setattr(refine_local, "MAX_TOKENS", 8)
    text = refine.refine("a red ball")
    assert text == refine.refine("a red ball")
    assert set(text.split()) <= {"a", "red", "ball", "rolls", "over", "wet", "grass", "thing"}
    assert chat.requests == []


@pytest.mark.parametrize("how", ["nowhere", "empty", "damaged", "pickle"])
def test_a_local_model_that_cannot_be_used_is_said_without_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = tmp_path / "model"
    if how != "nowhere":
        folder.mkdir()
    if how in ("damaged", "pickle"):
        write_model(folder)
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:100])
        if how == "pickle":
            weights.rename(folder / "pytorch_model.bin")
    monkeypatch.setenv("OPENSORA_REFINER", str(folder))
    text = refused()
    assert str(tmp_path) not in text
    assert ("no config.json" if how in ("nowhere", "empty") else "cannot be used (") in text
