"""What is dropped picks the shape of the clip, and shows what of it is used."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opensora.datasets.video_io import write_mp4
from opensora.ui import strip


@pytest.fixture
def upright(tmp_path: Path) -> str:
    write_mp4(tmp_path / "upright.mp4", np.full((5, 96, 64, 3), 90, np.uint8), 24, {})
    return str(tmp_path / "upright.mp4")


@pytest.mark.parametrize(("place", "name"), [(2, "Clip to extend"), (3, "Clip to lead to")])
def test_a_dropped_clip_picks_the_aspect_ratio_and_shows_its_crop(upright: str, place: int, name: str) -> None:
    given = [upright if place == number else None for number in range(4)]
    ratio, html = strip.choose_shape(None, *given, "opensora-2.0", "256px")
    assert ratio["value"] in ("2:3", "9:16", "3:4") and f"{name}, {ratio['value']}" in html and "<img" in html
    wide = strip.show_crop(None, *given, "opensora-2.0", "256px", "16:9")
    assert f"{name}, 16:9" in wide and "The bright part is used" in wide


def test_an_image_goes_before_a_clip(upright: str, tmp_path: Path) -> None:
    Image.new("RGB", (80, 40)).save(tmp_path / "wide.png")
    ratio, html = strip.choose_shape(None, str(tmp_path / "wide.png"), None, upright, None, "opensora-2.0", "256px")
    assert int(ratio["value"].split(":")[0]) > int(ratio["value"].split(":")[1])
    assert html.index("First frame") < html.index("Clip to extend")


def test_a_clip_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"nonsense")
    for file in (tmp_path / "no.mp4", tmp_path / "gone.mp4"):
        ratio, html = strip.choose_shape(None, None, None, str(file), None, "opensora-2.0", "256px")
        assert ratio == {"__type__": "update"} and "role='alert'" in html and str(tmp_path) not in html
