"""What the panels say: durations and sizes in words, every state of a job; what was typed stays text."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opensora.jobs.queue import JobState, JobView
from opensora.pipelines.preflight import Cost
from opensora.pipelines.request import GenerationRequest
from opensora.ui import render

NASTY = "<script>alert('\"&')</script>"
ESCAPED = "&lt;script&gt;alert("

REQUEST = GenerationRequest(prompt=NASTY, model="tiny", resolution="144p", aspect_ratio="9:16")
VIEW = JobView(id="abc", owner="me", request=REQUEST)
RUNNING = replace(VIEW, state=JobState.RUNNING, stage="sampling", step=3, total=30, seconds_left=70.0, reported=2e9)


@pytest.mark.parametrize(("value", "words"), [(0.2, "1 s"), (8.4, "8 s"), (80, "1 min 20 s"), (7200, "2.0 h")])
def test_durations_are_said_as_people_do(value: float, words: str) -> None:
    assert render.seconds(value) == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.1, 0.9, "1 s"),
        (8.6, 17.2, "8 – 18 s"),
        (58, 101, "58 – 101 s"),
        (150, 290, "2 – 5 min"),
        (4000, 9000, "1 – 3 h"),
    ],
)
def test_a_range_of_durations_is_never_narrower_than_it_was(low: float, high: float, words: str) -> None:
    assert render.span(low, high) == words


@pytest.mark.parametrize(
    ("count", "words"), [(300, "1 kB"), (22_400, "22 kB"), (5_230_000, "5.2 MB"), (29e9, "29.0 GB")]
)
def test_sizes_are_said_as_people_do(count: int, words: str) -> None:
    assert render.size(count) == words


def test_lengths_are_said_in_seconds_and_frames() -> None:
    assert [render.length(1, 0.04), render.length(49, 49 / 24), render.length(17, 17 / 24)] == [
        "1 frame",
        "2 s, 49 frames",
        "0.7 s, 17 frames",
    ]


STATES: dict[str, JobView] = {
    "waiting": replace(VIEW, position=2),
    "running": RUNNING,
    "failed": replace(VIEW, state=JobState.FAILED, error=f"It broke at {NASTY}"),
    "cancelled": replace(VIEW, state=JobState.CANCELLED),
    "done": replace(
        VIEW,
        state=JobState.DONE,
        files=(Path("video.mp4"),),
        settings={"seed": 7, "width": 144, "height": 256, "num_frames": 49, "fps": 24, "model": NASTY},
        notes=(NASTY,),
    ),
}


@pytest.mark.parametrize("view", STATES.values(), ids=STATES)
@pytest.mark.parametrize(
    "part", [render.panel, render.progress, render.announcement, lambda view: render.recent([view], None)]
)
def test_what_a_person_typed_is_text_and_not_html(view: JobView, part: Callable[[JobView], str]) -> None:
    html = part(view)
    assert "<script" not in html
    assert html.count("'\"&'") == 0


def test_an_error_an_image_and_a_machine_are_escaped_too() -> None:
    assert ESCAPED in render.problem(NASTY, NASTY) and "<script" not in render.problem(NASTY, NASTY)
    assert "<script" not in render.machine(NASTY, gpu=True)
    assert "<script" not in render.crop(Image.new("RGB", (30, 20)), 16, 16, NASTY)
    assert "<script" not in render.cost(Cost(1, (1, 2), 10, 0, 49, 144, 256, 2.0, notes=[NASTY]))


def test_a_running_job_shows_stage_step_time_and_how_far_it_is() -> None:
    html = render.progress(RUNNING)
    for part in (
        "Forming the frames",
        "step 3 of 30",
        "about 1 min 10 s left",
        "role='progressbar'",
        "aria-valuenow='10'",
    ):
        assert part in html
    assert render.announcement(RUNNING) == "Forming the frames"
    assert "Stopping" in render.progress(replace(RUNNING, stopping=True))


def test_seconds_left_count_down_between_two_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opensora.jobs.queue.time.time", lambda: 100.0)
    view = replace(RUNNING, reported=95.0, seconds_left=12.0)
    assert view.seconds_left_now == 7.0
    assert replace(view, reported=10.0).seconds_left_now == 0.0
    assert replace(view, seconds_left=None).seconds_left_now is None


def test_the_preview_has_the_shape_of_the_clip_and_moves() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 18, 3), np.uint8)
    html = render.panel(replace(RUNNING, preview=frames))
    assert "aspect-ratio:144/256" in html and "data:image/webp;base64," in html
    import base64
    import io

    picture = Image.open(io.BytesIO(base64.b64decode(html.split("base64,")[1].split("'")[0])))
    assert getattr(picture, "n_frames", 1) == 5 and picture.width / picture.height == pytest.approx(18 / 32, abs=0.02)


def test_a_waiting_job_knows_its_place() -> None:
    assert "2 jobs are in front of it" in render.progress(replace(VIEW, position=2))
    assert "1 job is in front of it" in render.progress(replace(VIEW, position=1))
    assert "it is next" in render.progress(VIEW)


def test_a_finished_job_has_player_download_seed_size_and_length(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(b"x" * 22_000)
    html = render.panel(replace(STATES["done"], files=(tmp_path / "video.mp4",)))
    for part in ("src='files/abc/video.mp4'", "Download MP4 · 22 kB", "<dd>7</dd>", "144 × 256", "2 s, 49 frames"):
        assert part in html
    still = render.panel(replace(STATES["done"], files=(Path("image.png"),)))
    assert "<img src='files/abc/image.png'" in still and "<video" not in still


def test_the_strip_marks_the_job_that_is_shown_and_hides_when_it_would_say_nothing() -> None:
    views = [replace(VIEW, id="b", state=JobState.RUNNING), replace(STATES["done"], id="a")]
    html = render.recent(views, "b")
    assert html.count("os-tile") == 2 and html.count("aria-current") == 1 and "posters/a/video.mp4" in html
    assert render.recent(views[:1], "b") == "" == render.recent([], None)


def test_without_a_model_the_page_says_how_to_get_one() -> None:
    assert "Nothing can be generated yet." in render.empty("No model is on this machine.")
    assert "Your clip appears here" in render.empty()
