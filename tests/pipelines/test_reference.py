"""Any picture that people bring starts a clip, or is refused with a sentence on the reference image."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from opensora.datasets.image_io import MAX_BYTES, load_image
from opensora.pipelines.request import GenerationRequest, RequestError

RED = (200, 40, 30)


def reference(source: object) -> Image.Image:
    """The picture that a request would start from."""
    image = GenerationRequest("a ball", reference_image=source).validated().reference_image  # type: ignore[arg-type]
    assert isinstance(image, Image.Image)
    assert image.mode == "RGB" and image.width % 16 == image.height % 16 == 0
    return image


def refused(source: object) -> str:
    with pytest.raises(RequestError) as caught:
        reference(source)
    assert caught.value.field == "reference_image"
    assert str(caught.value).endswith(".")
    return str(caught.value)


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it is this large and holds almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("mode", "colour", "shown"),
    [
        ("RGB", RED, RED),
        ("RGBA", (*RED, 255), RED),
        ("RGBA", (*RED, 0), (255, 255, 255)),
        ("LA", (90, 255), (90, 90, 90)),
        ("L", 90, (90, 90, 90)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 30000, (117, 117, 117)),
    ],
    ids=str,
)
def test_colours_survive_every_mode(tmp_path: Path, mode: str, colour: object, shown: tuple[int, ...]) -> None:
    Image.new(mode, (64, 36), colour).save(tmp_path / "image.png")  # type: ignore[arg-type]
    assert np.abs(np.asarray(reference(tmp_path / "image.png"))[20, 20].astype(int) - shown).max() <= 1


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "CMYK"), ("TIFF", "CMYK"), ("GIF", "P"), ("WEBP", "RGBA")])
def test_other_formats_are_read_by_content(tmp_path: Path, kind: str, mode: str) -> None:
    file = tmp_path / "image.txt"
    Image.new("RGB", (64, 36), RED).convert(mode).save(file, format=kind)
    assert np.abs(np.asarray(reference(str(file)))[9, 9].astype(int) - RED).max() <= 40


def test_a_picture_is_turned_upright_and_its_profile_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (90, 160), RED)
    picture.paste((0, 0, 255), (0, 0, 90, 80))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    upright = reference(tmp_path / "turned.jpg")
    assert upright.size == (144, 256)
    assert upright.getpixel((72, 20))[2] > 200 and upright.getpixel((72, 230))[0] > 150  # type: ignore[index]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (64, 36), RED).save(tmp_path / "profile.png", icc_profile=profile)
    assert reference(tmp_path / "profile.png").getpixel((9, 9)) == RED
    Image.new("RGB", (64, 36), RED).save(tmp_path / "broken.png", icc_profile=b"no profile")
    assert reference(tmp_path / "broken.png").getpixel((9, 9)) == RED


def test_of_a_moving_picture_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (64, 36), colour) for colour in (RED, (0, 0, 255))]
    for name in ("moving.gif", "moving.webp", "moving.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert np.abs(np.asarray(reference(tmp_path / name))[9, 9].astype(int) - RED).max() <= 8


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (3, 2), (4000, 3000)], ids=str)
def test_every_shape_is_cut_to_a_frame(size: tuple[int, int]) -> None:
    image = reference(Image.new("RGB", size, RED))
    assert image.getpixel((image.width // 2, image.height // 2)) == RED


def test_a_picture_that_unpacks_to_too_much_is_refused_unread(tmp_path: Path) -> None:
    for width, height in ((60000, 60000), (9000, 9000), (2**31 - 1, 2)):
        (tmp_path / "bomb.png").write_bytes(png_of_size(width, height))
        assert "more than 64 million pixels" in refused(tmp_path / "bomb.png")
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * (80 * 2**20), zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "text.png", pnginfo=text)
    assert "text.png is damaged" in refused(tmp_path / "text.png")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "larger than 64 MB" in refused(tmp_path / "large.png")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.effect_noise((200, 100), 60).convert("RGB").save(whole, format="PNG")
    cut = whole.getvalue()[: len(whole.getvalue()) // 2]
    flipped = bytearray(whole.getvalue())
    flipped[len(flipped) // 2] ^= 0xFF
    for name, data in (("cut.png", cut), ("flipped.png", bytes(flipped)), ("tiny.png", png_of_size(100, 100))):
        (tmp_path / name).write_bytes(data)
        assert f"{name} is damaged" in refused(tmp_path / name)
    for name, data in (
        ("empty.png", b""),
        ("text.png", b"hello"),
        ("vector.svg", b"<svg/>"),
        ("page.pdf", b"%PDF-1.7"),
    ):
        (tmp_path / name).write_bytes(data)
        assert f"{name} is no picture that can be read" in refused(tmp_path / name)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "nowhere.png", "", "\0", "x" * 5000, os.devnull):
        refused(source)
    assert str(tmp_path) not in refused(tmp_path / "nowhere.png")
    for value in (3, 1.5, True, [1], {"path": "a.png"}):
        assert "expected a file, a picture or a uint8 array" in refused(value)
    for array in (np.zeros((4, 4), np.float32), np.zeros((0, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)):
        assert "expected uint8 (H, W, 3)" in refused(array)


def test_a_name_cannot_speak_to_the_terminal(tmp_path: Path) -> None:
    for name in ("red\x1b[31m.png", "two\nlines.png", "half\udcff.png"):
        (tmp_path / name).write_bytes(b"hello")
        said = refused(tmp_path / name)
        assert said.isprintable() and "?" in said


@pytest.mark.filterwarnings("error")
def test_values_that_are_no_numbers_are_black_and_infinite_ones_white() -> None:
    for row, levels in (([np.nan, -1, 0.5, 1], [0, 0, 128, 255]), ([np.nan, -np.inf, 128, np.inf], [0, 0, 128, 255])):
        picture = load_image(Image.fromarray(np.array([row], np.float32)))
        assert np.asarray(picture)[0, :, 0].tolist() == levels


def test_a_picture_that_was_read_is_not_changed_by_the_request() -> None:
    mine = Image.new("RGB", (300, 200), RED)
    reference(mine)
    assert (mine.size, mine.getpixel((0, 0))) == ((300, 200), RED)
    array = np.full((20, 30, 3), 7, np.uint8)
    image = load_image(array)
    image.putpixel((0, 0), (9, 9, 9))
    assert array[0, 0, 0] == 7
