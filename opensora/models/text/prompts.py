"""Wording of prompts: scores in words, prompts that change from one segment to the next, options inside a prompt."""

import json
import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from opensora.sentences import say

Wording = Literal["v1.3", "v1.2"]

MOTION_WORDS: dict[int, str] = {
    1: "very low",
    2: "low",
    3: "fair",
    4: "fair",
    5: "high",
    6: "very high",
    7: "extremely high",
}
"""Words of version 1.3 for the motion scores that people choose."""

_AESTHETIC_STEPS: tuple[tuple[float, str], ...] = (
    (4, "terrible"),
    (4.5, "very poor"),
    (5, "poor"),
    (5.5, "fair"),
    (6, "good"),
    (6.5, "very good"),
    (math.inf, "excellent"),
)
_MOTION_STEPS: tuple[tuple[float, str], ...] = (
    (0.5, "very low"),
    (2, "low"),
    (5, "fair"),
    (10, "high"),
    (20, "very high"),
    (math.inf, "extremely high"),
)

_CAPTION_PREFIX = re.compile(
    r"(?:[Tt]he (?:video|image) (?:shows|captures|features|depicts|presents|portrays|is)|[Ii]n the (?:video|image),) "
)


def motion_word(score: int) -> str:
    """The words for a motion score of 1 (least) to 7 (most)."""
    if isinstance(score, bool) or not isinstance(score, int) or score not in MOTION_WORDS:
        raise ValueError(f"The motion score {score!r} is not one of 1, 2, 3, 4, 5, 6 and 7.")
    return MOTION_WORDS[score]


def transform_aes(score: float) -> str:
    """The words for an aesthetic score (about 0 to 10)."""
    return _word(score, _AESTHETIC_STEPS, "aesthetic score")


def transform_motion(score: float) -> str:
    """The words for a measured strength of motion (mean optical flow, 0 and up); of captions for training, published,
    and compared with golden values alone."""
    return _word(score, _MOTION_STEPS, "motion strength")


def _word(score: float, steps: Sequence[tuple[float, str]], what: str) -> str:
    if isinstance(score, bool) or not isinstance(score, int | float) or math.isnan(score):
        raise ValueError(f"The {what} {score!r} is not a number.")
    return next((word for bound, word in steps if score < bound), steps[-1][1])


def append_score_to_prompts(
    prompts: Sequence[str],
    aes: float | str | None = None,
    flow: float | str | None = None,
    camera_motion: str | None = None,
    wording: Wording = "v1.3",
) -> list[str]:
    """Prompts with the scores that they do not mention yet, in the words that the networks were trained with.

    Version 1.3 says the scores in words; a text ("excellent") is taken as it is, a number in a text as the number.
    Version 1.2 says them as numbers.
    """
    return [_with_scores(prompt, aes, flow, camera_motion, wording) for prompt in prompts]


def _with_scores(
    prompt: str, aes: float | str | None, flow: float | str | None, camera_motion: str | None, wording: Wording
) -> str:
    if wording == "v1.3":
        aes_key, aes_text = "aesthetic score is", _in_words(aes, _AESTHETIC_STEPS, "The aesthetic score")
        flow_key, flow_text = "motion strength is", _in_words(flow, _MOTION_STEPS, "The motion strength")
    elif wording == "v1.2":
        aes_key, aes_text = "aesthetic score:", _in_digits(aes, "aesthetic score")
        flow_key, flow_text = "motion score:", _in_digits(flow, "motion score")
    else:
        raise ValueError(f"There is no wording {wording!r}; choose v1.3 or v1.2.")
    camera_text = None if camera_motion is None else f"camera motion: {camera_motion}."
    for key, text in ((aes_key, aes_text), (flow_key, flow_text), ("camera motion:", camera_text)):
        if text is not None and key not in prompt:
            prompt = f"{prompt} {text}"
    return prompt


def _in_words(score: float | str | None, steps: Sequence[tuple[float, str]], what: str) -> str | None:
    if score is None:
        return None
    if isinstance(score, str):
        try:
            score = float(score)
        except ValueError:
            return f"{what} is {score}."
    return f"{what} is {_word(score, steps, what.removeprefix('The '))}."


def _in_digits(score: float | str | None, what: str) -> str | None:
    if score is None:
        return None
    if isinstance(score, str | bool):
        raise ValueError(f"The {what} {score!r} is not a number; the wording of version 1.2 has only numbers.")
    return f"{what}: {score:.1f}."


def split_prompt(prompt: str) -> tuple[list[str], list[int] | None]:
    """Parts of a prompt like ``|0| a calm sea |2| a storm``, and the segments from which they hold.

    A prompt that does not start with ``|0|`` is one part that always holds, without segments.
    """
    if not prompt.startswith("|0|"):
        return [prompt], None
    texts, starts = _parts(prompt)
    return [text.strip() for text in texts], starts


def _parts(prompt: str) -> tuple[list[str], list[int]]:
    pieces = prompt.split("|")[1:]
    if len(pieces) % 2:
        raise ValueError(say("segments.lone", prompt=_short(prompt)))
    starts = []
    for piece in pieces[::2]:
        if not re.fullmatch(r"\s*[0-9]{1,9}\s*", piece):
            raise ValueError(say("segments.odd", piece=piece[:20], prompt=_short(prompt)))
        starts.append(int(piece))
    if any(later <= earlier for earlier, later in pairwise(starts)):
        raise ValueError(say("segments.order", prompt=_short(prompt)))
    return pieces[1::2], starts


def merge_prompt(texts: Sequence[str], starts: Sequence[int] | None = None) -> str:
    """The opposite of ``split_prompt``; without ``starts``, the first text."""
    if starts is None:
        if not texts:
            raise ValueError("There is no text to make a prompt of.")
        return texts[0]
    if len(texts) != len(starts):
        raise ValueError(f"There are {len(texts)} texts for {len(starts)} segments; give as many of both.")
    return "".join(f"|{start}|{text}" for text, start in zip(texts, starts, strict=True))


def extract_prompts_loop(prompts: Sequence[str], loop: int) -> list[str]:
    """For each prompt the text that holds in segment ``loop`` (from 0)."""
    if loop < 0:
        raise ValueError(f"The segment {loop} is below zero.")
    return [_in_segment(prompt, loop) for prompt in prompts]


def _in_segment(prompt: str, loop: int) -> str:
    if not prompt.startswith("|0|"):
        return prompt
    texts, starts = _parts(prompt)
    return [text for text, start in zip(texts, starts, strict=True) if start <= loop][-1]


def extract_json_from_prompts(prompts: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Prompts without their options, reference paths and mask strategies ("" where a prompt has none).

    A prompt's options are one JSON object inside it: ``a cat {"reference_path": "x.png", "mask_strategy": "0"}``.
    """
    texts, references, strategies = [], [], []
    for prompt in prompts:
        text, options = _options(prompt)
        texts.append(text)
        references.append(options.get("reference_path", ""))
        strategies.append(options.get("mask_strategy", ""))
    return texts, references, strategies


def _options(prompt: str) -> tuple[str, dict[str, str]]:
    start = prompt.find("{")
    if start < 0:
        return prompt, {}
    how = 'write one object like {"reference_path": "x.png"}'
    try:
        options, length = json.JSONDecoder().raw_decode(prompt[start:])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The options in the prompt {_short(prompt)} cannot be read ({error}); {how}.") from None
    rest = prompt[start + length :]
    if "{" in rest:
        raise ValueError(f"The prompt {_short(prompt)} has options more than once; {how}.")
    for key, value in options.items():
        if key not in ("reference_path", "mask_strategy"):
            raise ValueError(f"There is no option {key!r} in a prompt; choose reference_path or mask_strategy.")
        if not isinstance(value, str):
            raise ValueError(f"The option {key} in the prompt {_short(prompt)} is not a text.")
    return prompt[:start] + rest, options


def remove_caption_prefix(caption: str) -> str:
    """A caption without words like "The video shows" in front; of captions for training, published, and compared with
    golden values alone."""
    match = _CAPTION_PREFIX.match(caption)
    if match is None:
        return caption
    rest = caption[match.end() :].strip()
    if not rest:
        raise ValueError(f"The caption {_short(caption)} says nothing after its first words.")
    return rest[0].upper() + rest[1:]


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:197]}...")
