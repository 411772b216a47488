"""Captions of the world: they say what they claim to say, in both languages."""

import re

import numpy as np
import pytest

from opensora.datasets.world import english, korean
from opensora.datasets.world.korean import with_particle
from opensora.datasets.world.scene import (
    ATTRIBUTE_VALUES,
    SceneSpec,
    Subject,
    attributes,
    caption,
    caption_with_attributes,
    random_scene,
)
from opensora.datasets.world.spec import COLOURS, KINDS, MOTIONS, PLACES, PLAIN, UNSPECIFIED

WORDS = {"en": english, "ko": korean}


def drawn(language: str, phrasings: str, count: int = 400) -> list[tuple[SceneSpec, str, dict[str, str]]]:
    rng = np.random.default_rng(11)
    scenes = [random_scene(rng) for _ in range(count)]
    return [(s, *caption_with_attributes(s, rng, language, phrasings)) for s in scenes]


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("phrasings", ["train", "heldout"])
def test_mentioned_attributes_are_true_and_in_the_text(language: str, phrasings: str) -> None:
    words = WORDS[language]
    for scene, text, mentioned in drawn(language, phrasings):
        truth = attributes(scene)
        assert mentioned.keys() == ATTRIBUTE_VALUES.keys()
        assert all(v in (UNSPECIFIED, truth[k]) and v in ATTRIBUTE_VALUES[k] for k, v in mentioned.items())
        lower = text.lower()
        for number in "12"[: len(scene.subjects)]:
            assert any(w in lower for w in words.KINDS[mentioned[f"kind{number}"]]), text
            if (colour := mentioned[f"colour{number}"]) != UNSPECIFIED:
                assert any(w in lower for w in words.COLOURS[colour]), text
        if (place := mentioned["background"]) in PLACES:
            assert any(w in lower for forms in words.PLACES[place] for w in forms), text
        elif place in PLAIN:
            assert any(w in lower for w in words.PLAIN[place]), text
        for name, ending in (("strength", "The motion strength is "), ("aesthetic", "The aesthetic score is ")):
            if ending in text:
                assert f"{ending}{mentioned[name]}." in text


@pytest.mark.parametrize("language", ["en", "ko"])
def test_captions_are_tidy(language: str) -> None:
    for phrasings in ("train", "heldout"):
        for _, text, _ in drawn(language, phrasings):
            assert text == text.strip() and text
            assert not re.search(r"  | ,|,,|\.\.|\{|\}|, \.|,$", text), repr(text)
            body = text.split(" The aesthetic")[0].split(" The motion strength")[0].split(" camera motion:")[0]
            if language == "ko":
                assert re.search("[가-힣]", body) and not re.search("[a-z]", body), text


def test_endings_are_the_sentences_that_prompt_settings_append() -> None:
    endings = re.compile(
        r"(.*?)( The aesthetic score is [a-z ]+\.)?( The motion strength is [a-z ]+\.)?( camera motion: [a-z ]+\.)?$"
    )
    seen = set()
    for _, text, _ in drawn("en", "train"):
        match = endings.match(text)
        assert match is not None and "score is" not in match[1] and "camera motion" not in match[1]
        seen |= {i for i in (2, 3, 4) if match[i]}
    assert seen == {2, 3, 4}


@pytest.mark.parametrize("language", ["en", "ko"])
def test_heldout_phrasings_never_occur_in_training(language: str) -> None:
    scene = SceneSpec((Subject("ball", "red", "right"),), background="meadow")
    rng = np.random.default_rng(0)
    train = {caption(scene, rng, language) for _ in range(3000)}
    held = {caption(scene, rng, language, "heldout") for _ in range(300)}
    assert len(train) > 1000 and not train & held


def test_every_word_of_the_world_is_said() -> None:
    rng = np.random.default_rng(5)
    scene = SceneSpec(background="sea", weather="rain")
    assert "raining, sea" in {caption(scene, rng).lower() for _ in range(400)}
    for language, words in WORDS.items():
        for kind in KINDS:
            assert kind in words.KINDS
            for motion in MOTIONS:
                assert caption(SceneSpec((Subject(kind, "red", motion),)), rng, language)
        assert set(words.COLOURS) == set(COLOURS)


def test_korean_particles_follow_the_last_syllable() -> None:
    assert with_particle("빨간 공", "이") == "빨간 공이"
    assert with_particle("파란 배", "이") == "파란 배가"
    assert with_particle("별", "을") == "별을"
    assert with_particle("세모", "과") == "세모와"


def test_unknown_language_or_phrasing_is_refused() -> None:
    scene = SceneSpec()
    with pytest.raises(ValueError, match="'en' or 'ko'"):
        caption(scene, np.random.default_rng(0), "de")
    with pytest.raises(ValueError, match="'train' or 'heldout'"):
        caption(scene, np.random.default_rng(0), "en", "all")
