"""Wording of 2.0's prompts: the frame rate and the strength of motion as short sentences behind the text."""

import re

DYNAMIC = "dynamic"
"""Motion score that a language model chooses by the prompt."""
MOTION_SCORES = tuple(range(1, 8))

_RATE_SAID = re.compile(r"\d+ FPS\.$")


def as_sentence(prompt: str) -> str:
    """The prompt without surrounding space, ending with a full stop."""
    prompt = prompt.strip()
    return prompt if prompt.endswith(".") else f"{prompt}."


def add_frame_rate(prompt: str, fps: int) -> str:
    """The prompt with its frame rate said behind it, unless it ends with one already."""
    text = as_sentence(prompt)
    return text if _RATE_SAID.search(text) else f"{text} {fps} FPS."


def add_motion_score(prompt: str, score: int | str) -> str:
    """The prompt with the strength of motion, 1 (least) to 7 (most), said behind it."""
    return f"{prompt} {score} motion score."


def spoken(prompt: str, fps: int | None = None, motion_score: int | str | None = None) -> str:
    """What the text encoders of 2.0 read of a prompt.

    Args:
        prompt: as a person writes it.
        fps: frames per second of a clip; ``None`` for a picture.
        motion_score: 1 to 7; ``None`` leaves it to the prompt.
    """
    text = prompt if fps is None else add_frame_rate(prompt, fps)
    return text if motion_score is None else add_motion_score(text, motion_score)
