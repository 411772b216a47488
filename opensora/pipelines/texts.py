"""What the text encoder reads: the prompt of every part of a clip, with the scores in words, cleaned."""

import re
from functools import lru_cache

from opensora.models.text.cleaning import text_preprocessing
from opensora.models.text.prompts import append_score_to_prompts, extract_prompts_loop, motion_word, split_prompt

_NUMBERED = re.compile(r"\s*\|\s*\d+\s*\|")


def part_texts(
    prompt: str,
    parts: int,
    *,
    clean: bool,
    motion_score: int | None = None,
    aesthetic_score: float | None = None,
    camera_motion: str | None = None,
) -> list[str]:
    """The text of every part.

    Args:
        prompt: one text, or ``|0| … |1| …`` with the part from which each text holds.
        parts: how many there are.
        clean: whether the text is cleaned as published captions were.
        motion_score: 1 to 7, said in words where the prompt does not say it.
        aesthetic_score: 0 to 10, likewise.
        camera_motion: likewise.

    Raises:
        ValueError: the numbers between bars do not fit, or nothing is left of a text.
    """
    texts, starts = split_prompt(prompt)
    if starts is None and (first := _NUMBERED.match(prompt)):
        raise ValueError(
            f"The prompt begins with {first[0].strip()[:20]!r}; loops count from 0: write |0| text |1| text ..."
        )
    if starts is not None and starts[-1] >= parts:
        made = "1 part" if parts == 1 else f"{parts} parts"
        raise ValueError(
            f"The prompt has a text for loop {starts[-1]}, but the clip is made in {made}; loops count from 0, so ask "
            f"for {starts[-1] + 1} loops or a longer clip."
        )
    for text in texts:
        if not text.strip():
            raise ValueError("A loop's text is empty; write something behind every |number|.")
        if clean and not _cleaned(text):
            raise ValueError(f"Nothing is left of {text[:60]!r} after cleaning; use other words.")
    spoken = [extract_prompts_loop([prompt], part)[0].strip() for part in range(parts)]
    flow = None if motion_score is None else motion_word(int(motion_score))
    spoken = append_score_to_prompts(spoken, aesthetic_score, flow, camera_motion)
    return [_cleaned(text) if clean else text for text in spoken]


@lru_cache(maxsize=128)
def _cleaned(text: str) -> str:
    """Cleaned as captions were. A request asks several times, and an odd text takes a second."""
    return text_preprocessing(text)
