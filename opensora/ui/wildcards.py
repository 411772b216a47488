"""Prompts with words to choose from, ``a {red|blue} ball``, and whole prompts at random."""

import random
import re

import numpy as np

from opensora.datasets.world.captions import caption
from opensora.datasets.world.scene import random_scene

_CHOICE = re.compile(r"\{([^{}]*\|[^{}]*)\}")
_DEEPEST = 20
"""Braces within braces that are resolved."""


def expand(prompt: str, draw: random.Random) -> str:
    """The prompt with one word chosen for every ``{a|b}``; an inner choice is made before an outer one.

    A pair of braces without ``|`` stays as it is, and so do the numbers ``|0|`` of loops outside braces.
    """
    for _ in range(_DEEPEST):
        chosen = _CHOICE.sub(lambda found: draw.choice(found[1].split("|")).strip(), prompt)
        if chosen == prompt:
            break
        prompt = chosen
    return prompt


def surprise(language: str, seed: int) -> str:
    """A prompt at random in the words that the bundled model was trained with.

    Args:
        language: ``en`` or ``ko``; English for any other.
    """
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, aesthetic="excellent", camera="static")
    text = caption(scene, rng, language="ko" if language == "ko" else "en")
    return re.split(r" (?:The aesthetic score|The motion strength|camera motion)", text)[0]
