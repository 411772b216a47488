"""What 2.0's text encoders read is what its weights were published with."""

from typing import Any

import pytest

from opensora.models.text.prompts_v2 import add_frame_rate, add_motion_score, as_sentence, spoken
from tests.golden_io import load_json

PUBLISHED: dict[str, Any] = load_json("v2/tables/prompts_and_names")


@pytest.mark.parametrize("rate", PUBLISHED["add_fps_info_to_text"])
def test_the_frame_rate_is_said_once(rate: str) -> None:
    for prompt, expected in PUBLISHED["add_fps_info_to_text"][rate].items():
        assert add_frame_rate(prompt, int(rate.removeprefix("fps"))) == expected, prompt


@pytest.mark.parametrize("score", PUBLISHED["add_motion_score_to_text"])
def test_the_motion_score_is_said(score: str) -> None:
    for prompt, expected in PUBLISHED["add_motion_score_to_text"][score].items():
        assert add_motion_score(prompt, score) == expected, prompt


def test_both_together_and_the_full_stop() -> None:
    for prompt, expected in PUBLISHED["full_pipeline"].items():
        assert spoken(prompt, 24, 4) == expected, prompt
    for prompt, expected in PUBLISHED["ensure_sentence_ends_with_period"].items():
        assert as_sentence(prompt) == expected, prompt
    assert spoken("a picture") == "a picture"
