"""What the text encoder reads: the prompt of every part of a clip, with the scores in words, cleaned."""

import re
from functools import lru_cache

from opensora.models.text import prompts_v2
from opensora.models.text.cleaning import text_preprocessing
from opensora.models.text.prompts import append_score_to_prompts, extract_prompts_loop, motion_word, split_prompt
from opensora.sentences import say

_NUMBERED = re.compile(r"\s*\|\s*\d+\s*\|")


def part_texts(
    prompt: str,
    parts: int,
    *,
    clean: bool,
    family: str = "1.3",
    fps: int | None = None,
    motion_score: int | None = None,
    aesthetic_score: float | None = None,
    camera_motion: str | None = None,
) -> list[str]:
    """The text of every part.

    Args:
        prompt: one text, or ``|0| … |1| …`` with the part from which each text holds.
        parts: how many there are.
        clean: whether the text is cleaned as published captions were.
        family: generation of the networks, which were captioned in different words.
        fps: frames per second, which only 2.0 is told in words; ``None`` for a picture.
        motion_score: 1 to 7, said in words where the prompt does not say it.
        aesthetic_score: 0 to 10, likewise.
        camera_motion: likewise.

    Raises:
        ValueError: the numbers between bars do not fit, or nothing is left of a text.
    """
    texts, starts = split_prompt(prompt)
    if starts is None and (first := _NUMBERED.match(prompt)):
        raise ValueError(say("loops.from", got=repr(first[0].strip()[:20])))
    if starts is not None and starts[-1] >= parts:
        loops = {"last": starts[-1], "needed": starts[-1] + 1}
        raise ValueError(say("loops.one", **loops) if parts == 1 else say("loops.many", parts=parts, **loops))
    for text in texts:
        if not text.strip():
            raise ValueError(say("loops.empty"))
        if clean and not _cleaned(text):
            raise ValueError(say("text.cleaned", got=repr(text[:60])))
    spoken = [extract_prompts_loop([prompt], part)[0].strip() for part in range(parts)]
    texts = [_worded(text, family, fps, motion_score, aesthetic_score, camera_motion) for text in spoken]
    return [_cleaned(text) if clean else text for text in texts]


def _worded(
    text: str,
    family: str,
    fps: int | None,
    motion_score: int | None,
    aesthetic_score: float | None,
    camera_motion: str | None,
) -> str:
    """A text with what is said behind it, in the words of a generation's captions."""
    if family == "2.0":
        return prompts_v2.spoken(text, fps, motion_score)
    if family == "1.2":
        flow: float | str | None = None if motion_score is None else float(motion_score)
        return append_score_to_prompts([text], aesthetic_score, flow, camera_motion, wording="v1.2")[0]
    word = None if motion_score is None else motion_word(int(motion_score))
    return append_score_to_prompts([text], aesthetic_score, word, camera_motion)[0]


@lru_cache(maxsize=128)
def _cleaned(text: str) -> str:
    """Cleaned as captions were. A request asks several times, and an odd text takes a second."""
    return text_preprocessing(text)
