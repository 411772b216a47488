"""Everything that the page offers is something that a request takes."""

import dataclasses

import pytest

from opensora.datasets.aspect import aspect_ratios
from opensora.models import zoo
from opensora.pipelines.request import GenerationRequest, parse_length
from opensora.ui import choices, fields
from opensora.ui.words import ENGLISH


def test_every_length_is_what_its_label_says() -> None:
    every = sorted({frames for offered in choices.FRAMES.values() for frames in offered})
    for label, value in choices.lengths(ENGLISH, tuple(every)):
        frames = parse_length(value, fps=24)
        assert f"{frames} frame" in label
        if frames > 1:
            assert float(label.split(" s")[0]) == pytest.approx(frames / 24, abs=0.35)


def test_every_choice_is_accepted_and_reaches_the_text() -> None:
    for field, offered in (("camera_motion", choices.cameras(ENGLISH)), ("motion_score", choices.motions(ENGLISH))):
        for _, value in offered[1:]:
            number = int(value) if field == "motion_score" else value
            request = dataclasses.replace(GenerationRequest("a ball", model="tiny"), **{field: number}).validated()
            assert request.texts(request.bundle())[0] != "a ball"
    for label, value in choices.aesthetics(ENGLISH)[1:]:
        request = GenerationRequest("a ball", model="tiny", aesthetic_score=float(value)).validated()
        assert label.split(" · ")[1] in request.texts(request.bundle())[0]


def test_motion_by_a_language_model_is_offered_where_one_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENSORA_REFINER", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert "dynamic" not in dict((value, label) for label, value in choices.motions(ENGLISH))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert choices.motions(ENGLISH)[-1][1] == "dynamic"
    chosen = {**fields.starting("tiny"), "prompt": "a ball", "motion_score": "dynamic"}
    asked = fields.request_of([chosen.get(name) for name in fields.FIELDS])
    assert asked.motion_score == "dynamic" and fields.values_of(asked)["motion_score"] == "dynamic"


def test_every_model_says_where_it_is_and_what_it_needs() -> None:
    offered = dict((value, label) for label, value in choices.models(ENGLISH))
    assert list(offered) == list(zoo.PRESETS)
    for name, label in offered.items():
        if zoo.PRESETS[name].bundled:
            assert "bundled" in label
        else:
            assert "GB to download" in label or "downloaded" in label
            assert "GB GPU" in label
        assert choices.resolutions(name)
        own = choices.defaults(name)
        assert own.steps >= 1 and own.guidance > 0 and own.image_guidance > 0


def test_ratios_are_width_to_height_with_their_size_in_pixels() -> None:
    offered = {value: label for label, value in choices.ratios(ENGLISH, "tiny", "144p")}
    assert offered["16:9"] == "16:9 wide · 256 × 144"
    assert offered["9:16"] == "9:16 upright · 144 × 256"
    assert offered["1:1"].startswith("1:1 square")


def test_sizes_are_those_that_the_models_autoencoder_makes() -> None:
    high = next(name for name in zoo.PRESETS if choices.offer(name).frames == choices.HIGH_COMPRESSION_FRAMES)
    for ratio in aspect_ratios("768px"):
        assert [side % 32 for side in choices.size(high, "768px", ratio)] == [0, 0]
    made = GenerationRequest("a ball", model=high, aspect_ratio="4:3", length="64f").validated().size()
    assert choices.size(high, "768px", "4:3") == made
    assert choices.size("opensora-2.0", "768px", "4:3") != made
