"""Contact sheets: a row of frames per clip, with what was asked and what is seen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.judge.verdict import Verdict

FRAMES, CELL, TEXT = 5, 176, 15
_RIGHT, _WRONG = (32, 120, 60), (190, 40, 40)


def describe(verdict: Verdict) -> str:
    """A verdict in a few words."""
    seen = [f"{s.colour} {s.kind} {s.motion.word}" for s in verdict.subjects] or ["nothing"]
    return " + ".join(seen) + f" / camera {verdict.camera.word}"


def _row(clip: NDArray[np.uint8], asked: str, seen: str, right: bool) -> Image.Image:
    picks = np.linspace(0, len(clip) - 1, FRAMES).round().astype(int)
    height = round(CELL * clip.shape[1] / clip.shape[2])
    row = Image.new("RGB", (FRAMES * CELL, height + 2 * TEXT), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(11)
    draw.text((3, 1), asked, fill="black", font=font)
    draw.text((3, TEXT), f"{'right' if right else 'WRONG'}: {seen}", fill=_RIGHT if right else _WRONG, font=font)
    for place, frame in enumerate(picks):
        row.paste(Image.fromarray(clip[frame]).resize((CELL, height)), (place * CELL, 2 * TEXT))
    return row


def write(path: Path, rows: Sequence[tuple[NDArray[np.uint8], str, str, bool]]) -> None:
    """Write a contact sheet of (clip, asked, seen, right) rows, two rows beside each other."""
    images = [_row(*row) for row in rows]
    width, height = FRAMES * CELL + 8, max(image.height for image in images) + 4
    sheet = Image.new("RGB", (2 * width, height * ((len(images) + 1) // 2)), "white")
    for number, image in enumerate(images):
        sheet.paste(image, (number % 2 * width, number // 2 * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
