"""A file is enough to make its clip again: its request comes back, a second run is equal, and differences are named."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pipelines.bundles import STDIT
from pipelines.lora_files import write_lora

from opensora.datasets import video_io
from opensora.datasets.video_io import read_metadata, write_mp4, write_png
from opensora.models.stdit.stdit3 import STDiT3
from opensora.pipelines import embedded
from opensora.pipelines.again import Verdict, run_again
from opensora.pipelines.reproduce import DERIVED, Recorded, read_settings, supply
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import PICTURE, GenerationResult, pixels_sha256
from opensora.pipelines.video import generate

PICTURES = np.random.default_rng(0).integers(0, 255, (2, 90, 160, 3), np.uint8)


def made(folder: Path, request: GenerationRequest, name: str = "clip") -> tuple[Path, GenerationResult]:
    result = generate(request)
    return result.save(folder / name)[-1], result


def again(file: Path, **given: Any) -> Verdict:
    recorded = read_settings(file)
    return run_again(recorded, supply(recorded, **given), file)


@pytest.fixture(scope="module")
def clip(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second of two clips that begin with a picture and were asked for with every setting."""
    request = GenerationRequest(
        "빨간 공",
        model=bundle_folder,
        aspect_ratio="9:16",
        length="3f",
        motion_score=3,
        aesthetic_score=6.5,
        camera_motion="zoom in",
        steps=2,
        guidance=2.5,
        image_guidance=1.5,
        negative_prompt="rain",
        seed=8,
        num_videos=2,
        reference_image=PICTURES[0],
        dtype="fp32",
    )
    return made(tmp_path_factory.mktemp("files"), request)[0]


def rewritten(source: Path, target: Path, **changes: Any) -> Path:
    """The same frames with other metadata."""
    write_mp4(target, video_io.read_video(source).frames, 24, read_metadata(source) | changes)
    return target


def test_the_request_comes_back_from_a_file_and_from_its_bytes(clip: Path) -> None:
    for recorded in (read_settings(clip), read_settings(clip.read_bytes())):
        request = recorded.request
        assert (request.prompt, request.seed, request.num_videos, request.length) == ("빨간 공", 9, 1, "3f")
        assert (request.motion_score, request.aesthetic_score, request.camera_motion) == (3, 6.5, "zoom in")
        assert (request.steps, request.guidance, request.image_guidance) == (2, 2.5, 1.5)
        assert (request.aspect_ratio, request.negative_prompt, request.dtype) == ("9:16", "rain", "fp32")
        assert isinstance(request.reference_image, Image.Image) and request.reference_image.size == (144, 256)
        assert set(recorded.record["plan"]["weights"]) == {"stdit", "vae", "text"}
        assert [need.field for need in recorded.needs] == ["model"]
        assert "a folder that no preset names; name the folder as the model." in recorded.needs[0].text


def test_a_second_run_gives_the_same_bytes(clip: Path, bundle_folder: Path) -> None:
    verdict = again(clip, model=bundle_folder)
    assert verdict.same_bytes and verdict.same_pixels and verdict.reasons == []
    assert verdict.sentences() == ["Equal: the second run gives the same file, byte for byte."]


def test_other_weights_and_versions_are_the_reasons(clip: Path, other_bundle_folder: Path, tmp_path: Path) -> None:
    plan = read_metadata(clip)["plan"]
    plan["versions"]["torch"] = "1.0"
    settings = read_metadata(clip)["settings"]
    file = rewritten(
        clip, tmp_path / "old.mp4", plan=plan, program="opensora 0.0.1", settings=settings | {"mode": "t2v"}
    )
    recorded = read_settings(file)
    request = dataclasses.replace(supply(recorded, model=other_bundle_folder), reference_image=None, cond_type=None)
    verdict = run_again(recorded, request, file)
    assert not verdict.same_bytes and not verdict.same_pixels
    text = " ".join(verdict.sentences())
    assert text.startswith("Not equal: the second run gives other frames. On average a value differs by ")
    assert "It was made by opensora 0.0.1; this is opensora" in text
    assert "The version of torch was 1.0; here it is" in text
    assert "The sha256 of the stdit weights was" in text


def test_pixels_that_are_equal_in_a_file_that_is_not_are_told_apart(
    clip: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    verdict = again(rewritten(clip, tmp_path / "old.mp4", program="opensora 0.0.1"), model=bundle_folder)
    assert verdict.same_pixels and not verdict.same_bytes
    assert verdict.sentences()[0].startswith("Equal pixels")


def test_what_the_file_does_not_hold_has_to_be_given_and_is_checked(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = write_lora(tmp_path / "one", STDiT3(STDIT), ["x_embedder.proj"], 0)
    other = write_lora(tmp_path / "two", STDiT3(STDIT), ["x_embedder.proj"], 1)
    monkeypatch.setattr(embedded, "MAX_BYTES", 10)
    asked = GenerationRequest(
        "x",
        model=bundle_folder,
        length="2f",
        steps=1,
        seed=1,
        reference_image=PICTURES[0],
        loras=((lora, 0.5),),
    )
    file, _ = made(tmp_path, asked)
    recorded = read_settings(file)
    assert [need.field for need in recorded.needs] == ["model", "loras", "reference_image"]
    good = {"model": bundle_folder, "loras": (lora,), "reference_image": PICTURES[0]}
    for name, wrong, words in (
        ("model", None, "a folder that no preset names"),
        ("loras", (), "made with the LoRA one"),
        ("loras", (other,), "two is not the LoRA that the clip was made with"),
        ("loras", (lora, other), "Got 2 LoRAs; the clip was made with 1"),
        ("reference_image", None, "checked by its hash"),
        ("reference_image", PICTURES[1], "not the reference image that the clip was made with"),
    ):
        with pytest.raises(RequestError, match=words) as caught:
            supply(recorded, **{**good, name: wrong})
        assert caught.value.field == name
    assert run_again(recorded, supply(recorded, **good), file).same_bytes


def test_a_picture_that_was_painted_first_is_compared_with_itself(tmp_path: Path) -> None:
    frames = PICTURES[:1]
    result = GenerationResult([frames], 24.0, [1], {"prompt": "x"}, {}, {}, picture=PICTURES[1])
    result.save(tmp_path / "still")
    recorded = read_settings(tmp_path / "still-picture.png")
    assert recorded.shows == PICTURE and recorded.record["pixels_sha256"] == pixels_sha256(PICTURES[1])
    assert read_settings(tmp_path / "still.png").shows == ""


def test_the_settings_of_a_painted_picture_go_back_to_one_request() -> None:
    settings = {
        "prompt": "x",
        "model": "opensora-2.0",
        "picture_model": "flux.1-dev",
        "cond_type": "i2v_head",
        "mode": "i2v",
        "steps": 50,
        "picture_steps": 28,
        "reference_sha256": "0" * 64,
    }
    recorded = of(settings)
    assert (recorded.request.picture_model, recorded.request.cond_type) == ("flux.1-dev", None)
    assert recorded.request.steps is None and recorded.needs == ()
    assert of(settings | {"picture_steps": 50}).request.steps == 50


def of(settings: dict[str, Any], **more: Any) -> Recorded:
    """What is read from a PNG with these settings."""
    import io

    data = io.BytesIO()
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    record = {"program": "opensora 9", "settings": settings, "plan": {}, **more}
    text.add_text("Comment", json.dumps(record))
    Image.new("RGB", (8, 8)).save(data, "PNG", pnginfo=text)
    return read_settings(data.getvalue())


def test_files_of_earlier_versions_name_what_has_to_be_given() -> None:
    base = {"prompt": "x", "model": "tiny", "reference_sha256": "a" * 64}
    for kind, second, fields in (
        ("i2v_head", {}, ["reference_image"]),
        ("i2v_tail", {}, ["last_image"]),
        ("v2v_tail", {}, ["reference_video"]),
        ("i2v_loop", {"second_reference_sha256": "b" * 64}, ["reference_image", "last_image"]),
    ):
        recorded = of({**base, **second, "cond_type": kind, "width": 8, "height": 8})
        assert [need.field for need in recorded.needs] == fields


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("[1]", "holds no settings"),
        ('{"program": "photo editor 3"}', "holds no settings"),
        ('{"program": "opensora 1", "settings": []}', "holds no settings"),
        ('{"program": "opensora 1", "settings": {"prompt": "x"}}', "does not say how it was computed"),
        ('{"program": "opensora 1", "settings": {}, "plan": {}}', "names no prompt"),
        (
            '{"program": "opensora 1", "settings": {"prompt": ["x"]}, "plan": {}}',
            "as its prompt; its settings are damaged",
        ),
        (
            '{"program": "opensora 1", "settings": {"prompt": "x", "colour": 1}, "plan": {}}',
            "this version lacks: 'colour'",
        ),
        ('{"program": "opensora 1", "settings": {"prompt": "x", "loras": "a"}, "plan": {}}', "as its LoRAs"),
        ("9" * 5000, "holds no settings"),
        ("[" * 100_000, "holds no settings"),
        ("", "holds no settings"),
    ],
    ids=lambda text: text[:50],
)
def test_foreign_and_damaged_files_are_a_sentence(tmp_path: Path, record: str, words: str) -> None:
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", record)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=text)
    with pytest.raises(ValueError, match=words):
        read_settings(tmp_path / "a.png")
    with pytest.raises(ValueError, match=words):
        read_settings((tmp_path / "a.png").read_bytes())


def test_bytes_of_any_kind_are_a_sentence(tmp_path: Path, clip: Path) -> None:
    write_png(tmp_path / "a.png", PICTURES[0], {})
    png, mp4 = (tmp_path / "a.png").read_bytes(), clip.read_bytes()
    for data in (b"", b"x", png[:40], png[:20] + b"\xff" * 200, mp4[:200], mp4[:4] + b"ftyp" + b"\xff" * 500):
        with pytest.raises(ValueError, match=r"\.$"):
            read_settings(data)


@pytest.mark.parametrize("change", ["size", "hash", "no base64", "no picture", "too long"])
def test_a_picture_inside_a_file_is_checked(change: str) -> None:
    told = embedded.pack(PICTURES[:1])
    told |= {
        "size": {},
        "hash": {"sha256": "0" * 64},
        "no base64": {"png": "%%%"},
        "no picture": {"png": "AAAA"},
        "too long": {"png": "A" * 10**7},
    }[change]
    width = 8 if change == "size" else 160
    with pytest.raises(ValueError, match="picture inside the file"):
        of({"prompt": "x", "model": "tiny", "width": width, "height": 90}, given={"reference_image": told})


def test_every_setting_of_a_result_is_known_to_the_reader(clip: Path) -> None:
    known = {f.name for f in dataclasses.fields(GenerationRequest)}
    assert set(read_metadata(clip)["settings"]) <= known | set(DERIVED)
