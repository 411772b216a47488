"""The pipeline on random networks: exact lengths, the same bytes again, parts that continue, images that are kept."""

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipelines.bundles import STDIT, write_bundle
from torch import Tensor

from opensora import generate_video
from opensora.datasets.image_io import cover, load_image
from opensora.models import zoo
from opensora.models.reranker import Reranker
from opensora.models.text.t5 import T5Encoder
from opensora.pipelines import preflight
from opensora.pipelines.build import build_models
from opensora.pipelines.bundle import of_preset
from opensora.pipelines.families.v1 import V13
from opensora.pipelines.pixels import decode, encode_frames
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.result import GenerationResult
from opensora.sampling.rectified_flow import RFLOW

PICTURE = {"length": "1f", "steps": 2}


def make(folder: Path, prompt: str = "a red ball", seed: int = 3, **settings: Any) -> GenerationResult:
    return generate_video(prompt, model=folder, seed=seed, **{"steps": 2, "length": "2f", **settings})


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Latents of every part that is denoised, in order."""
    seen: list[Tensor] = []
    run = V13._run

    def watched(*args: Any) -> Tensor:
        latents = run(*args)
        seen.append(latents.clone())
        return latents

    monkeypatch.setattr(V13, "_run", watched)
    return seen


@pytest.mark.parametrize(("length", "runs"), [(1, 1), (2, 1), (16, 1), (17, 1), (20, 1), (33, 1), (49, 2), (50, 3)])
def test_a_clip_has_exactly_the_frames_that_were_asked_for(
    bundle_folder: Path, parts: list[Tensor], length: int, runs: int
) -> None:
    result = make(bundle_folder, length=length)
    assert result.frames.shape == (length, 144, 256, 3)
    assert result.frames.dtype == np.uint8
    assert (result.settings["num_frames"], result.fps, len(parts)) == (length, 24.0, runs)
    told = [note for note in result.notes if "at most 33 frames at once" in note]
    assert bool(told) is (runs > 1)
    if told:
        assert f"the {length} frames are made in {runs} parts" in told[0]


def test_the_same_request_gives_the_same_file_whatever_ran_before(bundle_folder: Path, tmp_path: Path) -> None:
    files = []
    for number in range(2):
        result = make(bundle_folder, length="17f", motion_score=4)
        files.append(result.save(tmp_path / f"{number}.mp4")[0].read_bytes())
        make(bundle_folder, "a blue box", **PICTURE, aspect_ratio="9:16")
        make(bundle_folder, reference_image=np.full((90, 160, 3), 40, np.uint8))
    assert files[0] == files[1]


def test_clips_of_one_request_are_those_of_their_seeds(bundle_folder: Path, tmp_path: Path) -> None:
    both = make(bundle_folder, seed=7, num_videos=2, **PICTURE)
    assert both.seeds == [7, 8]
    files = both.save(tmp_path / "both")
    assert [file.name for file in files] == ["both-1.png", "both-2.png"]
    for seed, file in zip(both.seeds, files, strict=True):
        (alone,) = make(bundle_folder, seed=seed, **PICTURE).save(tmp_path / "alone")
        assert alone.read_bytes() == file.read_bytes()
    assert not np.array_equal(*both.videos)


def test_a_random_seed_is_reported_and_makes_the_clip_again(bundle_folder: Path) -> None:
    first = generate_video("a red ball", model=bundle_folder, **PICTURE)
    assert first.settings["seed"] == first.seed
    again = make(bundle_folder, seed=first.seed, **PICTURE)
    assert np.array_equal(again.frames, first.frames)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue box"},
        {"negative_prompt": "rain"},
        {"negative_prompt": "snow"},
        {"guidance": 9.0},
        {"steps": 3},
        {"motion_score": 7},
        {"seed": 4},
    ],
    ids=str,
)
def test_every_setting_changes_the_picture(bundle_folder: Path, change: dict[str, Any]) -> None:
    plain = make(bundle_folder, **PICTURE)
    changed = make(bundle_folder, **{**PICTURE, **change})
    assert not np.array_equal(plain.frames, changed.frames)


def test_a_picture_is_told_the_frame_rate_that_its_network_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    sample = RFLOW.sample

    def watch(self: RFLOW, *args: Any, **kwargs: Any) -> Tensor:
        told.append(kwargs["additional_args"]["fps"])
        return sample(self, *args, **kwargs)

    monkeypatch.setattr(RFLOW, "sample", watch)
    folder = write_bundle(tmp_path / "pictures", fps=12, image_fps=120)
    make(folder, length=1)
    make(folder, length=17)
    assert told == [120, 12]
    assert of_preset(zoo.PRESETS["opensora-1.3-t2v-360p"]).card.image_fps == 120


def test_upright_ratios_are_upright(bundle_folder: Path) -> None:
    result = make(bundle_folder, **PICTURE, aspect_ratio="9:16")
    assert result.frames.shape == (1, 256, 144, 3)
    assert (result.settings["height"], result.settings["width"]) == (256, 144)


def test_every_loop_continues_the_latents_of_the_one_before(bundle_folder: Path, parts: list[Tensor]) -> None:
    result = make(bundle_folder, length="17f", loops=3)
    assert [latents.shape[2] for latents in parts] == [5, 10, 10]
    for before, after in pairwise(parts):
        assert torch.equal(after[:, :, :5], before[:, :, -5:])
        assert float((after[:, :, 5:] - after[:, :, 4:5]).abs().mean()) > 0.1
    assert len(result.frames) == 17 + 16 + 16
    assert [part["condition"] for part in result.settings["parts"]] == [0, 17, 17]


def test_loops_of_a_network_without_image_conditions_join_too(other_bundle_folder: Path, parts: list[Tensor]) -> None:
    result = make(other_bundle_folder, length="17f", loops=2)
    assert torch.equal(parts[1][:, :, :5], parts[0][:, :, -5:])
    assert len(result.frames) == 33


def test_every_loop_follows_its_own_text(bundle_folder: Path, parts: list[Tensor]) -> None:
    make(bundle_folder, "a red ball", length="17f", loops=2)
    make(bundle_folder, "|0| a red ball |1| a blue box", length="17f", loops=2)
    assert torch.equal(parts[0], parts[2])
    assert not torch.equal(parts[1], parts[3])


def test_the_first_frame_is_the_image_as_the_autoencoder_shows_it(bundle_folder: Path, parts: list[Tensor]) -> None:
    y, x = np.mgrid[:200, :320]
    picture = np.stack([x * 255 // 319, y * 255 // 199, (x // 40 + y // 40) % 2 * 255], axis=2).astype(np.uint8)
    result = make(bundle_folder, reference_image=picture, length="17f", aspect_ratio="16:9")
    models = build_models("i2v", "144p", True, model=bundle_folder)
    with torch.inference_mode():
        reference = encode_frames(models, np.asarray(cover(load_image(picture), 256, 144))[None])
        shown = np.concatenate(list(decode(models.vae, reference, 1)))
    assert torch.equal(parts[0][:, :, 0], reference[:, :, 0])
    other = make(bundle_folder, length="2f").frames[0]
    like = [
        np.mean([np.corrcoef(frame[..., c].ravel(), shown[0, ..., c].ravel())[0, 1] for c in range(3)])
        for frame in (result.frames[0], other)
    ]  # the norms of the decoder look at the whole clip, and random ones mix it strongly
    assert like[0] > abs(like[1]) + 0.3
    assert result.settings["reference_sha256"] and result.settings["mode"] == "i2v"


def test_the_image_decides_even_where_the_seed_differs(bundle_folder: Path, parts: list[Tensor]) -> None:
    picture = np.full((144, 256, 3), (200, 60, 20), np.uint8)
    picture[40:90, 100:150] = 255
    for seed in (1, 2):
        make(bundle_folder, reference_image=picture, seed=seed)
    assert torch.equal(parts[0][:, :, 0], parts[1][:, :, 0])
    assert not torch.equal(parts[0][:, :, 1:], parts[1][:, :, 1:])


def test_a_text_that_is_too_long_is_said(bundle_folder: Path) -> None:
    result = make(bundle_folder, " ".join(["a red ball rolls to the right"] * 8), **PICTURE)
    assert any("reads the first 24" in note for note in result.notes)
    assert make(bundle_folder, **PICTURE).notes == []


def test_settings_tell_everything_and_the_plan_how(bundle_folder: Path) -> None:
    result = make(bundle_folder, **PICTURE, camera_motion="static")
    wanted = {"prompt": "a red ball", "model": "random", "mode": "t2i", "seed": 3, "steps": 2, "guidance": 3.0}
    assert wanted.items() <= result.settings.items()
    assert result.settings["texts"] == ["a red ball camera motion: static."]
    assert {"device", "dtype", "threads", "batch", "backend", "versions", "weights"} <= set(result.plan)
    assert str(bundle_folder) not in str(result.metadata(3))
    assert {"loading", "text", "sampling", "decoding"} == set(result.timings)


def test_an_unknown_setting_is_a_request_error_with_a_suggestion() -> None:
    with pytest.raises(RequestError, match="did you mean aspect_ratio") as caught:
        generate_video("a ball", aspekt_ratio="9:16")
    assert caught.value.field == "aspekt_ratio"


def test_missing_weights_are_refused_before_anything_is_loaded() -> None:
    with pytest.raises(RequestError, match=r"Open-Sora 1.3 720p are not on this machine.*models --download") as caught:
        generate_video("a ball", resolution="720p")
    assert caught.value.field == "model"


def test_a_device_that_is_not_here_is_a_request_error(bundle_folder: Path) -> None:
    with pytest.raises(RequestError, match="this machine has") as caught:
        make(bundle_folder, device="tpu")
    assert caught.value.field == "device"


def test_a_video_may_begin_as_a_picture_that_is_set_in_motion(tmp_path: Path, parts: list[Tensor]) -> None:
    folder = write_bundle(tmp_path / "bundle", picture_first=True)
    steps_of: list[tuple[str, int, int]] = []
    result = make(folder, length="17f", on_progress=lambda p: steps_of.append((p.stage, p.step, p.total)))
    picture, clip = parts
    assert picture.shape[2] == 1 and clip.shape[2] == 5
    assert torch.equal(clip[:, :, :1], picture)
    assert result.settings["mode"] == "t2v" and result.settings["picture_first"] is True
    assert [step for stage, step, _ in steps_of if stage == "sampling"] == [0, 1, 2, 3, 4]
    assert {total for stage, _, total in steps_of if stage == "sampling"} == {4}
    parts.clear()
    make(folder, length="17f", reference_image=np.full((90, 160, 3), 40, np.uint8))
    make(folder, **PICTURE)
    assert [latents.shape[2] for latents in parts] == [5, 1]  # a given image, or a picture alone, is one run


def test_every_clip_of_a_request_has_its_own_picture(tmp_path: Path, parts: list[Tensor]) -> None:
    folder = write_bundle(tmp_path / "bundle", picture_first=True)
    make(folder, length="49f", num_videos=2)
    assert [latents.shape[2] for latents in parts] == [1, 10, 10] * 2
    assert not torch.equal(parts[0], parts[3])


def test_the_picture_before_a_video_is_counted_in_its_cost(tmp_path: Path) -> None:
    request = GenerationRequest("a red ball", model=write_bundle(tmp_path / "plain"), length="17f").validated()
    first = dataclasses.replace(request, model=write_bundle(tmp_path / "first", picture_first=True)).validated()
    given = dataclasses.replace(request, reference_image=np.zeros((144, 256, 3), np.uint8)).validated()
    plain, with_picture, by_image = (preflight.count(r, r.bundle()).sampling for r in (request, first, given))
    alone = dataclasses.replace(request, length=1).validated()
    assert with_picture == by_image + preflight.count(alone, alone.bundle()).sampling
    assert with_picture > plain


def test_of_several_pictures_the_one_that_fits_the_text_best_is_set_in_motion(
    tmp_path: Path, parts: list[Tensor]
) -> None:
    folder = write_bundle(tmp_path / "bundle", picture_first=True, picture_candidates=3)
    result = make(folder, length="17f")
    pictures, clip = parts
    assert pictures.shape[0] == 3 and clip.shape[0] == 1
    text = T5Encoder.from_pretrained(folder / "t5", max_length=STDIT.model_max_length).encode(result.settings["texts"])
    reranker = Reranker.from_pretrained(folder / "reranker").requires_grad_(False)
    scores = reranker(pictures[:, :, 0], text["y"][:, 0], text["mask"])[0]
    assert torch.equal(clip[0, :, 0], pictures[int(scores.argmax()), :, 0])
    assert result.settings["picture_candidates"] == 3 and "reranker" in result.plan["weights"]
    parts.clear()
    picture = make(folder, **PICTURE)
    assert parts[0].shape[0] == 3 and picture.videos[0].shape[0] == 1 and picture.settings["picture_candidates"] == 3
    parts.clear()
    given = make(folder, length="17f", reference_image=np.full((90, 160, 3), 40, np.uint8))
    assert [latents.shape[0] for latents in parts] == [1] and "picture_candidates" not in given.settings


def test_the_candidate_that_is_asked_for_is_made_alone(tmp_path: Path, parts: list[Tensor]) -> None:
    folder = write_bundle(tmp_path / "bundle", picture_first=True, picture_candidates=3)
    result = make(folder, length="17f", num_videos=2)
    best = result.settings["pictures_kept"]
    assert len(best) == 2 and result.metadata(result.seeds[1])["settings"]["pictures_kept"] == best[1:]
    pictures, first = parts[0], result.videos[0]
    parts.clear()
    again = make(folder, length="17f", candidate=best[0])
    assert parts[0].shape[0] == 1 and torch.allclose(parts[0][0], pictures[best[0] - 1], atol=1e-5)
    assert np.abs(again.frames.astype(int) - first).max() <= 1 and "pictures_kept" not in again.settings
    other = best[0] % 3 + 1
    assert not np.array_equal(make(folder, length="17f", candidate=other).frames, again.frames)
    assert again.settings["candidate"] == best[0] and again.settings["picture_candidates"] == 3
    with pytest.raises(RequestError, match="makes 3 pictures, of which one is kept; got the candidate 4"):
        make(folder, length="17f", candidate=4)
    with pytest.raises(RequestError, match="leave the candidate out"):
        make(folder, length="17f", candidate=1, reference_image=np.zeros((90, 160, 3), np.uint8))


def test_all_candidates_are_counted_in_the_cost(tmp_path: Path) -> None:
    one, three = (write_bundle(tmp_path / str(n), picture_first=True, picture_candidates=n) for n in (1, 3))
    for length in (1, "17f"):
        costs = []
        for folder in (one, three):
            request = GenerationRequest("a red ball", model=folder, length=length).validated()
            costs.append(preflight.count(request, request.bundle()).sampling)
        alone = GenerationRequest("a red ball", model=one, length=1).validated()
        assert costs[1] == pytest.approx(costs[0] + 2 * preflight.count(alone, alone.bundle()).sampling)
        chosen = GenerationRequest("a red ball", model=three, length=length, candidate=2).validated()
        assert preflight.count(chosen, chosen.bundle()).sampling == pytest.approx(costs[0])


def test_candidates_need_something_that_picks_among_them(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", picture_candidates=2)
    (folder / "reranker" / "config.json").unlink()
    with pytest.raises(RequestError, match=r"lacks reranker/config.json"):
        make(folder, length="17f")
    with pytest.raises(RequestError, match="expected 1 to 16"):
        make(write_bundle(tmp_path / "many", picture_candidates=17), length="17f")


def test_a_bundle_that_paints_first_needs_a_network_that_takes_images(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="picture_first is on"):
        make(write_bundle(tmp_path / "bundle", picture_first=True, modes=["t2v", "t2i"]))
