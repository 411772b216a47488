"""The judge of adherence scores rendered ground truth right, shuffled prompts at chance, and its inputs are sound."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import adherence
from benchmarks.judge import motion, score, shape
from benchmarks.judge.cases import Case, load_suite
from benchmarks.judge.degrade import degrade
from benchmarks.judge.network import CALIBRATION
from benchmarks.judge.score import Expected, compare, expected_of
from benchmarks.judge.verdict import Verdict, look
from opensora.datasets.world.scene import SceneSpec, Subject, heldout, random_scene, render
from opensora.datasets.world.spec import COLOURS, KINDS, MOTIONS

SUITE = load_suite()
FRAMES = 33


def balanced_scenes(count: int) -> list[SceneSpec]:
    """Clean scenes with every colour, kind and direction equally often."""
    rng = np.random.default_rng(4)
    return [
        random_scene(
            rng,
            count=1,
            kind=KINDS[i % len(KINDS)],
            colour=COLOURS[i % len(COLOURS)],
            motion=score.DIRECTIONS[(i // 2) % 4] if i % 4 else MOTIONS[4 + (i // 4) % 3],
            strength=("low", "fair", "high")[i % 3],
            background=("meadow", "sea", "desert", "plain pink", "plain mint")[i % 5],
            aesthetic="excellent",
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def judged() -> tuple[list[Expected], list[Verdict]]:
    scenes = balanced_scenes(60)
    clips = (render(scene, 96, 160, FRAMES, seed=seed) for seed, scene in enumerate(scenes))
    return [expected_of(scene) for scene in scenes], [look(clip) for clip in clips]


def test_rendered_ground_truth_is_judged_right(judged: tuple[list[Expected], list[Verdict]]) -> None:
    shares = score.total(*judged).shares()
    assert min(shares["colour"], shares["shape"], shares["direction"]) >= 0.99, shares
    assert min(shares["motion"], shares["count"], shares["camera"]) >= 0.95, shares


def test_shuffled_prompts_are_at_chance(judged: tuple[list[Expected], list[Verdict]]) -> None:
    shares = score.shuffled(*judged).shares()
    assert shares["colour"] <= 1 / len(COLOURS) + 0.03
    assert shares["shape"] <= 1 / len(KINDS) + 0.03
    assert shares["direction"] <= 1 / 4 + 0.03


def test_soft_and_stained_clips_are_judged_right() -> None:
    rng = np.random.default_rng(8)
    tally = score.Tally()
    for seed, scene in enumerate(balanced_scenes(12)):
        clip = degrade(render(scene, 96, 160, FRAMES, seed=100 + seed), rng)
        tally.add(compare(expected_of(scene), look(clip)))
    shares = tally.shares()
    assert min(shares["colour"], shares["shape"], shares["direction"]) >= 0.9, shares


def test_two_subjects_are_told_apart() -> None:
    scene = SceneSpec(
        (Subject("ball", "red", "up"), Subject("square", "blue", "still")), background="meadow", camera="static"
    )
    verdict = look(render(scene, 96, 160, FRAMES, seed=1))
    assert [(s.kind, s.colour, s.motion.word) for s in verdict.subjects] == [
        ("ball", "red", "up"),
        ("square", "blue", "still"),
    ]


def test_an_empty_or_flat_clip_shows_nothing_and_scores_nothing() -> None:
    for clip in (
        np.full((9, 64, 112, 3), 128, np.uint8),
        render(SceneSpec(background="meadow"), 64, 112, 9),
    ):
        verdict = look(clip)
        assert verdict.subjects == ()
        tally = compare(Expected((("ball", "red", "left"),)), verdict)
        assert sum(tally.right.values()) == 0


def test_a_subject_that_re_enters_still_moves_one_way() -> None:
    scene = SceneSpec((Subject("ball", "red", "up", "extremely high"),), background="plain grey")
    (seen,) = look(render(scene, 96, 160, 65, seed=2)).subjects
    assert seen.motion.word == "up"


def test_shape_descriptors_ignore_turning_and_size() -> None:
    rng = np.random.default_rng(0)
    scene = SceneSpec((Subject("star", "red", "spin"),))
    from opensora.datasets.world.render import subject_masks

    masks = subject_masks(scene, 160, 160, 5, fps=6, seed=int(rng.integers(100)))[0]
    large = [shape.describe(mask) for mask in masks]
    small = shape.describe(masks[0][::2, ::2])
    scale = np.linalg.norm(large[0])
    assert max(np.linalg.norm(d - large[0]) for d in large) < 0.05 * scale
    assert np.linalg.norm(small - large[0]) < 0.1 * scale


def test_a_bounce_is_told_from_a_way_by_its_reversals() -> None:
    assert motion._reversals(np.array([0, 1, 2, 1, 0, 1.0]), 0.5) == 2
    assert motion._reversals(np.array([0, 1, 0.9, 2, 3.0]), 0.5) == 0


def test_the_committed_prompts_are_balanced_and_hold_out_what_they_say() -> None:
    cases = SUITE.text_to_video
    assert len(cases) >= 60 and len(SUITE.image_to_video) == 12
    everything = [*cases, *SUITE.image_to_video]
    assert len({c.prompt for c in everything}) == len({c.seed for c in everything}) == len(everything)
    asked = [subject for case in cases for subject in case.expected.subjects]
    assert {s[0] for s in asked} == set(KINDS)
    assert {s[1] for s in asked} == set(COLOURS)
    assert {s[2] for s in asked} == set(MOTIONS)
    for case in everything:
        subjects = tuple(Subject(kind, colour, way) for kind, colour, way in case.expected.subjects)
        assert ("held-out combination" in case.tags) == heldout(SceneSpec(subjects)), case.name
    tags = [tag for case in cases for tag in case.tags]
    assert tags.count("held-out combination") >= 14 and tags.count("held-out phrasing") >= 8
    assert tags.count("Korean") >= 5 and tags.count("camera") >= 5 and tags.count("two subjects") >= 5


def test_references_show_the_subject_that_is_asked_for() -> None:
    for case in SUITE.image_to_video[:4]:
        assert case.scene is not None
        reference = case.reference()
        assert reference is not None and reference.shape == (144, 256, 3)
        wanted = case.expected.subjects[0]
        assert (case.scene.subjects[0].kind, case.scene.subjects[0].colour) == wanted[:2]


def rendered(case: Case, settings: dict[str, Any]) -> tuple[NDArray[np.uint8], float]:
    """A perfect generator: renders what the case asks for."""
    if case.scene is not None:
        return render(case.scene, 144, 256, 49, seed=case.render_seed), 24
    subjects = tuple(Subject(kind, colour, way) for kind, colour, way in case.expected.subjects)
    scene = SceneSpec(subjects, case.expected.camera or "static", background="desert")
    return render(scene, 144, 256, 49, seed=case.seed), 24


def test_a_run_reports_and_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = adherence.run
    monkeypatch.setattr(adherence, "run", lambda suite, settings, limit: run(suite, settings, limit, rendered))
    monkeypatch.setattr(adherence, "autoencoder_psnr", lambda *asked: (31.0, 25.0))
    report = adherence.main(
        ["--limit", "3", "--json", str(tmp_path / "r.json"), "--sheet", str(tmp_path / "s.png"), "--set", "steps=4"]
    )
    assert report["shares"]["text to video"]["colour"] == 1.0
    assert report["shares"]["image to video"]["direction"] == 1.0
    assert report["figures"]["first frame dB"] > 60 and report["figures"]["autoencoder dB"] == 31.0
    assert report["settings"]["steps"] == 4 and report["settings"]["length"] == "49f"
    assert len(json.loads((tmp_path / "r.json").read_text())["cases"]) == 6
    assert (tmp_path / "s.png").stat().st_size > 10_000
    assert "direction" in capsys.readouterr().out


def test_the_calibration_is_small() -> None:
    assert CALIBRATION.stat().st_size < 200_000
