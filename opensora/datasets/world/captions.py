"""Captions of a scene."""

import numpy as np

from opensora.datasets.world.spec import SceneSpec, attributes


def caption_with_attributes(
    spec: SceneSpec, rng: np.random.Generator, language: str = "en", phrasings: str = "train"
) -> tuple[str, dict[str, str]]:
    return " ".join(f"{s.colour} {s.kind} moves {s.motion}" for s in spec.subjects) + f" {spec.background}", attributes(
        spec
    )


def caption(spec: SceneSpec, rng: np.random.Generator, language: str = "en", phrasings: str = "train") -> str:
    return caption_with_attributes(spec, rng, language, phrasings)[0]
