"""Captions of a scene: what is mentioned is drawn at random, then worded in English or Korean.

A caption mentions each attribute or leaves it free. The motion strength, aesthetic score and camera motion may end it
in the very sentences that the prompt settings append (``The motion strength is high.``). Some word orders are held
out: they are only produced by ``phrasings="heldout"``.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from opensora.datasets.world import english, korean
from opensora.datasets.world.spec import ATTRIBUTE_VALUES, PLAIN, UNSPECIFIED, SceneSpec
from opensora.datasets.world.wording import Said, SaidSubject

Language = Literal["en", "ko"]
Phrasings = Literal["train", "heldout"]
_GOOD = ("good", "very good", "excellent")


@dataclass(frozen=True)
class _Endings:
    """Values that a caption gives in appended sentences."""

    aesthetic: str | None
    strength: str | None
    camera: str | None

    def text(self) -> str:
        """The sentences, as the prompt settings append them."""
        parts = []
        if self.aesthetic is not None:
            parts.append(f" The aesthetic score is {self.aesthetic}.")
        if self.strength is not None:
            parts.append(f" The motion strength is {self.strength}.")
        if self.camera is not None:
            parts.append(f" camera motion: {self.camera}.")
        return "".join(parts)


def _say(spec: SceneSpec, rng: np.random.Generator) -> Said:
    """Draw what the caption mentions. Unusual things are hardly ever left out, so that what is not mentioned tends to
    be usual: clear weather, a camera at rest, a clean picture."""
    chance = rng.random(8)
    subjects = [
        SaidSubject(s.kind, s.colour if chance[0] < 0.95 else None, s.motion if chance[1] < 0.94 else None)
        for s in spec.subjects
    ]
    weather = spec.weather if chance[3] < (0.92 if spec.weather != "clear" else 0.22) else None
    if spec.background in PLAIN and spec.weather == "clear":
        weather = None
    return Said(
        subjects=tuple(subjects),
        background=spec.background if chance[2] < 0.86 or not subjects else None,
        weather=weather,
        strength=spec.subjects[0].strength if subjects and chance[4] < 0.5 else None,
        camera=spec.camera if chance[5] < (0.94 if spec.camera != "static" else 0.25) else None,
        aesthetic=spec.aesthetic if chance[6] < (0.4 if spec.aesthetic in _GOOD else 0.97) else None,
    )


def _endings(said: Said, rng: np.random.Generator, scores: bool) -> tuple[Said, _Endings]:
    """Move some of what is said from the words into appended sentences; the aesthetic score always. Without ``scores``
    nothing is appended, and the strength and the aesthetic score are not said at all."""
    if not scores:
        return replace(said, strength=None, aesthetic=None), _Endings(None, None, None)
    moving = any(s.motion not in (None, "still") for s in said.subjects)
    strength_at_end = said.strength is not None and (not moving or rng.random() < 0.7)
    camera_at_end = said.camera is not None and rng.random() < 0.7
    endings = _Endings(
        aesthetic=said.aesthetic,
        strength=said.strength if strength_at_end else None,
        camera=said.camera if camera_at_end else None,
    )
    words = replace(
        said, strength=None if strength_at_end else said.strength, camera=None if camera_at_end else said.camera
    )
    return words, endings


def _mentioned(said: Said) -> dict[str, str]:
    """What is said, keyed as ``ATTRIBUTE_VALUES``."""
    values: dict[str, str | None] = {
        "strength": said.strength,
        "camera": said.camera,
        "background": said.background,
        "weather": said.weather,
        "aesthetic": said.aesthetic,
    }
    for number, subject in enumerate(said.subjects, start=1):
        values[f"kind{number}"] = subject.kind
        values[f"colour{number}"] = subject.colour
        values[f"motion{number}"] = subject.motion
    return {name: values.get(name) or UNSPECIFIED for name in ATTRIBUTE_VALUES}


def caption_with_attributes(
    spec: SceneSpec,
    rng: np.random.Generator,
    language: Language = "en",
    phrasings: Phrasings = "train",
    scores: bool = True,
) -> tuple[str, dict[str, str]]:
    """A random caption, and the attributes it mentions (``"unspecified"`` where it leaves one free). ``scores`` is
    whether it may say the motion strength and the aesthetic score, and append sentences as 1.3's settings do."""
    if language not in ("en", "ko"):
        raise ValueError(f"captions are written in 'en' or 'ko', not {language!r}")
    if phrasings not in ("train", "heldout"):
        raise ValueError(f"phrasings are 'train' or 'heldout', not {phrasings!r}")
    said = _say(spec, rng)
    words, endings = _endings(said, rng, scores)
    wording = english if language == "en" else korean
    told = said if scores else words
    return wording.sentence(words, rng, phrasings == "heldout") + endings.text(), _mentioned(told)


def caption(
    spec: SceneSpec,
    rng: np.random.Generator,
    language: Language = "en",
    phrasings: Phrasings = "train",
    scores: bool = True,
) -> str:
    """A random caption of the scene in English (``"en"``) or Korean (``"ko"``); see :func:`caption_with_attributes`."""
    return caption_with_attributes(spec, rng, language, phrasings, scores)[0]
