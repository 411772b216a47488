"""Requests that are stored and read again: equal, without pickle, and with a sentence where something is gone."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opensora.jobs import given
from opensora.jobs.serializer import JsonSerializer
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest


def through_json(request: GenerationRequest, folder: Path) -> GenerationRequest:
    return given.unpack(json.loads(json.dumps(given.pack(request, folder))), folder)


def test_settings_come_back_equal(tmp_path: Path) -> None:
    request = GenerationRequest(prompt="공이 튄다 'ball'", model="tiny", length=49, guidance=3.5, seed=2**63 - 1)
    assert through_json(request, tmp_path) == request
    checked = request.validated()
    assert through_json(checked, tmp_path) == checked
    assert through_json(checked, tmp_path).validated() == checked


def test_paths_and_pairs_keep_their_types(tmp_path: Path) -> None:
    request = GenerationRequest(prompt="a", model=tmp_path / "bundle")
    assert through_json(request, tmp_path).model == tmp_path / "bundle"
    odd = dataclasses.replace(request, reference_image=((tmp_path / "x", np.float64(0.5)), ("y", 1)))  # type: ignore[arg-type]
    assert through_json(odd, tmp_path).reference_image == ((tmp_path / "x", 0.5), ("y", 1))


def test_pictures_and_clips_come_back_to_the_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 24, 3), np.uint8)
    request = GenerationRequest(prompt="a", reference_image=Image.fromarray(pixels[0]), reference_video=pixels)
    again = through_json(request, tmp_path)
    assert np.array_equal(np.asarray(again.reference_image), pixels[0])
    assert np.array_equal(np.asarray(again.reference_video), pixels)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["reference_image.png", "reference_video.npz"]


def test_what_is_gone_or_unknown_is_a_sentence_and_the_list_still_shows_the_prompt(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8))
    packed = given.pack(GenerationRequest(prompt="a ball", reference_image=picture), tmp_path)
    (tmp_path / "reference_image.png").write_bytes(b"torn")
    with pytest.raises(RequestError, match="cannot be read any more"):
        given.unpack(packed, tmp_path)
    with pytest.raises(RequestError, match="settings that this version does not have"):
        given.unpack({"prompt": "a ball", "smell": 3}, tmp_path)
    assert given.outline({**packed, "smell": 3}) == GenerationRequest(prompt="a ball")


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "reference_video.npz", frames=np.array([{"a": 1}], dtype=object))
    with pytest.raises(RequestError, match="cannot be read"):
        given.unpack({"prompt": "a", "reference_video": {"given": "clip"}}, tmp_path)


def test_the_engine_stores_json() -> None:
    serializer = JsonSerializer()
    text = serializer.serialize({"args": ({"prompt": "a"},), "kwargs": {}})
    assert json.loads(text) == {"args": [{"prompt": "a"}], "kwargs": {}}
    assert str(serializer.deserialize(serializer.serialize(ValueError("no")))) == "ValueError: no"
    with pytest.raises(TypeError, match="JSON"):
        serializer.serialize({1, 2})
