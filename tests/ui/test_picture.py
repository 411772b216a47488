"""The crop that is shown is the crop that is used, and posters come from the clip."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opensora.datasets.image_io import cover
from opensora.datasets.video_io import write_mp4, write_png
from opensora.ui import picture


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (256, 144), (1, 1), (1, 500), (500, 1), (31, 17)])
@pytest.mark.parametrize("shape", [(256, 144), (144, 256), (192, 192)])
def test_the_crop_box_is_in_the_middle_and_has_the_frames_shape(size: tuple[int, int], shape: tuple[int, int]) -> None:
    left, top, right, bottom = picture.crop_box(size, *shape)
    assert 0 <= left <= right <= size[0] and 0 <= top <= bottom <= size[1]
    assert right - left == size[0] or bottom - top == size[1]  # it touches two sides
    assert abs(left - (size[0] - right)) <= 1 and abs(top - (size[1] - bottom)) <= 1  # it is in the middle
    if min(size) > 100:
        assert (right - left) / (bottom - top) == pytest.approx(shape[0] / shape[1], rel=0.02)


def test_the_crop_that_is_shown_is_the_one_that_is_used() -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (15, 20, 3), np.uint8)).resize((400, 300))
    box = picture.crop_box(image.size, 144, 256)
    shown = np.asarray(image.crop(box).resize((144, 256), Image.Resampling.LANCZOS), np.float64)
    used = np.asarray(cover(image, 144, 256), np.float64)
    assert np.corrcoef(shown.ravel(), used.ravel())[0, 1] > 0.95


def test_what_is_cut_off_is_dark() -> None:
    pixels = np.asarray(picture.shaded(Image.new("RGB", (400, 200), (200, 200, 200)), 100, 100))
    assert pixels.shape == (180, 360, 3)
    assert (pixels[:, 90:270] == 200).all() and (pixels[:, :89] == 56).all() and (pixels[:, 271:] == 56).all()


def test_one_frame_and_many_become_a_small_animation() -> None:
    for frames, count in ((np.zeros((18, 32, 3), np.uint8), 1), (np.zeros((2, 18, 32, 3), np.uint8), 1)):
        data = base64.b64decode(picture.animation_uri(frames).split(",")[1])
        opened = Image.open(io.BytesIO(data))
        assert opened.format == "WEBP" and opened.size == (192, 108) and getattr(opened, "n_frames", 1) >= count


def test_a_poster_is_the_first_frame(tmp_path: Path) -> None:
    frames = np.full((17, 48, 64, 3), 40, np.uint8)
    frames[0] = (200, 60, 30)
    write_mp4(tmp_path / "clip.mp4", frames, 24, {})
    write_png(tmp_path / "still.png", frames[0], {})
    for name in ("clip.mp4", "still.png"):
        opened = Image.open(io.BytesIO(picture.poster(tmp_path / name)))
        assert opened.format == "JPEG" and opened.size == (64, 48)
        assert np.abs(np.asarray(opened, np.float64).mean((0, 1)) - (200, 60, 30)).max() < 4


def test_an_upload_is_handed_over_untouched(tmp_path: Path) -> None:
    from gradio.data_classes import ImageData

    file = tmp_path / "deep.png"
    Image.fromarray(np.arange(65_536, dtype=np.uint16).reshape(256, 256)).save(file)
    before = file.read_bytes()
    component = picture.reference_input(label="First frame")
    path = component.preprocess(ImageData(path=str(file), orig_name="deep.png"))
    assert path == str(file) and file.read_bytes() == before
    assert component.preprocess(None) is None
    assert component.get_block_name() == "image"
