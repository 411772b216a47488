"""Requests: every wrong value is a sentence that names its field, and checking twice changes nothing."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from opensora.datasets.aspect import aspect_ratios
from opensora.pipelines.parts import plan_parts
from opensora.pipelines.request import GenerationRequest, RequestError, parse_length

ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=4), st.just([1])
)

NAMES = ["", ".", "/", "x" * 5000, "a\0b", "/dev/zero", "\ud800"]
"""What no file is called."""

IMAGES: st.SearchStrategy[Any] = st.one_of(
    st.just(np.full((9, 16, 3), 80, np.uint8)),
    st.just(Image.new("RGBA", (1, 500), (1, 2, 3, 4))),
    st.just(np.zeros((4, 4), np.float32)),
    st.just(np.zeros((0, 4, 3), np.uint8)),
    st.sampled_from(NAMES).flatmap(lambda text: st.sampled_from([text, Path(text)])),
)

LORAS: st.SearchStrategy[Any] = st.lists(
    st.tuples(st.sampled_from(NAMES) | ANYTHING, ANYTHING) | ANYTHING, max_size=9
).map(tuple)

FIELDS = {
    "prompt": st.text(min_size=1, max_size=40) | ANYTHING,
    "model": st.sampled_from(["tiny", None]) | ANYTHING,
    "resolution": st.sampled_from(["144p", None]) | ANYTHING,
    "aspect_ratio": st.sampled_from([*aspect_ratios("144p"), None]) | ANYTHING,
    "length": st.sampled_from(["2s", "0.1s", "49f", 1, 17, "15s", "353f"]) | ANYTHING,
    "motion_score": st.integers(1, 7) | ANYTHING,
    "aesthetic_score": st.floats(0, 10) | ANYTHING,
    "camera_motion": st.sampled_from(["static", "zoom in"]) | ANYTHING,
    "steps": st.integers(1, 100) | ANYTHING,
    "guidance": st.floats(1, 20) | ANYTHING,
    "image_guidance": st.floats(1, 20) | ANYTHING,
    "negative_prompt": st.text(max_size=20) | ANYTHING,
    "seed": st.integers(0, 2**63 - 1) | ANYTHING,
    "num_videos": st.integers(1, 3) | ANYTHING,
    "loops": st.integers(1, 4) | ANYTHING,
    "reference_image": IMAGES | ANYTHING,
    "cond_type": st.sampled_from(["i2v_head", "i2v_tail", None]) | ANYTHING,
    "device": st.sampled_from(["cpu", "cuda:9", None]) | ANYTHING,
    "dtype": st.sampled_from(["bf16", None]) | ANYTHING,
    "loras": LORAS | ANYTHING,
}


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({"prompt": FIELDS["prompt"]}, optional={k: v for k, v in FIELDS.items() if k != "prompt"}))
def test_a_request_is_complete_or_an_error_that_names_its_field(fields: dict[str, Any]) -> None:
    check(GenerationRequest(**fields), set(GenerationRequest.__dataclass_fields__))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FIELDS)).flatmap(lambda name: st.tuples(st.just(name), FIELDS[name])))
def test_one_wrong_field_is_the_one_that_is_named(field: tuple[str, Any]) -> None:
    name, value = field
    related = {"model": {"resolution"}, "loops": {"length"}, "reference_image": {"resolution"}}
    check(GenerationRequest(**{"prompt": "a red ball", name: value}), {name, *related.get(name, set())})


def check(request: GenerationRequest, fields: set[str]) -> None:
    """A request is completed and stays as it is, or refused with a sentence on one of the fields."""
    try:
        done = request.validated()
    except RequestError as error:
        assert error.field in fields
        assert str(error)[0].isupper() or error.field == "reference_image"  # which may begin with a file's name
        assert str(error)[-1] in ".`)"
        assert len(str(error)) < 600
        return
    same = dataclasses.replace(done.validated(), reference_image=done.reference_image)
    assert same == done
    assert done.model and done.resolution and done.aspect_ratio and done.steps and done.guidance is not None
    parts = done.parts(done.bundle())
    assert sum(part.kept for part in parts) >= 1
    height, width = done.size()
    assert height % 16 == width % 16 == 0


@settings(deadline=None)
@given(st.integers(1, 361), st.integers(1, 20))
def test_parts_cover_the_clip(frames: int, loops: int) -> None:
    own = (17, 33, 49, 65, 81, 97)
    if loops > 1:
        frames = min(frames, own[-1])
    parts = plan_parts(frames, loops, own)
    assert parts[0].condition == 0
    assert all(part.condition == 17 for part in parts[1:])
    assert all(part.frames in (1, *own) for part in parts)
    assert all(part.kept == part.frames - part.condition for part in parts[:-1])
    assert all(0 < part.kept <= part.frames - part.condition for part in parts)
    total = sum(part.kept for part in parts)
    if loops == 1:
        assert total == frames
    elif frames > 1:
        assert len(parts) == loops
        assert total >= frames


@pytest.mark.parametrize(
    ("length", "frames"),
    [("2s", 48), ("0.5 s", 12), ("49f", 49), (17, 17), ("1f", 1), ("15s", 360), ("3 seconds", 72), ("0.01s", 1)],
)
def test_lengths_are_exact(length: str | int, frames: int) -> None:
    assert parse_length(length, 24) == frames


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"prompt": "  "}, "prompt", "describe what"),
        ({"prompt": "x" * 4001}, "prompt", "at most 4000"),
        ({"prompt": "a \x1b]0;title\x07 ball"}, "prompt", "no text"),
        ({"negative_prompt": "a\x00"}, "negative_prompt", "no text"),
        ({"length": "16s"}, "length", "15 seconds"),
        ({"length": "-1f"}, "length", "write seconds as 2s"),
        ({"length": 0}, "length", "from 1 frame"),
        ({"length": "20"}, "length", "write seconds as 2s"),
        ({"length": "97f", "loops": 9}, "length", "9 loops of 97 frames make"),
        ({"length": "5s", "loops": 2}, "loops", "at most 97 frames"),
        ({"length": 1, "loops": 2}, "loops", "single picture"),
        ({"aspect_ratio": "5:1"}, "aspect_ratio", "16:9"),
        ({"model": "tiny", "resolution": "720p"}, "resolution", "opensora-1.3-t2v-720p"),
        ({"resolution": "721p"}, "resolution", "720p"),
        ({"model": "tyni"}, "model", "Did you mean 'tiny'"),
        ({"model": "opensora-2.0", "resolution": "144p"}, "resolution", "does t2v, i2v, t2i at 256px, 768px"),
        ({"motion_score": 8}, "motion_score", "from 1 to 7"),
        ({"steps": 2.5}, "steps", "whole number"),
        ({"guidance": float("nan")}, "guidance", "a number"),
        ({"camera_motion": "roll"}, "camera_motion", "pan left"),
        ({"cond_type": "i2v_head"}, "cond_type", "needs a reference image"),
        ({"cond_type": "v2v_tail"}, "cond_type", "needs a reference video of at least 17 frames"),
        ({"reference_image": "nowhere.png"}, "reference_image", "no image file"),
        ({"prompt": "|0| a |1| b"}, "prompt", "made in 1 part; loops count from 0, so ask for 2 loops"),
        ({"prompt": "|1| a |2| b", "loops": 3}, "prompt", r"begins with '\|1\|'; loops count from 0"),
        ({"prompt": "| 0 | a | 1 | b", "loops": 2}, "prompt", r"write \|0\| text"),
        ({"prompt": "|0| a |1|", "loops": 2}, "prompt", "empty"),
        ({"prompt": "|0| a |2| b |1| c", "loops": 3}, "prompt", "ascend"),
        ({"prompt": "https://example.com"}, "prompt", "Nothing is left"),
        ({"negative_prompt": "#12345"}, "negative_prompt", "Nothing is left"),
        ({"model": Path("nowhere")}, "model", "no bundle"),
    ],
)
def test_errors_are_sentences(fields: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        GenerationRequest(**{"prompt": "a ball", **fields}).validated()
    assert caught.value.field == field


HOSTILE: dict[str, Any] = {
    "true": True,
    "numpy true": np.True_,
    "huge": 10**400,
    "too long to print": -(10**5000),
    "nan": np.float32("nan"),
    "infinite": float("-inf"),
    "array": np.array([1, 2]),
    "complex": 3j,
    "object": object,
    "bytes": b"x",
    "long text": "x" * 100_000,
    "infinite frames": "9" * 400 + "f",
    "infinite seconds": "9" * 5000 + "s",
    "half a character": "\ud800",
    "colours": "\x1b[31mred",
    "no folder": Path("nowhere"),
    "nobody's folder": Path("~nobody/x"),
    "long name": Path("x" * 5000),
    "no name": Path("\0"),
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_no_value_of_any_field_is_more_than_a_short_sentence(value: Any) -> None:
    for name in GenerationRequest.__dataclass_fields__:
        try:
            GenerationRequest(**{"prompt": "a red ball", name: value}).validated()
        except RequestError as error:
            assert error.field in {name, "resolution"}
            assert len(str(error)) < 400 and str(error).isprintable(), str(error)
            assert str(Path.cwd()) not in str(error)
        else:
            free = name in ("prompt", "negative_prompt", "device")  # the device is asked for when there is one to ask
            assert free or (name == "offload" and value is True)


def test_numbers_of_numpy_become_plain_ones() -> None:
    numbers = {
        "motion_score": np.uint8(3),
        "steps": np.int16(9),
        "seed": np.uint64(2**63 - 1),
        "num_videos": np.uint8(2),
    }
    done = GenerationRequest("a ball", length=np.int64(17), loops=np.int32(2), **numbers).validated()  # type: ignore[arg-type]
    assert all(type(getattr(done, name)) is int for name in (*numbers, "loops"))
    assert sum(part.kept for part in done.parts(done.bundle())) == 33


def test_a_name_never_opens_a_folder(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text('{"name": "mine"}')
    with pytest.raises(RequestError, match="expected one of"):
        GenerationRequest("a ball", model=str(tmp_path)).validated()
    assert GenerationRequest("a ball", model=tmp_path).validated().resolution == "144p"


def test_defaults_are_filled_in() -> None:
    done = GenerationRequest(" a ball ").validated()
    assert (done.prompt, done.model, done.resolution, done.aspect_ratio) == ("a ball", "tiny", "144p", "16:9")
    assert done.size() == (144, 256)
    assert GenerationRequest("x", aspect_ratio="9:16").validated().size() == (256, 144)
    assert GenerationRequest("x", resolution="720p").validated().model == "opensora-1.3-t2v-720p"


def test_a_reference_image_chooses_the_shape_and_is_cut_to_it() -> None:
    upright = np.zeros((640, 360, 3), np.uint8)
    done = GenerationRequest("x", reference_image=upright).validated()
    assert (done.aspect_ratio, done.mode, done.cond_type) == ("9:16", "i2v", "i2v_head")
    assert isinstance(done.reference_image, Image.Image)
    assert done.reference_image.size == (144, 256)
    wide = GenerationRequest("x", reference_image=upright, aspect_ratio="16:9").validated()
    assert isinstance(wide.reference_image, Image.Image)
    assert wide.reference_image.size == (256, 144)


def test_every_part_reads_its_own_words() -> None:
    request = GenerationRequest(
        "|0| A red ball |2| a Blue ball",
        length="17f",
        loops=4,
        motion_score=7,
        aesthetic_score=7,
        camera_motion="static",
    ).validated()
    texts = request.texts(request.bundle())
    ending = "the aesthetic score is excellent. the motion strength is extremely high. camera motion: static."
    assert [text.startswith("a red ball") for text in texts] == [True, True, False, False]
    assert texts[2].startswith("a blue ball")
    assert all(text.endswith(ending) for text in texts)
    assert request.negative_texts(request.bundle()) is None


def test_a_prompt_never_names_a_file() -> None:
    request = GenerationRequest('a ball {"reference_path": "secret.png"}').validated()
    assert request.mode == "t2v"
    assert request.reference_image is None


def test_a_given_last_frame_is_not_cut_off() -> None:
    image = np.zeros((90, 160, 3), np.uint8)
    fields: dict[str, Any] = {"prompt": "x", "reference_image": image, "cond_type": "i2v_tail"}
    with pytest.raises(RequestError, match="not made for i2v_tail") as caught:
        GenerationRequest(**fields, model="tiny").validated()
    assert caught.value.field == "cond_type"
    with pytest.raises(RequestError, match="49f, 65f"):
        GenerationRequest(**fields, model="opensora-1.3-i2v", length="2s").validated()
    assert GenerationRequest(**fields, model="opensora-1.3-i2v", length="49f").validated().cond_type == "i2v_tail"
