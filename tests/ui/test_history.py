"""Two clips side by side, also of jobs that made several."""

from pathlib import Path

import pytest

from opensora.jobs.queue import JobState, JobView
from opensora.pipelines.request import GenerationRequest
from opensora.ui import history
from opensora.ui.history import chosen, other_clip
from opensora.ui.words import LANGUAGES, Words


def job(name: str, clips: int, seed: int) -> JobView:
    files = tuple(Path(f"{name}/video-{number}.mp4") for number in range(clips))
    settings = {"seed": seed, "width": 256, "height": 144}
    return JobView(name, "me", GenerationRequest("a ball", model="tiny"), JobState.DONE, files=files, settings=settings)


def test_a_job_comes_into_the_comparison_and_goes_with_all_its_clips() -> None:
    assert chosen([], "a") == ["a"] and chosen(["a", "b"], "c") == ["b", "c"]
    assert chosen(["a:2", "b"], "a") == ["b"] and chosen(["a", "a:1"], "a") == []


@pytest.mark.parametrize(
    ("pair", "place", "number", "then"),
    [(["a"], "", "2", ["a", "b:2"]), (["a", "b"], "1", "3", ["a", "b:3"]), (["b:1", "a"], "0", "0", ["b", "a"]),
     (["a"], "1", "1", ["a", "b:1"]), (["a", "c"], "7", "-1", ["c", "b"]), ([], "x", "x", ["b"])],
)  # fmt: skip
def test_another_clip_of_a_job_is_chosen(pair: list[str], place: str, number: str, then: list[str]) -> None:
    assert other_clip(pair, place, "b", number) == then


@pytest.mark.parametrize("w", LANGUAGES.values(), ids=LANGUAGES)
def test_clips_of_one_job_are_compared_with_each_other(w: Words) -> None:
    many = job("many", 3, seed=7)
    html = history.compared(w, [many], ("many",))
    assert w("compare.one") in html and html.count("data-act='side'") == 2  # the first one is there already
    html = history.compared(w, [many], ("many", "many:2"))
    assert "files/many/video-0.mp4" in html and "files/many/video-2.mp4" in html and "video-1" not in html
    assert "<td>7</td><td>9</td>" in html  # each clip has the next seed
    assert html.count("data-act='side'") == 6 and html.count("aria-pressed='true'") == 2


def test_a_clip_that_is_not_there_is_the_first(w: Words = LANGUAGES["en"]) -> None:
    html = history.compared(w, [job("a", 1, 1), job("b", 2, 1)], ("a:5", "b:x"))
    assert "a/video-0.mp4" in html and "b/video-0.mp4" in html and html.count("data-act='side'") == 2
