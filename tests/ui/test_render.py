"""What the panels say: durations and sizes in words, every state of a job; what was typed stays text."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opensora.jobs.queue import JobState, JobView
from opensora.pipelines.preflight import Cost
from opensora.pipelines.request import GenerationRequest
from opensora.sentences import say
from opensora.ui import history, render, said, waiting
from opensora.ui.words import ENGLISH as EN
from opensora.ui.words import LANGUAGES

NASTY = "<script>alert('\"&')</script>"
ESCAPED = "&lt;script&gt;alert("

REQUEST = GenerationRequest(prompt=NASTY, model="tiny", resolution="144p", aspect_ratio="9:16")
VIEW = JobView(id="abc", owner="me", request=REQUEST)
RUNNING = replace(VIEW, state=JobState.RUNNING, stage="sampling", step=3, total=30, seconds_left=70.0, reported=2e9)


@pytest.mark.parametrize(("value", "words"), [(0.2, "1 s"), (8.4, "8 s"), (80, "1 min 20 s"), (7200, "2.0 h")])
def test_durations_are_said_as_people_do(value: float, words: str) -> None:
    assert said.seconds(EN, value) == words


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
    assert said.span(EN, low, high) == words


@pytest.mark.parametrize(
    ("count", "words"), [(300, "1 kB"), (22_400, "22 kB"), (5_230_000, "5.2 MB"), (29e9, "29.0 GB")]
)
def test_sizes_are_said_as_people_do(count: int, words: str) -> None:
    assert said.size(count) == words


def test_lengths_are_said_in_seconds_and_frames() -> None:
    assert [said.length(EN, 1, 0.04), said.length(EN, 49, 49 / 24), said.length(EN, 17, 17 / 24)] == [
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
    "part",
    [
        lambda view: render.panel(EN, view),
        lambda view: render.progress(EN, view),
        lambda view: render.announcement(EN, view),
        lambda view: history.shelf(EN, [view], view.id, history.Look()),
        lambda view: waiting.listed(EN, [view], None, None),
        lambda view: history.shelf(EN, [view, replace(view, id="b")], "", history.Look(pair=("abc", "b"))),
    ],
)
def test_what_a_person_typed_is_text_and_not_html(view: JobView, part: Callable[[JobView], str]) -> None:
    html = part(view)
    assert "<script" not in html
    assert html.count("'\"&'") == 0


def test_an_error_an_image_and_a_machine_are_escaped_too() -> None:
    assert ESCAPED in said.problem(EN, NASTY) and "<script" not in said.problem(EN, NASTY)
    assert "<script" not in render.machine(EN, NASTY, gpu=True)
    assert "<script" not in render.crop(EN, Image.new("RGB", (30, 20)), 16, 16, NASTY)
    assert "<script" not in render.cost(EN, Cost(1, (1, 2), 10, 0, 49, 144, 256, 2.0, notes=[NASTY]))


def test_a_running_job_shows_stage_step_time_and_how_far_it_is() -> None:
    html = render.progress(EN, RUNNING)
    for part in (
        "Forming the frames",
        "step 3 of 30",
        "about 1 min 10 s left",
        "role='progressbar'",
        "aria-valuenow='10'",
    ):
        assert part in html
    assert render.announcement(EN, RUNNING) == "Forming the frames"
    assert "Stopping" in render.progress(EN, replace(RUNNING, stopping=True))
    assert "memory" not in html
    held = replace(RUNNING, memory=850_000_000, peak=860_000_000)
    assert "850 MB of memory<" in render.progress(EN, held)
    assert "850 MB of memory, 1.2 GB at most<" in render.progress(EN, replace(held, peak=1_200_000_000))


def test_seconds_left_count_down_between_two_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opensora.jobs.queue.time.time", lambda: 100.0)
    view = replace(RUNNING, reported=95.0, seconds_left=12.0)
    assert view.seconds_left_now == 7.0
    assert replace(view, reported=10.0).seconds_left_now == 0.0
    assert replace(view, seconds_left=None).seconds_left_now is None


def test_the_preview_has_the_shape_of_the_clip_and_moves() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 32, 18, 3), np.uint8)
    html = render.panel(EN, replace(RUNNING, preview=frames))
    assert "aspect-ratio:144/256" in html and "data:image/webp;base64," in html
    import base64
    import io

    picture = Image.open(io.BytesIO(base64.b64decode(html.split("base64,")[1].split("'")[0])))
    assert getattr(picture, "n_frames", 1) == 5 and picture.width / picture.height == pytest.approx(18 / 32, abs=0.02)


def test_a_waiting_job_knows_its_place() -> None:
    assert "2 jobs are in front of it" in render.progress(EN, replace(VIEW, position=2))
    assert "1 job is in front of it" in render.progress(EN, replace(VIEW, position=1))
    assert "it is next" in render.progress(EN, VIEW)


def test_a_finished_job_has_player_download_seed_size_and_length(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(b"x" * 22_000)
    html = render.panel(EN, replace(STATES["done"], files=(tmp_path / "video.mp4",)))
    for part in ("src='files/abc/video.mp4'", "Download MP4 · 22 kB", "<dd>7</dd>", "144 × 256", "2 s, 49 frames"):
        assert part in html
    still = render.panel(EN, replace(STATES["done"], files=(Path("image.png"),)))
    assert "<img src='files/abc/image.png'" in still and "<video" not in still


def test_the_shelf_marks_the_job_that_is_shown_and_shows_more_when_asked() -> None:
    done = STATES["done"]
    views = [replace(VIEW, id="b", state=JobState.RUNNING), *(replace(done, id=f"a{i}") for i in range(14))]
    html = history.shelf(EN, views, "a3", history.Look())
    assert html.count("os-tile") == history.MOST and html.count("aria-current") == 1
    assert "posters/a0/video.mp4" in html and "Show 2 more" in html
    assert history.shelf(EN, views, "", history.Look(most=24)).count("os-tile") == 14
    assert history.shelf(EN, views[:1], "b", history.Look()) == "" == history.shelf(EN, [], "", history.Look())


def test_a_comparison_says_what_differs_between_two_clips() -> None:
    done = STATES["done"]
    other = replace(done, id="b", settings={**(done.settings or {}), "seed": 8})
    html = history.compared(EN, [done, other], ("abc", "b"))
    assert html.count("<video") == 2 and "<th scope='row'>Seed</th><td>7</td><td>8</td>" in html
    assert "the same settings" in history.compared(EN, [done, replace(done, id="b")], ("abc", "b"))
    assert history.chosen(["a", "b"], "c") == ["b", "c"] and history.chosen(["a", "b"], "a") == ["b"]


def test_waiting_jobs_are_in_their_order_with_place_and_time() -> None:
    took = replace(STATES["done"], id="d", started=10.0, finished=20.0)
    jobs = [replace(VIEW, id="w2", position=2), replace(VIEW, id="w1", position=1), replace(RUNNING, id="r"), took]
    html = waiting.listed(EN, jobs, "r", None)
    places = [html.index(f"data-job='{job_id}'") for job_id in ("r", "w1", "w2")]
    assert places == sorted(places)
    assert "1 job is in front of it · begins in about 10 s" in html and "begins in about 20 s" in html
    assert html.count("disabled") == 2  # the first cannot go up, the last cannot go down
    assert waiting.listed(EN, [replace(RUNNING, id="r"), took], "r", None) == ""  # the large panel shows it
    assert "Leave as it was" in waiting.listed(EN, jobs, "r", "w1")


def test_without_a_model_the_page_says_how_to_get_one() -> None:
    assert "Nothing can be generated yet." in render.empty(EN, "No model is on this machine.")
    assert "Your clip appears here" in render.empty(EN)


def test_what_a_worker_does_before_it_begins_is_told_with_its_seconds() -> None:
    view = replace(VIEW, created=time.time() - 3)
    told = render.progress(EN, view, say("worker.loading"))
    assert "The worker is loading the model" in told and "for " in told and "os-sweep" in told
    assert "모델을 불러오는 중" in render.progress(LANGUAGES["ko"], view, say("worker.loading"))
    begun = replace(RUNNING, stage="loading", total=0, seconds_left=None, started=time.time() - 3)
    assert "Loading the model" in render.progress(EN, begun) and "for " in render.progress(EN, begun)
    assert "for " not in render.progress(EN, replace(RUNNING, reported=time.time()))
