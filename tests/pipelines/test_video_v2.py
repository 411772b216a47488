"""Generation 2.0 from a request to frames, with tiny networks of random weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipelines.bundles_v2 import write_bundle, write_flux
from torch import Tensor

from opensora import generate_video
from opensora.datasets.image_io import load_image
from opensora.pipelines.build import build_models, release_models
from opensora.pipelines.families.v2 import V2
from opensora.pipelines.preflight import estimate
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import GenerationResult, Progress, role_of

RED, BLUE = (np.full((120, 200, 3), colour, np.uint8) for colour in ((220, 30, 30), (20, 40, 220)))
RED[30:60, 40:90], BLUE[50:80, 100:150] = 255, 0
VIDEO = np.random.default_rng(0).integers(0, 256, (50, 96, 128, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield write_bundle(tmp_path_factory.mktemp("bundles") / "v2")
    release_models()


@pytest.fixture
def latents(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """Latents of every clip that is denoised, with those it was given."""
    seen: list[tuple[Tensor, tuple[Tensor, ...]]] = []
    denoise = V2.denoise

    def watched(self: V2, models: Any, clip: Any, *rest: Any) -> Tensor:
        result = denoise(self, models, clip, *rest)
        seen.append((result.clone(), clip.references))
        return result

    monkeypatch.setattr(V2, "denoise", watched)
    return seen


def make(folder: Path, prompt: str = "a red ball", seed: int = 3, **settings: Any) -> GenerationResult:
    return generate_video(prompt, model=folder, seed=seed, **{"steps": 2, "length": "5f", **settings})


@pytest.mark.parametrize(("length", "frames"), [("1f", 1), ("4f", 4), ("5f", 5), ("10f", 10)])
def test_a_clip_has_exactly_the_frames_that_were_asked_for(folder: Path, length: str, frames: int) -> None:
    result = make(folder, length=length)
    assert result.frames.shape == (frames, 192, 336, 3)
    rate = "" if frames == 1 else " 24 FPS."
    assert result.settings["texts"] == [f"a red ball{'.' if rate else ''}{rate} 4 motion score."]


def test_the_same_request_gives_the_same_frames_whatever_ran_before(folder: Path) -> None:
    first = make(folder).frames
    assert not np.array_equal(first, make(folder, "a blue boat").frames)
    assert not np.array_equal(first, make(folder, seed=4).frames)
    assert np.array_equal(first, make(folder).frames)
    both = make(folder, num_videos=2)
    assert np.array_equal(both.videos[0], first)
    assert np.array_equal(both.videos[1], make(folder, seed=4).frames)


@pytest.mark.parametrize(
    "change",
    [
        {"guidance": 1.5},
        {"steps": 3},
        {"negative_prompt": "snow"},
        {"reference_image": RED},
        {"reference_image": RED, "image_guidance": 1.0},
        {"last_image": BLUE},
        {"reference_image": RED, "last_image": BLUE, "length": "9f"},
    ],
    ids=str,
)
def test_every_setting_changes_the_latents(
    folder: Path, change: dict[str, Any], latents: list[tuple[Tensor, tuple[Tensor, ...]]]
) -> None:
    make(folder, **({"length": change["length"]} if "length" in change else {}))
    make(folder, **change)
    assert not torch.equal(latents[0][0], latents[1][0])


def test_first_and_last_images_are_kept(folder: Path, latents: list[tuple[Tensor, tuple[Tensor, ...]]]) -> None:
    assert make(folder, reference_image=RED).settings["cond_type"] == "i2v_head"
    assert make(folder, last_image=BLUE).settings["cond_type"] == "i2v_tail"
    assert make(folder, reference_image=RED, last_image=BLUE, length="9f").settings["cond_type"] == "i2v_loop"
    (head, (red,)), (tail, (blue,)), (loop, given) = latents
    assert (head[:, :, :1] == red).all() and not (head[:, :, -1:] == red).any()
    assert (tail[:, :, -1:] == blue).all()
    assert (loop[:, :, :1] == given[0]).all() and (loop[:, :, -1:] == given[1]).all()


def test_a_clip_is_continued_from_its_end_and_led_to_up_to_its_beginning(
    folder: Path, latents: list[tuple[Tensor, tuple[Tensor, ...]]]
) -> None:
    after = make(folder, reference_video=VIDEO, length="37f")
    before = make(folder, reference_video=VIDEO, length="37f", cond_type="v2v_tail")
    assert after.settings["cond_type"] == "v2v_head"
    assert after.settings["reference_sha256"] != before.settings["reference_sha256"]
    (_, (end,)), (_, (beginning,)) = latents
    assert end.shape == beginning.shape == (1, 4, 9, 28, 36)


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"reference_video": VIDEO[:20]}, "reference_video", "at least 33 frames; this one has 20"),
        ({"reference_video": VIDEO, "length": "17f"}, "length", "nothing is left to make"),
        ({"reference_video": VIDEO, "reference_image": RED}, "reference_video", "cannot both be given"),
        ({"reference_video": VIDEO[..., 0]}, "reference_video", "a clip is uint8"),
        ({"reference_video": 7}, "reference_video", "a file or an array, not int"),
        ({"reference_video": "nowhere.mp4"}, "reference_video", "no file 'nowhere.mp4'"),
        ({"reference_video": VIDEO, "cond_type": "i2v_head"}, "cond_type", "takes images, and a clip is given"),
        ({"reference_image": RED, "cond_type": "v2v_head"}, "cond_type", "needs a reference video"),
        ({"cond_type": "v2v_head"}, "cond_type", "needs a reference video of at least 33 frames; give one"),
        ({"reference_video": VIDEO, "cond_type": "v2v_head_easy", "length": "41f"}, "cond_type", "not made for"),
        ({"last_image": RED, "length": "6f"}, "length", "the length has to be one of 5f"),
        ({"length": "42f"}, "length", "at most 41 frames at a time"),
        ({"loops": 2}, "loops", "at most 41 frames at a time"),
        ({"aesthetic_score": 6}, "aesthetic_score", "told of no aesthetic score"),
        ({"camera_motion": "zoom in"}, "camera_motion", "told of no camera motion"),
    ],
)
def test_what_cannot_be_is_a_sentence(folder: Path, settings: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        make(folder, **settings)
    assert caught.value.field == field


def test_every_step_and_stage_is_reported(folder: Path) -> None:
    seen: list[Progress] = []
    generate_video("a red ball", model=folder, seed=1, steps=2, length="5f", on_progress=seen.append)
    steps = [(p.stage, p.step, p.total) for p in seen if p.step]
    assert steps == [("sampling", 1, 2), ("sampling", 2, 2), ("decoding", 1, 1)]


def test_networks_are_loaded_once_and_the_cost_is_known_before(folder: Path) -> None:
    small = estimate(GenerationRequest("a red ball", model=folder, length="5f", steps=2))
    large = estimate(GenerationRequest("a red ball", model=folder, length="41f", steps=2))
    assert large.seconds > small.seconds > 0 and large.bytes_memory > small.bytes_memory > 0
    models = build_models("t2v", "256px", model=folder)
    assert build_models("i2v", "256px", model=folder).stdit is models.stdit
    assert models.scheduler.num_steps == 3 and models.scheduler.guidance_img == 2.0


def test_the_published_weights_are_offered_with_their_cost() -> None:
    cost = estimate(GenerationRequest("a cat", model="opensora-2.0", length="129f", resolution="768px"))
    assert (cost.height, cost.width, cost.frames) == (576, 1024, 129)
    assert 40e9 < cost.download_bytes < 60e9 and cost.bytes_memory > 40e9


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of tiny networks of FLUX.1's kind."""
    return write_flux(tmp_path_factory.mktemp("bundles") / "flux")


def test_pictures_of_flux(flux: Path) -> None:
    one = make(flux, length="1f")
    assert one.frames.shape == (1, 192, 336, 3) and one.settings["mode"] == "t2i"
    assert np.array_equal(make(flux, length="1f").frames, one.frames)
    assert not np.array_equal(make(flux, length="1f", guidance=9.0).frames, one.frames)
    with pytest.raises(RequestError, match="does t2i at 256px, not t2v"):
        make(flux)
    with pytest.raises(RequestError, match="told of no motion score"):
        make(flux, length="1f", motion_score=4)
    with pytest.raises(RequestError, match="takes no negative prompt") as told:
        make(flux, length="1f", negative_prompt="snow")
    assert told.value.field == "negative_prompt"
    assert estimate(GenerationRequest("a cat", model="flux.1-dev", length=1)).bytes_memory > 30e9


def test_a_picture_is_painted_first_and_set_in_motion(
    folder: Path, flux: Path, tmp_path: Path, latents: list[tuple[Tensor, tuple[Tensor, ...]]]
) -> None:
    result = make(folder, picture_model=flux)
    assert result.picture is not None and np.array_equal(result.picture, make(flux, length="1f").frames[0])
    _, (video, (given,)), _ = latents
    assert torch.equal(video[:, :, :1], given)
    assert result.settings["picture_model"] == "random-flux" and result.settings["cond_type"] == "i2v_head"
    files = result.save(tmp_path / "clip")
    assert [file.name for file in files] == ["clip.mp4", "clip-picture.png"]
    assert [role_of(file) for file in files] == ["clip", "picture"]
    assert np.array_equal(np.asarray(load_image(files[1])), result.picture)
    cost = estimate(GenerationRequest("a red ball", model=folder, picture_model=flux, length="5f", steps=2))
    alone = estimate(GenerationRequest("a red ball", model=folder, length="5f", steps=2))
    assert cost.seconds > alone.seconds and "picture" in cost.stages


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"picture_model": "fluxx"}, "Did you mean"),
        ({"picture_model": 3}, "a name or the folder of a bundle"),
        ({"picture_model": "flux.1-dev", "reference_image": RED}, "is asked for i2v"),
        ({"picture_model": "flux.1-dev", "length": "1f"}, "is asked for t2i"),
        ({"picture_model": "flux.1-dev"}, "not on this machine"),
    ],
)
def test_a_picture_that_cannot_be_painted_is_a_sentence(folder: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        make(folder, **settings)
