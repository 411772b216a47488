"""Sentences that the page says in every language: none is lost on the way, none lacks a template or a value."""

import ast
import json
import pickle
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from opensora.checkpoint import errors
from opensora.datasets import confined
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.sentences import Sentence, joined, named, pack, say, unpack
from opensora.sentences.english import ENGLISH
from opensora.ui.words import LANGUAGES, Words

CODE = Path(__file__).parents[1] / "opensora"
OTHERS = [w for w in LANGUAGES.values() if w.code != "en"]
PREFIXES = ("field.", "stage.", "queue.full")
"""Codes that are put together where they are said."""
HUB = tuple(kind.__name__ for kind in errors.HubError.__subclasses__())
"""Why weights could not be had, which the list of models shows."""
WORDLESS = ("and.then", "at", "list.next", "lora.refused", "login.language")
"""Codes of sentences that only put others together, and of the name of a language."""
FOR_PROGRAMS = ("server/fields.py", "cli.py", "pipelines/video.py")
"""Files whose errors are about the names of settings in calls, which no page shows."""


def names(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def calls(*functions: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call of functions in the code, with its file."""
    for file in CODE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            own, of = getattr(node.func, "id", ""), getattr(node.func, "attr", "")
            if own in functions or (of in functions and of[0].isupper()):  # of a module, such as errors.HubError
                yield file.relative_to(CODE).as_posix(), node


@pytest.mark.parametrize("w", OTHERS, ids=lambda w: w.code)
def test_every_sentence_is_there_in_every_language_with_the_same_values(w: Words) -> None:
    assert list(w.sentences) == list(ENGLISH)
    for code, text in w.sentences.items():
        assert text.strip() == text and names(text) == names(ENGLISH[code]), code


def test_korean_sentences_are_written_in_korean() -> None:
    for code, text in LANGUAGES["ko"].sentences.items():
        assert code in WORDLESS or re.search("[가-힣]", re.sub(r"{\w+}", "", text)), code


def test_what_is_said_has_a_sentence_and_all_its_values_and_every_sentence_is_said() -> None:
    said, files = set(), set()
    for file, call in calls("say"):
        files.add(file)
        code = call.args[0]
        if not isinstance(code, ast.Constant):
            continue
        said.add(code.value)
        given = {keyword.arg for keyword in call.keywords}
        if None not in given:
            assert given == names(ENGLISH[code.value]), f"{file}:{call.lineno} {code.value}"
    text = "".join((CODE / file).read_text(encoding="utf-8") for file in files)
    assert {code for code in ENGLISH if not code.startswith(PREFIXES) and f'"{code}"' not in text} == set()
    assert said <= set(ENGLISH)


def test_no_error_of_a_request_is_english_alone() -> None:
    plain = [
        f"{file}:{call.lineno}"
        for file, call in calls("RequestError", "GenerationError", "RefineError", "LoraError", *HUB)
        if call.args and isinstance(call.args[-1], ast.JoinedStr | ast.Constant) and file not in FOR_PROGRAMS
    ]
    assert plain == []


def test_an_error_keeps_what_it_says_on_every_way() -> None:
    with pytest.raises(RequestError) as caught:
        GenerationRequest(prompt="a ball", steps=0).validated()
    said = str(caught.value)
    assert said == "Got the steps 0; expected a whole number from 1 to 1000." and isinstance(said, Sentence)
    for way in (pickle.loads(pickle.dumps(said)), unpack(json.loads(json.dumps(pack(said))), "?")):
        assert way == said and isinstance(way, Sentence)
        assert LANGUAGES["ko"].tell(way) == "스텝: 0 값은 쓸 수 없습니다. 1부터 1000까지의 정수를 쓰세요."
        assert LANGUAGES["en"].tell(way) == said
    assert LANGUAGES["ko"].tell("plain") == "plain" and named("something_new") == "something new"


def test_sentences_behind_each_other_are_said_in_one_language() -> None:
    both = joined([say("time.guess"), say("disk.none", need="2 GB", free="1 GB")])
    assert both == "The time is a guess until the first clip has been made on this machine. " + say(
        "disk.none", need="2 GB", free="1 GB"
    )
    assert "first" not in LANGUAGES["ko"].tell(both) and LANGUAGES["ko"].tell(both).endswith("공간을 비우세요.")
    assert joined([]) == ""


def test_a_refusal_of_the_process_that_reads_files_keeps_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"nonsense" * 40)
    with pytest.raises(ValueError, match=r"broken\.png is damaged") as caught:
        confined.read_image(tmp_path / "broken.png")
    assert LANGUAGES["ko"].tell(str(caught.value)).startswith("broken.png: 손상되어")


@pytest.mark.parametrize(
    "told",
    [None, 5, [], {}, {"code": "prompt.none"}, {"code": "nothing", "values": {}}, {"code": [], "values": {}},
     {"code": "choice", "values": {"field": "x"}}, "x" * 30_000],
)  # fmt: skip
def test_what_was_changed_on_its_way_becomes_another_text(told: object) -> None:
    assert unpack(told, "otherwise") == "otherwise"
    deep: object = "end"
    for _ in range(50):
        deep = {"code": "and.then", "values": {"first": "x", "rest": deep}}
    assert "end" not in unpack(deep, "otherwise")
