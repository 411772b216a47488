"""Handlers over a real queue with a small generator: what is sent back, to whom, and how mistakes are answered."""

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from memory_queue import MemoryQueue
from PIL import Image
from stepwise import Steps, until

from opensora.datasets.video_io import write_mp4
from opensora.pipelines.request import RequestError
from opensora.ui import choices, handlers
from opensora.ui.handlers import FIELDS, SCREEN, Handlers

SKIP = {"__type__": "update"}
START: dict[str, Any] = {
    "prompt": "a ball",
    "reference_image": None,
    "model": "tiny",
    "resolution": "144p",
    "aspect_ratio": "16:9",
    "last_image": None,
    "reference_video": None,
    "length": "17f",
    "motion_score": "",
    "camera_motion": "",
    "aesthetic_score": "",
    "steps": 30,
    "guidance": 7.5,
    "image_guidance": 5.0,
    "negative_prompt": "",
    "seed": "",
    "num_videos": 1,
    "loops": 1,
    "picture_model": "",
}


@pytest.fixture
def steps() -> Steps:
    return Steps(total=2)


@pytest.fixture
def acts(steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Handlers]:
    monkeypatch.setattr(handlers, "require_weights", lambda bundle: None)
    queue = MemoryQueue(steps, tmp_path)
    yield Handlers(queue)
    queue.close()


def values(**changes: Any) -> list[Any]:
    return [{**START, **changes}[name] for name in FIELDS]


def test_the_settings_of_the_page_become_a_request(acts: Handlers) -> None:
    request = acts.request(*values(seed=" 12 ", motion_score="5", aesthetic_score="6.5", camera_motion="pan left"))
    assert (request.seed, request.motion_score, request.aesthetic_score) == (12, 5, 6.5)
    assert (request.camera_motion, request.steps, request.num_videos) == ("pan left", 30, 1)
    plain = acts.request(*values(seed=None))
    assert (plain.seed, plain.motion_score, plain.aesthetic_score, plain.camera_motion) == (None, None, None, None)
    assert acts.request(*values(seed=str(2**63 - 1))).validated().seed == 2**63 - 1  # more than a number field holds


@pytest.mark.parametrize("seed", ["abc", "1.5", "1e400", "--3", "0x10"])
def test_a_seed_that_is_no_whole_number_is_a_sentence(acts: Handlers, seed: str) -> None:
    with pytest.raises(RequestError, match="expected a whole number"):
        acts.request(*values(seed=seed))


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "  "},
        {"prompt": None},
        {"prompt": "x" * 100_000},
        {"prompt": "a\0b"},
        {"seed": "-1"},
        {"seed": str(2**63)},
        {"steps": float("nan")},
        {"steps": float("inf")},
        {"steps": 2.5},
        {"guidance": float("nan")},
        {"length": "forever"},
        {"resolution": "9000p"},
        {"aspect_ratio": "0:0"},
        {"model": "nothing"},
        {"reference_image": "/nowhere/photo.png"},
        {"num_videos": 1e9},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_mistake_is_a_sentence_and_queues_nothing(acts: Handlers, changes: dict[str, Any]) -> None:
    browser, refusal, *screen = acts.generate(None, {}, *values(**changes))
    assert "role='alert'" in refusal and "Traceback" not in refusal
    assert screen == [SKIP] * SCREEN
    assert acts.queue.jobs(browser["owner"]) == []
    assert "/nowhere" not in refusal  # a path of the server is nobody's business


def test_generate_shows_the_job_and_later_ones_wait_in_the_strip(acts: Handlers, steps: Steps) -> None:
    browser, refusal, shown, *_ = acts.generate(None, {}, *values())
    first = browser["job"]
    assert refusal == "" and first
    browser, _, shown, panel, *_ = acts.generate(browser, shown, *values(prompt="a star"))
    assert browser["job"] == first  # the panel stays with the job that runs
    jobs = acts.queue.jobs(browser["owner"])
    assert [job.request.prompt for job in jobs] == ["a star", "a ball"]
    browser, shown, panel, progress, *_ = acts.show(browser, shown, SimpleNamespace(job=jobs[0].id))
    assert "a star" in panel and "1 job is in front of it" in progress
    steps.go.release(4)
    acts.queue.wait(jobs[0].id, browser["owner"], timeout=5)
    shown, panel, progress, announcement, recent, timer, generate, cancel = acts.poll(browser, shown)
    assert "<video" in panel and progress == "" and announcement == "The clip is ready"
    assert recent.count("os-tile") == 2 and timer.active is False
    assert (generate["value"], cancel["visible"]) == ("Generate", False)


def test_polling_leaves_alone_what_did_not_change(acts: Handlers, steps: Steps) -> None:
    browser, _, shown, *_ = acts.generate(None, {}, *values())
    steps.go.release()
    until(lambda: acts.view(browser).step == 1)
    shown, panel, *_ = acts.poll(browser, shown)
    assert "data:image/webp" in panel
    shown, *parts = acts.poll(browser, shown)
    assert parts[0] == SKIP and parts[2:] == [SKIP] * 5
    steps.go.release()
    acts.queue.wait(browser["job"], browser["owner"], timeout=5)
    shown, *_ = acts.poll(browser, shown)
    assert acts.poll(browser, shown)[1:] == (SKIP,) * 7  # a playing video is not started again


def test_cancel_says_that_it_is_stopping_and_then_that_nothing_was_saved(acts: Handlers) -> None:
    browser, _, shown, *_ = acts.generate(None, {}, *values())
    until(lambda: acts.view(browser).started is not None)
    acts.cancel(browser, shown)
    acts.queue.wait(browser["job"], browser["owner"], timeout=5)
    _, panel, progress, announcement, *_ = acts.poll(browser, {})
    assert "Cancelled. Nothing was saved." in panel and progress == ""
    assert announcement == "Cancelled, nothing was saved"


def test_a_reload_finds_the_job_and_a_stranger_does_not(acts: Handlers, steps: Steps) -> None:
    browser, *_ = acts.generate(None, {}, *values())
    again, _, _, panel, *_ = acts.open(dict(browser))
    assert again == browser and "a ball" in panel
    _, _, _, panel, *_ = acts.open({"owner": "x" * 22, "job": browser["job"]})
    assert "Your clip appears here" in panel
    for broken in (None, {}, {"owner": 5}, "text", []):
        fresh, *_ = acts.open(broken)  # type: ignore[arg-type]  # what a browser may send
        assert len(fresh["owner"]) >= 20 and fresh["job"] is None


def test_settings_of_a_job_can_be_used_again(acts: Handlers, steps: Steps) -> None:
    browser, *_ = acts.generate(None, {}, *values(motion_score="5", aspect_ratio="9:16", negative_prompt="rain"))
    steps.go.release(2)
    acts.queue.wait(browser["job"], browser["owner"], timeout=5)
    got = dict(zip(FIELDS, acts.reuse(browser, SimpleNamespace(reuse=browser["job"])), strict=True))
    assert (got["prompt"], got["seed"], got["motion_score"], got["negative_prompt"]) == ("a ball", "7", "5", "rain")
    following = {name: got[name]["value"] for name in ("steps", "aspect_ratio", "camera_motion", "last_image")}
    assert following == {"steps": 30, "aspect_ratio": "9:16", "camera_motion": "", "last_image": None}
    assert acts.reuse({"owner": "somebody"}, SimpleNamespace(reuse=browser["job"])) == [SKIP] * len(FIELDS)


def test_a_clip_that_was_given_can_be_given_again(acts: Handlers, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), dtype=np.uint8)
    write_mp4(tmp_path / "clip.mp4", frames, 24, {})
    given = values(model="opensora-2.0", resolution="256px", length="65f", reference_video=str(tmp_path / "clip.mp4"))
    browser, refusal, *_ = acts.generate(None, {}, *given)
    assert refusal == ""
    got = dict(zip(FIELDS, acts.reuse(browser, SimpleNamespace(reuse=browser["job"])), strict=True))
    assert got["reference_video"]["visible"] and got["length"]["value"] == "65f"
    again = acts.request(
        *values(**{**dict(zip(FIELDS, given, strict=True)), "reference_video": got["reference_video"]["value"]})
    ).validated()
    assert again.cond_type == "v2v_head" and again.reference_video.shape[0] == 33


def test_the_cost_is_known_before_anything_is_typed_and_says_what_is_wrong(acts: Handlers) -> None:
    html = acts.preflight(*values(prompt=""))
    assert "256 × 144" in html and "0.7 s, 17 frames" in html and "Memory" in html
    assert "role='alert'" in acts.preflight(*values(seed="x"))


def test_missing_weights_are_refused_with_the_way_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))  # whatever this machine has downloaded
    queue = MemoryQueue(Steps(), tmp_path / "out")
    _, problem, *screen = Handlers(queue).generate(None, {}, *values(model="opensora-1.3-t2v-360p", resolution="360p"))
    assert "models --download opensora-1.3-t2v-360p" in problem and screen == [SKIP] * SCREEN
    queue.close()


def test_another_model_brings_its_resolutions_and_its_own_numbers() -> None:
    new = dict(zip(handlers.FOLLOWING, handlers.choose_model("opensora-1.3-t2v-720p"), strict=True))
    ratios = dict((v, k) for k, v in new["aspect_ratio"]["choices"])
    assert new["resolution"]["value"] == "720p" and "1280 × 720" in ratios["16:9"]
    assert [new[name]["value"] for name in ("steps", "guidance", "image_guidance")] == [30, 7.5, 5.0]
    assert new["camera_motion"]["visible"] and not new["reference_video"]["visible"]
    kept = handlers.choose_resolution("360p", "3:4")
    assert kept["value"] == "3:4"


def test_a_model_hides_and_empties_what_it_cannot_be_asked_for() -> None:
    new = dict(zip(handlers.FOLLOWING, handlers.choose_model("opensora-2.0"), strict=True))
    assert new["last_image"] == {"visible": True, "__type__": "update"}
    assert new["picture_model"]["visible"] and ("Painted by FLUX.1 dev", "flux.1-dev") in choices.PICTURES
    assert new["reference_video"]["visible"] and ("5.4 s · 129 frames", "129f") in new["length"]["choices"]
    for name, nothing in (("camera_motion", ""), ("aesthetic_score", ""), ("loops", 1)):
        assert new[name] == {"visible": False, "value": nothing, "__type__": "update"}
    back = dict(zip(handlers.FOLLOWING, handlers.choose_model("tiny"), strict=True))
    assert back["reference_video"] == {"visible": False, "value": None, "__type__": "update"}
    assert back["length"]["value"] == "49f" and back["loops"]["visible"]


def picture(mode: str, size: tuple[int, int] = (40, 60), kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (40, 60), (i * 80, 0, 0)) for i in range(3)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        picture("RGB"),
        picture("RGBA"),
        picture("LA"),
        picture("P"),
        picture("1"),
        picture("I;16"),
        picture("CMYK", kind="JPEG"),
        picture("L", kind="WEBP"),
        animation(),
    ],
    ids=["rgb", "rgba", "grey-alpha", "palette", "bits", "16-bit", "cmyk", "webp", "animated"],
)
def test_any_common_picture_shows_its_crop(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "upload"  # the name says nothing
    file.write_bytes(data)
    ratio, html = handlers.choose_image(str(file), "144p")
    assert ratio["value"] == "2:3" and "First frame, 2:3" in html
    assert "First frame, 16:9" in handlers.show_crop(str(file), "144p", "16:9")


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_pictures_of_absurd_shapes_still_have_a_crop(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "thin.png").write_bytes(picture("RGB", size))
    _, html = handlers.choose_image(str(tmp_path / "thin.png"), "144p")
    assert "First frame" in html


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no picture"),
        (b"not a picture at all", "no picture"),
        (picture("RGB")[:60], "damaged"),
        (picture("1", (12_000, 12_000)), "million pixels"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "no picture"),
    ],
    ids=["empty", "text", "cut-off", "bomb", "svg"],
)
def test_a_picture_that_cannot_be_used_is_a_sentence(tmp_path: Path, data: bytes, reason: str) -> None:
    file = tmp_path / "upload.png"
    file.write_bytes(data)
    ratio, html = handlers.choose_image(str(file), "144p")
    assert ratio == SKIP and reason in html and "role='alert'" in html
    assert str(tmp_path) not in html
    assert handlers.choose_image(None, "144p") == (SKIP, "")


def test_the_page_explains_itself_when_no_model_is_here(acts: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = handlers.zoo.PresetStatus(False, ("assets/tiny/stdit",), 0, Path())
    monkeypatch.setattr(handlers.zoo, "status", lambda preset: missing)
    _, models, _, panel, *_ = acts.open(None)
    assert "Nothing can be generated yet." in panel and "They come with a clone of the repository" in panel
    assert "its files are missing" in dict((value, label) for label, value in models["choices"])["tiny"]
