"""The world: descriptions, rendering and motion."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opensora.datasets.world.render import subject_masks
from opensora.datasets.world.scene import (
    SceneSpec,
    Subject,
    attributes,
    heldout,
    heldout_combination,
    random_scene,
    render,
)
from opensora.datasets.world.spec import BACKGROUNDS, CAMERAS, COLOURS, KINDS, MOTIONS, SPEED, STRENGTHS
from opensora.datasets.world.subjects import PAINT


def centres(spec: SceneSpec, frames: int, seed: int = 0) -> np.ndarray:
    """Centres (T, 2) of the first subject, x and y in short sides."""
    masks = subject_masks(spec, 72, 128, frames, seed=seed)[0]
    y, x = np.mgrid[:72, :128] + 0.5
    return np.stack([(masks * x).sum((1, 2)), (masks * y).sum((1, 2))], 1) / masks.sum((1, 2))[:, None] / 72


def test_rendering_is_repeatable_and_seeds_differ() -> None:
    scene = random_scene(np.random.default_rng(3), count=1)
    clip = render(scene, 64, 112, 9, seed=5)
    assert clip.shape == (9, 64, 112, 3) and clip.dtype == np.uint8
    np.testing.assert_array_equal(clip, render(scene, 64, 112, 9, seed=5))
    assert np.abs(clip.astype(int) - render(scene, 64, 112, 9, seed=6)).mean() > 1
    np.testing.assert_array_equal(render(scene, 64, 112, 9, seed=5, kept=1), clip[:1])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    short=st.sampled_from((16, 48, 64)),
    ratio=st.floats(0.4, 2.5),
    frames=st.sampled_from((1, 2, 5)),
)
def test_any_scene_renders_at_any_shape(seed: int, short: int, ratio: float, frames: int) -> None:
    height, width = (short, round(short * ratio)) if ratio > 1 else (round(short / ratio), short)
    clip = render(random_scene(np.random.default_rng(seed)), height, width, frames, seed=seed)
    assert clip.shape == (frames, height, width, 3)
    assert clip.std() > 2


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize(("motion", "axis", "sign"), [("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1)])
def test_directions_move_at_their_strength(motion: str, axis: int, sign: int, strength: str) -> None:
    spec = SceneSpec((Subject("ball", "red", motion, strength),))
    steps = np.diff(centres(spec, 9), axis=0) * 24
    speed = SPEED[strength] * (0.7 if axis else 1.0)
    np.testing.assert_allclose(np.median(steps[:, axis]) * sign, speed, atol=0.03)
    assert np.abs(steps[:, 1 - axis]).max() < 0.01


def test_still_and_spinning_subjects_stay_in_place_and_bouncing_ones_return() -> None:
    for motion in ("still", "spin"):
        way = centres(SceneSpec((Subject("ball", "red", motion),)), 25)
        assert np.ptp(way, axis=0).max() < 0.01
    heights = centres(SceneSpec((Subject("ball", "red", "bounce"),)), 49)[:, 1]
    assert np.ptp(heights) > 0.15
    assert np.abs(np.diff(np.sign(np.diff(heights)))).sum() >= 2


def test_a_spinning_square_turns() -> None:
    masks = subject_masks(SceneSpec((Subject("square", "blue", "spin", "high"),)), 64, 64, 13, seed=1)[0]
    assert np.abs(masks[0] - masks[4]).sum() > 0.05 * masks[0].sum()


@pytest.mark.parametrize("camera", [c for c in CAMERAS if c != "static"])
@pytest.mark.parametrize("background", ["plain pink", "city"])
def test_the_camera_moves_the_background_and_not_the_subject(camera: str, background: str) -> None:
    still = SceneSpec((Subject("star", "red", "still"),), background=background)
    moving = SceneSpec(still.subjects, camera=camera, background=background)
    assert np.abs(render(still, 48, 80, 9)[0].astype(int) - render(still, 48, 80, 9)[-1]).max() == 0
    clip = render(moving, 48, 80, 17).astype(int)
    assert np.abs(clip[0] - clip[-1]).mean() > 0.3
    assert np.ptp(centres(moving, 9), axis=0).max() < 0.02


def test_two_subjects_keep_to_their_sides() -> None:
    rng = np.random.default_rng(0)
    for seed in range(12):
        masks = subject_masks(random_scene(rng, count=2), 64, 112, 13, seed=seed)
        columns = (masks.sum(2) > 0).any(1)
        assert np.flatnonzero(columns[0]).max() < np.flatnonzero(columns[1]).max()
        assert np.flatnonzero(columns[0]).min() < np.flatnonzero(columns[1]).min()


def test_subjects_show_their_colour() -> None:
    for colour, paint in PAINT.items():
        spec = SceneSpec((Subject("square", colour, "still"),), background="plain grey")
        mask = subject_masks(spec, 96, 96, 1, seed=2)[0, 0] > 0.99
        shown = np.median(render(spec, 96, 96, 1, seed=2)[0][mask], axis=0) / 255
        assert np.abs(shown - paint.ravel()).max() < 0.12, colour


def test_descriptions_survive_json_and_refuse_unknown_words() -> None:
    scene = random_scene(np.random.default_rng(1), count=2)
    assert SceneSpec.from_dict(scene.to_dict()) == scene
    with pytest.raises(ValueError, match="red, orange"):
        Subject("ball", "mauve")
    with pytest.raises(ValueError, match="zoom in"):
        SceneSpec(camera="dolly")
    with pytest.raises(ValueError, match="at most two"):
        SceneSpec((Subject("ball", "red"),) * 3)
    with pytest.raises(ValueError, match="no colr"):
        random_scene(np.random.default_rng(0), colr="red")
    with pytest.raises(ValueError, match="cannot render 0 frames"):
        render(scene, 64, 64, 0)


def test_random_scenes_cover_the_world_and_respect_what_is_fixed() -> None:
    rng = np.random.default_rng(2)
    scenes = [random_scene(rng) for _ in range(600)]
    assert {s.background for s in scenes} == set(BACKGROUNDS)
    assert {s.camera for s in scenes} == set(CAMERAS)
    assert {x.motion for s in scenes for x in s.subjects} == set(MOTIONS)
    assert {len(s.subjects) for s in scenes} == {0, 1, 2}
    fixed = random_scene(rng, kind="boat", colour="white", motion="up", background="sea", camera="static")
    assert (fixed.subjects[0].kind, fixed.subjects[0].colour, fixed.subjects[0].motion) == ("boat", "white", "up")
    assert (fixed.background, fixed.camera) == ("sea", "static")


def test_an_even_fifth_of_the_combinations_is_held_out() -> None:
    held = [c for c in itertools.product(KINDS, COLOURS, MOTIONS) if heldout_combination(*c)]
    total = len(KINDS) * len(COLOURS) * len(MOTIONS)
    assert 0.18 < len(held) / total < 0.22
    for pair in ((0, 1), (0, 2), (1, 2)):
        assert max(Counter((c[pair[0]], c[pair[1]]) for c in held).values()) <= 2
    kind, colour, motion = held[0]
    assert heldout(SceneSpec((Subject("ball", "red", "right"), Subject(kind, colour, motion))))
    assert not heldout(SceneSpec((Subject("ball", "red", "right"),)))


def test_attributes_name_everything() -> None:
    spec = SceneSpec((Subject("ball", "red", "up", "high"),), "pan left", "sea", "rain", "good")
    assert attributes(spec) == {
        "kind1": "ball",
        "colour1": "red",
        "motion1": "up",
        "kind2": "unspecified",
        "colour2": "unspecified",
        "motion2": "unspecified",
        "strength": "high",
        "camera": "pan left",
        "background": "sea",
        "weather": "rain",
        "aesthetic": "good",
    }
