"""Words to choose from in prompts, and prompts at random."""

import random
import re

import pytest

from opensora.ui.wildcards import expand, surprise


@pytest.mark.parametrize("seed", range(5))
def test_one_of_the_words_is_chosen_and_the_rest_stays(seed: int) -> None:
    made = expand("a {red|blue} ball {over the sea|} |0| {x} {}", random.Random(seed))
    assert re.fullmatch(r"a (red|blue) ball (over the sea)? \\|0\\| {x} {}".replace("\\\\", "\\"), made)


def test_every_word_is_chosen_some_time_and_inner_choices_come_first() -> None:
    made = {expand("{a|{b|c} d}", random.Random(seed)) for seed in range(60)}
    assert made == {"a", "b d", "c d"}


def test_braces_that_are_no_choice_and_endless_ones_stay() -> None:
    draw = random.Random(0)
    for prompt in ("", "{", "{|", "}{", "{a}", '{"reference_path": "x"}'):
        assert expand(prompt, draw) == prompt
    assert expand("{" * 500 + "a|b" + "}" * 500, draw).count("{") == 499


def test_a_random_prompt_is_in_the_language_of_the_page_and_names_no_scores() -> None:
    english = [surprise("en", seed) for seed in range(20)]
    korean = [surprise("ko", seed) for seed in range(20)]
    assert len(set(english)) == 20 and english[3] == surprise("en", 3)
    assert not any(re.search("[가-힣]", text) for text in english)
    assert all(re.search("[가-힣]", text) for text in korean)
    assert not any("score" in text or "strength" in text or "camera motion" in text for text in english + korean)
