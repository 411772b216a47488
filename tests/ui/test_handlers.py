"""Handlers over a real queue with a small generator: what is sent back, to whom, and how mistakes are answered."""

import io
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
from opensora.ui import choices, fields, handlers, strip
from opensora.ui.again import fill
from opensora.ui.fields import FIELDS, FOLLOWING, request_of
from opensora.ui.handlers import SCREEN, Handlers
from opensora.ui.languages import choose_resolution
from opensora.ui.room import Room
from opensora.ui.words import ENGLISH

SKIP = {"__type__": "update"}
START: dict[str, Any] = {
    "prompt": "a ball",
    "reference_image": None,
    "model": "tiny",
    "resolution": "144p",
    "aspect_ratio": "16:9",
    "last_image": None,
    "reference_video": None,
    "lead_video": None,
    "circle": False,
    "easy": False,
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
    "candidate": "",
    "picture_model": "",
    "dtype": "",
    "offload": "",
    "text_dtype": "",
    "loras": [],
    "lora_strengths": "",
}


def values(**changes: Any) -> list[Any]:
    return [{**START, **changes}[name] for name in FIELDS]


def pressed(act: str, job: str = "", **more: Any) -> SimpleNamespace:
    """A button of a panel, as gradio tells of it."""
    return SimpleNamespace(act=act, job=job, **more)


def test_the_settings_of_the_page_become_a_request() -> None:
    request = request_of(values(seed=" 12 ", motion_score="5", aesthetic_score="6.5", camera_motion="pan left"))
    assert (request.seed, request.motion_score, request.aesthetic_score) == (12, 5, 6.5)
    assert (request.camera_motion, request.steps, request.num_videos) == ("pan left", 30, 1)
    plain = request_of(values(seed=None))
    assert (plain.seed, plain.motion_score, plain.aesthetic_score, plain.camera_motion) == (None, None, None, None)
    assert request_of(values(seed=str(2**63 - 1))).validated().seed == 2**63 - 1  # more than a number field holds


@pytest.mark.parametrize("seed", ["abc", "1.5", "1e400", "--3", "0x10"])
def test_a_seed_that_is_no_whole_number_is_a_sentence(seed: str) -> None:
    with pytest.raises(RequestError, match="expected a whole number"):
        request_of(values(seed=seed))


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


def test_generate_shows_the_job_and_later_ones_wait_in_the_list(acts: Handlers, steps: Steps) -> None:
    browser, refusal, shown, *_ = acts.generate(None, {}, *values())
    first = browser["job"]
    assert refusal == "" and first
    browser, _, shown, panel, *_ = acts.generate(browser, shown, *values(prompt="a star"))
    assert browser["job"] == first  # the panel stays with the job that runs
    jobs = acts.queue.jobs(browser["owner"])
    assert [job.request.prompt for job in jobs] == ["a star", "a ball"]
    browser, _, shown, panel, progress, *_ = acts.act(browser, shown, pressed("show", jobs[0].id))
    assert "a star" in panel and "1 job is in front of it" in progress and "a star" in shown["waiting"]
    steps.go.release(4)
    acts.queue.wait(jobs[0].id, browser["owner"], timeout=60)
    shown, panel, progress, announcement, waiting, history, timer, generate, cancel, search = acts.poll(browser, shown)
    assert "<video" in panel and progress == waiting == "" and announcement == "The clip is ready"
    assert history.count("os-tile") == 2 and (timer.value, timer.active) == (handlers.IDLE_SECONDS, True)
    assert (generate["value"], cancel["visible"], search["visible"]) == ("Generate", False, True)


def test_waiting_jobs_are_moved_paused_edited_doubled_and_removed(acts: Handlers) -> None:
    browser, _, shown, *_ = acts.generate(None, {}, *values())
    owner = browser["owner"]
    until(lambda: acts.view(browser).state == "running")
    for prompt in ("one", "two", "three"):
        browser, _, shown, *_ = acts.generate(browser, shown, *values(prompt=prompt))
    ids = {job.request.prompt: job.id for job in acts.queue.jobs(owner)}

    def order() -> list[str]:
        waiting = [job for job in acts.queue.jobs(owner) if job.state == "queued"]
        return [job.request.prompt for job in sorted(waiting, key=lambda job: job.position)]

    assert order() == ["one", "two", "three"]
    acts.act(browser, shown, pressed("up", ids["three"]))
    assert order() == ["one", "three", "two"]
    *_, waiting = acts.act(browser, shown, pressed("pause", ids["one"]))[:7]
    assert order() == ["three", "two"] and "Paused" in waiting
    acts.act(browser, shown, pressed("resume", ids["one"]))
    acts.act(browser, shown, pressed("duplicate", ids["two"]))
    acts.act(browser, shown, pressed("remove", ids["three"]))
    assert sorted(order()) == ["one", "two", "two"]

    shown, refusal, *inputs = fill(acts.queue, browser, shown, pressed("edit", ids["two"]))
    assert refusal == "" and dict(zip(FIELDS, inputs, strict=True))["prompt"] == "two"
    shown, *_, generate, _, _ = acts.poll(browser, shown)
    assert generate["value"] == "Save changes"
    browser, refusal, shown, *_ = acts.generate(browser, shown, *values(prompt="two, changed"))
    assert refusal == "" and acts.queue.view(ids["two"], owner).request.prompt == "two, changed"
    assert len(order()) == 3 and shown["editing"] is None


def test_all_waiting_jobs_are_paused_resumed_and_removed_at_once(acts: Handlers, steps: Steps) -> None:
    browser, _, shown, *_ = acts.generate(None, {}, *values())
    owner = browser["owner"]
    until(lambda: acts.view(browser).state == "running")
    for prompt in ("one", "two"):
        browser, _, shown, *_ = acts.generate(browser, shown, *values(prompt=prompt))
    stranger, *_ = acts.generate(None, {}, *values(prompt="not mine"))

    def states() -> dict[str, str]:
        return {job.request.prompt: str(job.state) for job in acts.queue.jobs(owner)}

    assert "data-act='pause-all'" in shown["waiting"] and "Remove 2 waiting clips" in shown["waiting"]
    _, _, shown, *_ = acts.act(browser, shown, pressed("pause-all"))
    assert states() == {"a ball": "running", "one": "paused", "two": "paused"}  # this queue pauses what waits alone
    assert "data-act='resume-all'" in shown["waiting"]
    assert acts.view(stranger).state in ("queued", "running")
    acts.act(browser, shown, pressed("resume-all"))
    assert "paused" not in states().values()
    acts.act(browser, shown, pressed("clear"))
    assert states()["one"] == states()["two"] == "cancelled"
    assert acts.view(stranger).state in ("queued", "running")


def test_finished_clips_are_searched_pinned_compared_and_deleted(acts: Handlers, steps: Steps) -> None:
    steps.go.release(20)
    browser, shown = None, {}
    for prompt in ("a red ball", "a blue star", "a red boat"):
        browser, _, shown, *_ = acts.generate(browser, shown, *values(prompt=prompt))
    owner = browser["owner"]
    ids = {job.request.prompt: job.id for job in acts.queue.jobs(owner)}
    for job_id in ids.values():
        acts.queue.wait(job_id, owner, timeout=60)
    history = acts.search(browser, {}, "RED")[5]
    assert history.count("os-tile") == 2 and "a blue star" not in history
    assert "No clip has these words" in acts.search(browser, {}, "green")[5]
    history = acts.act(browser, {}, pressed("pin", ids["a red ball"]))[7]
    assert history.index("a red ball") < history.index("a red boat") and "aria-pressed='true'" in history
    _, _, shown, *_ = acts.act(browser, {}, pressed("compare", ids["a red ball"]))
    assert shown["pair"] == [ids["a red ball"]] and "Choose a second clip" in shown["history"]
    _, _, shown, *_ = acts.act(browser, shown, pressed("compare", ids["a red boat"]))
    assert shown["history"].count("<video") == 2
    _, _, shown, *_ = acts.act(browser, shown, pressed("uncompare"))
    assert "<video" not in shown["history"]
    files = acts.queue.view(ids["a blue star"], owner).files
    acts.act({"owner": "somebody else"}, {}, pressed("delete", ids["a blue star"]))
    assert files[0].exists()
    history = acts.act(browser, {}, pressed("delete", ids["a blue star"]))[7]
    assert "a blue star" not in history and not files[0].exists()


def test_polling_leaves_alone_what_did_not_change(acts: Handlers, steps: Steps) -> None:
    browser, _, shown, *_ = acts.generate(None, {}, *values())
    steps.go.release()
    until(lambda: acts.view(browser).step == 1)
    shown, panel, *_ = acts.poll(browser, shown)
    assert "data:image/webp" in panel
    shown, *parts = acts.poll(browser, shown)
    assert parts[0] == SKIP and parts[2:] == [SKIP] * (SCREEN - 3)
    steps.go.release()
    acts.queue.wait(browser["job"], browser["owner"], timeout=60)
    shown, *_ = acts.poll(browser, shown)
    assert acts.poll(browser, shown)[1:] == (SKIP,) * (SCREEN - 1)  # a playing video is not started again


def test_cancel_says_that_it_is_stopping_and_then_that_nothing_was_saved(acts: Handlers) -> None:
    browser, _, shown, *_ = acts.generate(None, {}, *values())
    until(lambda: acts.view(browser).started is not None)
    acts.cancel(browser, shown)
    acts.queue.wait(browser["job"], browser["owner"], timeout=60)
    _, panel, progress, announcement, *_ = acts.poll(browser, {})
    assert "Cancelled. Nothing was saved." in panel and progress == ""
    assert announcement == "Cancelled, nothing was saved"


def test_a_reload_finds_the_job_and_a_stranger_does_not(acts: Handlers, steps: Steps) -> None:
    browser, *_ = acts.generate(None, {}, *values())
    _, panel, *_ = acts.poll(dict(browser), {})
    assert "a ball" in panel
    for other in ({"owner": "x" * 22, "job": browser["job"]}, None, {}, {"owner": 5}, "text", []):
        _, panel, *_ = acts.poll(other, {})  # type: ignore[arg-type]  # what a browser may send
        assert "Your clip appears here" in panel


def test_settings_of_a_job_can_be_used_again(acts: Handlers, steps: Steps) -> None:
    browser, *_ = acts.generate(None, {}, *values(motion_score="5", aspect_ratio="9:16", negative_prompt="rain"))
    steps.go.release(2)
    acts.queue.wait(browser["job"], browser["owner"], timeout=60)
    _, refusal, *inputs = fill(acts.queue, browser, {}, pressed("reuse", browser["job"]))
    got = dict(zip(FIELDS, inputs, strict=True))
    assert refusal == ""
    assert (got["prompt"], got["seed"], got["motion_score"]["value"], got["negative_prompt"]) == (
        "a ball",
        "7",
        "5",
        "rain",
    )
    following = {name: got[name]["value"] for name in ("steps", "aspect_ratio", "camera_motion", "last_image")}
    assert following == {"steps": 30, "aspect_ratio": "9:16", "camera_motion": "", "last_image": None}
    _, refusal, *inputs = fill(acts.queue, {"owner": "somebody"}, {}, pressed("reuse", browser["job"]))
    assert "no longer there" in refusal and inputs == [SKIP] * len(FIELDS)


def test_a_clip_goes_on_from_the_frame_at_the_playhead(acts: Handlers, steps: Steps) -> None:
    steps.go.release(2)
    browser, *_ = acts.generate(None, {}, *values(seed="7", num_videos=2))
    acts.queue.wait(browser["job"], browser["owner"], timeout=60)
    event = pressed("continue", browser["job"], time="0.3", file="0")
    _, refusal, *inputs = fill(acts.queue, browser, {}, event)
    got = dict(zip(FIELDS, inputs, strict=True))
    assert refusal == "" and (got["prompt"], got["seed"], got["num_videos"]["value"]) == ("a ball", "", 1)
    with Image.open(got["reference_image"]["value"]) as frame:
        assert frame.size == (32, 16) and abs(frame.getpixel((3, 3))[0] - 40) < 4  # the grey of these clips
    for broken in ("nan", "-1", "x", None):
        event = pressed("continue", browser["job"], time=broken, file=broken)
        assert fill(acts.queue, browser, {}, event)[1] == ""


def test_what_is_begun_from_a_clip_goes_to_a_model_that_can() -> None:
    assert choices.fit("first_image", "tiny") == "tiny"
    assert choices.fit("first_image", "opensora-1.3-t2v-720p") in ("tiny", "opensora-1.3-i2v")
    assert choices.offer(choices.fit("extend", "tiny")).extend
    assert choices.fit("circle", "opensora-2.0") == "opensora-2.0"


def test_a_clip_that_was_given_can_be_given_again(acts: Handlers, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (40, 64, 96, 3), dtype=np.uint8)
    write_mp4(tmp_path / "clip.mp4", frames, 24, {})
    given = values(model="opensora-2.0", resolution="256px", length="65f", reference_video=str(tmp_path / "clip.mp4"))
    acts.room = Room(tmp_path, here=False)  # a machine that is large enough
    browser, refusal, *_ = acts.generate(None, {}, *given)
    assert refusal == ""
    got = dict(zip(FIELDS, fill(acts.queue, browser, {}, pressed("reuse", browser["job"]))[2:], strict=True))
    assert got["reference_video"]["visible"] and got["length"]["value"] == "65f"
    again = request_of(
        values(**{**dict(zip(FIELDS, given, strict=True)), "reference_video": got["reference_video"]["value"]})
    ).validated()
    assert again.cond_type == "v2v_head" and again.reference_video.shape[0] == 33


def test_a_clip_may_be_what_the_new_one_leads_to_or_a_circle(tmp_path: Path) -> None:
    write_mp4(tmp_path / "clip.mp4", np.zeros((40, 64, 96, 3), np.uint8), 24, {})
    Image.new("RGB", (96, 64), "red").save(tmp_path / "red.png")
    model = {"model": "opensora-2.0", "resolution": "256px", "length": "65f"}
    lead = request_of(values(**model, lead_video=str(tmp_path / "clip.mp4"))).validated()
    assert lead.cond_type == "v2v_tail" and fields.values_of(lead)["lead_video"] is not None
    circle = request_of(values(**model, reference_image=str(tmp_path / "red.png"), circle=True)).validated()
    assert circle.cond_type == "i2v_loop"
    with pytest.raises(RequestError, match="take one out"):
        request_of(values(**model, lead_video="a.mp4", reference_video="b.mp4"))
    with pytest.raises(RequestError, match="needs a first image"):
        request_of(values(**model, circle=True))


def test_the_cost_is_known_before_anything_is_typed_and_says_what_is_wrong(acts: Handlers) -> None:
    html = acts.preflight(None, *values(prompt=""))
    assert "256 × 144" in html and "0.7 s, 17 frames" in html and "Memory" in html
    assert "role='alert'" in acts.preflight(None, *values(seed="x"))


def test_missing_weights_are_refused_with_the_way_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))  # whatever this machine has downloaded
    queue = MemoryQueue(Steps(), tmp_path / "out")
    _, problem, *screen = Handlers(queue).generate(None, {}, *values(model="opensora-1.3-t2v-360p", resolution="360p"))
    assert "models --download opensora-1.3-t2v-360p" in problem and screen == [SKIP] * SCREEN
    queue.close()


def test_another_model_brings_its_resolutions_and_its_own_numbers() -> None:
    new = fields.of_model(ENGLISH, "opensora-1.3-t2v-720p")
    ratios = dict((v, k) for k, v in new["aspect_ratio"]["choices"])
    assert new["resolution"]["value"] == "720p" and "1280 × 720" in ratios["16:9"]
    assert [new[name]["value"] for name in ("steps", "guidance", "image_guidance")] == [30, 7.5, 5.0]
    assert new["camera_motion"]["visible"] and not new["reference_video"]["visible"]
    kept = choose_resolution(None, "opensora-1.3-t2v-360p", "360p", "3:4")
    assert kept["value"] == "3:4"


def test_a_model_hides_and_empties_what_it_cannot_be_asked_for() -> None:
    new = fields.of_model(ENGLISH, "opensora-2.0")
    assert tuple(new) == FOLLOWING and new["last_image"] == new["lead_video"] == new["circle"] == {"visible": True}
    assert new["picture_model"]["visible"] and ("Painted by FLUX.1 dev", "flux.1-dev") in choices.pictures(ENGLISH)
    assert new["reference_video"]["visible"] and ("5.4 s · 129 frames", "129f") in new["length"]["choices"]
    for name, nothing in (("camera_motion", ""), ("aesthetic_score", ""), ("loops", 1)):
        assert new[name] == {"visible": False, "value": nothing}
    back = fields.of_model(ENGLISH, "tiny")
    assert back["reference_video"] == {"visible": False, "value": None}
    assert back["length"]["value"] == "49f" and back["loops"]["visible"]
    assert fields.of_model(ENGLISH, "flux.1-dev")["reference_image"] == {"visible": False, "value": None}


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
    ratio, html = strip.choose_shape(None, str(file), None, None, None, "tiny", "144p")
    assert ratio["value"] == "2:3" and "First frame, 2:3" in html
    assert "First frame, 16:9" in strip.show_crop(None, str(file), None, None, None, "tiny", "144p", "16:9")


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_pictures_of_absurd_shapes_still_have_a_crop(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "thin.png").write_bytes(picture("RGB", size))
    _, html = strip.choose_shape(None, str(tmp_path / "thin.png"), None, None, None, "tiny", "144p")
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
    ratio, html = strip.choose_shape(None, str(file), None, None, None, "tiny", "144p")
    assert ratio == SKIP and reason in html and "role='alert'" in html
    assert str(tmp_path) not in html
    assert strip.choose_shape(None, None, None, None, None, "tiny", "144p") == (SKIP, "")


def test_the_page_explains_itself_when_no_model_is_here(acts: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = handlers.zoo.PresetStatus(False, ("assets/tiny/stdit",), 0, Path())
    monkeypatch.setattr(handlers.zoo, "status", lambda preset: missing)
    _, panel, *_ = acts.poll(None, {})
    assert "Nothing can be generated yet." in panel and "They come with a clone of the repository" in panel
    assert "its files are missing" in dict((value, label) for label, value in choices.models(ENGLISH))["tiny"]
