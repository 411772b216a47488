"""The world's public face: describe a scene, draw a random one, render it and caption it."""

from typing import Any

import numpy as np

from opensora.datasets.world.captions import caption, caption_with_attributes
from opensora.datasets.world.render import render
from opensora.datasets.world.spec import (
    AESTHETICS,
    ATTRIBUTE_VALUES,
    BACKGROUNDS,
    CAMERAS,
    COLOURS,
    KINDS,
    MOTIONS,
    PLACES,
    PLAIN,
    STRENGTHS,
    WEATHERS,
    SceneSpec,
    Subject,
    attributes,
    heldout,
    heldout_combination,
)

__all__ = [
    "ATTRIBUTE_VALUES",
    "SceneSpec",
    "Subject",
    "attributes",
    "caption",
    "caption_with_attributes",
    "heldout",
    "heldout_combination",
    "random_scene",
    "render",
]

_SHARES: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "motion": (MOTIONS, (0.18, 0.18, 0.15, 0.15, 0.1, 0.12, 0.12)),
    "strength": (STRENGTHS, (0.1, 0.16, 0.26, 0.2, 0.16, 0.12)),
    "camera": (CAMERAS, (0.55, 0.075, 0.075, 0.075, 0.075, 0.075, 0.075)),
    "weather": (WEATHERS, (0.7, 0.15, 0.15)),
    "aesthetic": (AESTHETICS, (0.03, 0.04, 0.05, 0.08, 0.2, 0.2, 0.4)),
}
_HIDDEN = {("black", "city"), ("black", "plain dark"), ("white", "plain white"), ("white", "mountains")}
"""Colours that can hardly be told from the background."""


def _pick(rng: np.random.Generator, name: str) -> str:
    values, shares = _SHARES[name]
    return values[int(rng.choice(len(values), p=shares))]


def _one_of(rng: np.random.Generator, values: tuple[str, ...]) -> str:
    return values[int(rng.integers(len(values)))]


def random_scene(rng: np.random.Generator, **fixed: Any) -> SceneSpec:
    """A random scene. ``fixed`` names what is given: a field of ``SceneSpec``, or ``kind``, ``colour``, ``motion`` or
    ``strength`` of its first subject, or ``count`` subjects (0, 1 or 2)."""
    unknown = set(fixed) - {"subjects", "camera", "background", "weather", "aesthetic", "count", *_SUBJECT_FIELDS}
    if unknown:
        raise ValueError(f"a scene has no {', '.join(sorted(unknown))}; fix a field of SceneSpec or Subject, or count")
    background = _one_of(rng, PLACES) if rng.random() < 0.62 else _one_of(rng, PLAIN)
    drawn = {name: _pick(rng, name) for name in ("camera", "weather", "aesthetic")}
    chosen = {"background": background, **drawn, **{k: v for k, v in fixed.items() if k in drawn or k == "background"}}
    count = fixed.get("count", int(rng.choice(3, p=(0.04, 0.8, 0.16))))
    if count == 0 and fixed.keys() & _SUBJECT_FIELDS:
        count = 1
    subjects = fixed.get("subjects")
    if subjects is None:
        subjects = _random_subjects(rng, count, chosen["background"], fixed)
    return SceneSpec(subjects=tuple(subjects), **chosen)


_SUBJECT_FIELDS = ("kind", "colour", "motion", "strength")


def _random_subjects(
    rng: np.random.Generator, count: int, background: str, fixed: dict[str, Any]
) -> tuple[Subject, ...]:
    """Subjects that differ and that can be seen against the background."""
    strength, same_motion = _pick(rng, "strength"), rng.random() < 0.5
    subjects: list[Subject] = []
    while len(subjects) < count:
        values = {
            "kind": _one_of(rng, KINDS),
            "colour": _one_of(rng, COLOURS),
            "motion": _pick(rng, "motion"),
            "strength": strength,
        }
        if not subjects:
            values |= {k: v for k, v in fixed.items() if k in _SUBJECT_FIELDS}
            if (values["colour"], background) in _HIDDEN and "colour" not in fixed:
                continue
        else:
            first = subjects[0]
            values |= {"strength": first.strength} | ({"motion": first.motion} if same_motion else {})
            if values["kind"] == first.kind or values["colour"] == first.colour:
                continue
            if (values["colour"], background) in _HIDDEN:
                continue
        subjects.append(Subject(**values))
    return tuple(subjects)


assert set(BACKGROUNDS) == {*PLAIN, *PLACES}
