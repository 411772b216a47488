"""The benchmark of shapes, lengths, loops, speeds and languages: its cases, its counting, and that it goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import breadth
from benchmarks.breadth import Case, cases, figures_of, main, rank_correlation, rows_of, short_of
from benchmarks.judge.cases import load_suite
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest

ALL = list(breadth.sections())


def test_every_case_can_be_asked_of_the_bundled_model_and_is_none_of_the_adherence_benchmark() -> None:
    every = list(cases(ALL))
    assert len({case.name for case in every}) == len(every) == 8 * 5 + 8 * 4 + 8 + 4 * 6 + 12 + 8 * 2 + 3 * 6 + 6 * 5
    others = {case.prompt for case in load_suite().text_to_video}
    for case in every:
        if case.given:
            continue
        request = GenerationRequest(case.prompt, model="tiny", seed=case.seed, **case.settings)
        assert request.texts(request.bundle()) and case.prompt not in others
    lengths = {case.row: case.settings["length"] for case in cases(["lengths"])}
    assert lengths == {"lengths 1f": "1f", "lengths 17f": "17f", "lengths 49f": "49f", "lengths 97f": "97f"}
    assert len({case.row for case in cases(["ratios"])}) == 5


def test_ground_truth_is_right_at_every_length_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []

    def make(case: Case) -> tuple[Any, float]:
        made.append(case.name)
        if len(made) == 3:
            raise KeyboardInterrupt
        return breadth.rendered(case)

    arguments = ["--only", "lengths", "--limit", "1", "--self-check", "--json", str(tmp_path / "out.json")]
    with pytest.raises(KeyboardInterrupt):
        main(arguments, make)
    report = main(arguments, make)
    assert made == ["lengths 0 1f", "lengths 0 17f", "lengths 0 49f", "lengths 0 49f", "lengths 0 97f"]
    assert report["rows"]["lengths 1f"] == {"clips": 1, "refused": 0, "colour": 1.0, "shape": 1.0}
    assert report["rows"]["lengths 97f"] == {"clips": 1, "refused": 0, "colour": 1.0, "shape": 1.0, "direction": 1.0}
    assert report["short"] == [] and "Nothing is below its floor." in capsys.readouterr().out
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["rows"] == report["rows"] and len(told["cases"]) == 4
    with pytest.raises(ValueError, match="name another file by --json"):
        breadth.Results(tmp_path / "out.json", {"model": "other"})


def test_what_a_model_cannot_make_is_counted_apart() -> None:
    def make(case: Case) -> tuple[Any, float]:
        raise RequestError("length", "at most 65 frames at a time")

    case = next(cases(["loops"]))
    record = breadth.judge(case, make, breadth.sections()["loops"])
    assert rows_of([record]) == {"loops": {"clips": 0, "refused": 1}} and short_of(rows_of([record]), {}) == []


def test_speeds_are_compared_by_rank_and_languages_by_points() -> None:
    assert rank_correlation([1, 2, 3], [0.1, 0.4, 9]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 2, 2], [5, 6, 7, 8]) == pytest.approx(0.8944, abs=1e-4)
    assert rank_correlation([1, 2], [3, 3]) == 0
    speeds = {1: 0.1, 2: 0.3, 3: 0.2}
    records: list[dict[str, Any]] = [
        {"row": f"speed {s}", "settings": {"motion_score": s}, "speed": v, "right": {}, "of": {}}
        for s, v in speeds.items()
    ]
    for name, right in (("English", 1), ("Korean", 0)):
        records.append({"row": f"languages {name}", "right": {"colour": right}, "of": {"colour": 1}})
    rows = rows_of(records)
    figures = figures_of(records, rows)
    assert figures["rank correlation of mean speeds"] == pytest.approx(0.5) and figures["speed at motion 2"] == 0.3
    assert figures["Korean below English, colour"] == 1
    assert short_of({"still": {"motion": 0.5}, **rows}, figures) == [
        "still: motion 50%, floor 95%",
        "speed: rank correlation 0.50, floor 0.9",
        "Korean below English, colour: 100 points, at most 5",
    ]


def test_clips_are_given_parts_of_the_ground_truth_and_judged_by_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.arange(65, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 32, 3), np.uint8)
    monkeypatch.setattr(breadth, "rendered", lambda case: (truth[: int(case.settings["length"][:-1])], 24.0))
    every = {case.given: case for case in cases(["given"], limit=1)}
    assert [case.settings["length"] for case in every.values()] == ["33f", "33f", "33f", "65f", "65f"]
    told = {name: breadth.given_of(case) for name, case in every.items()}
    assert {name: tuple(settings) for name, settings in told.items()} == {
        "first": ("reference_image",),
        "last": ("last_image",),
        "both": ("reference_image", "last_image"),
        "extend": ("reference_video",),
        "lead": ("reference_video", "cond_type"),
    }
    assert told["extend"]["reference_video"][-1, 0, 0, 0] == 32 == told["lead"]["reference_video"][0, 0, 0, 0]
    assert breadth.part_of(every["extend"], truth)[0, 0, 0, 0] == 33
    assert breadth.part_of(every["lead"], truth)[-1, 0, 0, 0] == 31
    clip = truth[:33].copy()
    clip[-1] += 10
    alike = {name: breadth.decibels_of(case, clip) for name, case in every.items()}
    assert alike["first"] is not None and alike["first"] > 100 and alike["last"] == alike["both"] == 28.13
    assert alike["extend"] is None and alike["lead"] is None
    rows = {"given last": {"decibels": 20.0, "colour": 0.1, "direction": 0.8}}
    assert short_of(rows, {}) == [
        "given last: direction 80%, floor 90%",
        "given last: 20.0 dB to the given frames, floor 28",
    ]


def test_of_loops_the_last_third_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(breadth, "look", lambda clip, fps: seen.append(len(clip)) or breadth.Verdict((), None))  # type: ignore[arg-type, func-returns-value]
    monkeypatch.setattr(breadth.sheet, "describe", lambda verdict: "nothing")
    record = breadth.judge(next(cases(["loops"])), lambda case: (np.zeros((147, 8, 8, 3), np.uint8), 24.0), ["colour"])
    assert seen == [49] and record["right"] == {"colour": 0} and record["speed"] is None
