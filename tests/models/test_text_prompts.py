"""Wording of prompts."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from opensora.models.text import prompts
from tests.golden_io import load_json

V13: dict[str, Any] = load_json("utils_prompts_v13")
V12: dict[str, Any] = load_json("utils_prompts_v12")


def check(expected: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """The call has the published result, or says in a sentence what is wrong where the published code broke off."""
    if isinstance(expected, dict) and "error" in expected:
        with pytest.raises(ValueError, match=r"^[A-Z|].*\.$") as caught:
            call(*args, **kwargs)
        assert type(caught.value) is ValueError
        return
    actual = call(*args, **kwargs)
    assert (list(actual) if isinstance(actual, tuple) else actual) == expected, (args, kwargs)


def test_versions_share_all_but_the_scores() -> None:
    assert {key for key in V12 if V12[key] != V13[key]} == {"upstream", "append_score_to_prompts"}


@pytest.mark.parametrize(("wording", "table"), [("v1.3", V13), ("v1.2", V12)])
def test_scores(wording: prompts.Wording, table: dict[str, Any]) -> None:
    for texts, scores, expected in table["append_score_to_prompts"]["table"]:
        check(expected, prompts.append_score_to_prompts, texts, **scores, wording=wording)


def test_the_newest_wording_is_the_default() -> None:
    assert prompts.append_score_to_prompts(["a cat"], 6.5, 0.1) == [
        "a cat The aesthetic score is excellent. The motion strength is very low."
    ]


@pytest.mark.parametrize("wording", ["1.3", "", None])
def test_unknown_wording(wording: Any) -> None:
    with pytest.raises(ValueError, match=r"choose v1\.3 or v1\.2"):
        prompts.append_score_to_prompts(["a"], 5, wording=wording)


def test_words() -> None:
    for score, expected in V13["transform_aes"]:
        assert prompts.transform_aes(score) == expected
    for score, expected in V13["transform_motion"]:
        assert prompts.transform_motion(score) == expected
    for wrong in (math.nan, "5", True, None):
        with pytest.raises(ValueError, match="is not a number"):
            prompts.transform_aes(wrong)  # type: ignore[arg-type]
    for numbers in ({"aes": math.nan}, {"aes": "nan"}, {"flow": "nan"}):
        with pytest.raises(ValueError, match="is not a number"):
            prompts.append_score_to_prompts(["a"], **numbers)  # type: ignore[arg-type]


def test_motion_words() -> None:
    words = [prompts.motion_word(score) for score in range(1, 8)]
    assert words == ["very low", "low", "fair", "fair", "high", "very high", "extremely high"]
    for wrong in (0, 8, -1, 1.5, "3", True, None):
        with pytest.raises(ValueError, match="not one of 1, 2, 3, 4, 5, 6 and 7"):
            prompts.motion_word(wrong)  # type: ignore[arg-type]


def test_split_and_merge() -> None:
    for prompt, expected in V13["split_prompt"]:
        check(expected, prompts.split_prompt, prompt)
    for texts, starts, expected in V13["merge_prompt"]:
        check(expected, prompts.merge_prompt, texts, starts)
    assert prompts.split_prompt(prompts.merge_prompt(["a", "b"], [0, 7])) == (["a", "b"], [0, 7])
    with pytest.raises(ValueError, match="no text"):
        prompts.merge_prompt([])
    for wrong in ("|0|a|0|b", "|0|a|3|b|2|c", "|0|a|²|b", "|0|a|-1|b"):
        with pytest.raises(ValueError, match=r"write \|0\| text"):
            prompts.split_prompt(wrong)


def test_prompts_of_a_segment() -> None:
    for prompt, loop, expected in V13["extract_prompts_loop"]["table"]:
        check(expected, prompts.extract_prompts_loop, [prompt], loop)
    with pytest.raises(ValueError, match="below zero"):
        prompts.extract_prompts_loop(["a"], -1)


def test_options_inside_prompts() -> None:
    for texts, expected in V13["extract_json_from_prompts"]["table"]:
        check(expected, prompts.extract_json_from_prompts, texts)
    for wrong in ('a {"mask_strategy": 1}', "a " + '{"reference_path":' * 100_000, "a {}{}"):
        with pytest.raises(ValueError, match=r"The (prompt|option)") as caught:
            prompts.extract_json_from_prompts([wrong])
        assert len(str(caught.value)) < 500


def test_caption_prefixes() -> None:
    for caption, expected in V13["remove_caption_prefix"]:
        check(expected, prompts.remove_caption_prefix, caption)
