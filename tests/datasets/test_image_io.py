"""Pictures with a bomb, a lie or damage in them; what is right about pictures is tested with the request."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from upload_files import RED, encoded, gif_of_size, png_of_size, webp_of_size

from opensora.datasets.image_io import load_image


@pytest.mark.parametrize("data", [webp_of_size(16384, 16384), gif_of_size(65535, 65535), png_of_size(60000, 60000)])
def test_a_picture_that_says_it_is_enormous_is_refused_before_its_decoder_makes_room(data: bytes) -> None:
    with pytest.raises(ValueError, match="more than 64 million pixels"):
        load_image(data)


def test_the_extension_may_lie(tmp_path: Path) -> None:
    (tmp_path / "really.svg").write_bytes(encoded(Image.new("RGB", (30, 20), RED)))
    (tmp_path / "clip.mp4").write_bytes(encoded(Image.new("RGB", (30, 20), RED), "JPEG", quality=95))
    for name in ("really.svg", "clip.mp4"):
        assert np.abs(np.asarray(load_image(tmp_path / name))[9, 9].astype(int) - RED).max() <= 6


def test_a_drawing_of_text_is_refused_whatever_it_is_called(tmp_path: Path) -> None:
    drawing = b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1/secret'/></svg>"
    for name in ("a.svg", "a.png", "a"):
        (tmp_path / name).write_bytes(drawing)
        with pytest.raises(ValueError, match="no picture that can be read"):
            load_image(tmp_path / name)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/a.png", "https://example.org/a.png", "file:///etc/passwd"])
def test_an_address_is_no_file_and_nothing_is_fetched(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket", refuse)
    with pytest.raises(ValueError, match="There is no image file"):
        load_image(address)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0" + struct.pack("<IH", 8, 60000), b"\xff" * 40])
def test_damaged_entries_do_not_spoil_a_good_picture(exif: bytes) -> None:
    image = load_image(encoded(Image.new("RGB", (30, 20), RED), "JPEG", exif=exif, quality=95))
    assert image.size == (30, 20)


@pytest.mark.parametrize(("turn", "where"), [(3, (29, 19)), (6, (19, 0)), (8, (0, 29))])
def test_every_turn_is_undone(turn: int, where: tuple[int, int]) -> None:
    picture = Image.new("RGB", (30, 20))
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = turn
    assert load_image(encoded(picture, "PNG", exif=exif)).getpixel(where) == (255, 255, 255)


def test_half_transparent_red_is_pink_in_every_kind_of_transparency() -> None:
    pink = tuple(round(0.5 * value + 127.5) for value in RED)
    clear = Image.new("RGBA", (30, 20), (*RED, 128))
    assert np.abs(np.array(load_image(encoded(clear)).getpixel((9, 9))) - pink).max() <= 1
    assert np.abs(np.array(load_image(encoded(clear, "WEBP", lossless=True)).getpixel((9, 9))) - pink).max() <= 1
    palette = Image.new("P", (30, 20), 1)
    palette.putpalette([0, 0, 0, *RED])
    assert load_image(encoded(palette, transparency=1)).getpixel((9, 9)) == (255, 255, 255)
    keyed = Image.new("RGB", (30, 20), RED)
    assert load_image(encoded(keyed, transparency=RED)).getpixel((9, 9)) == (255, 255, 255)
    grey = Image.new("L", (30, 20), 90)
    assert load_image(encoded(grey, transparency=90)).getpixel((9, 9)) == (255, 255, 255)


def test_deep_and_printed_pictures_keep_their_levels() -> None:
    deep = np.full((20, 30), 30000, np.uint16)
    for kind in ("PNG", "TIFF"):
        assert load_image(encoded(Image.fromarray(deep), kind)).getpixel((9, 9)) == (117, 117, 117)
    printed = Image.new("CMYK", (30, 20), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        red = np.array(load_image(encoded(printed, kind)).getpixel((9, 9)))
        assert red[0] > 200 and red[1:].max() < 60


def test_a_picture_that_is_cut_at_any_byte_is_read_or_refused_with_a_sentence() -> None:
    noise = Image.effect_noise((40, 30), 60).convert("RGB")
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"):
        whole = encoded(noise, kind)
        for end in range(0, len(whole), max(1, len(whole) // 40)):
            try:
                assert load_image(whole[:end]).size == (40, 30)
            except ValueError as error:
                assert str(error).startswith("The image ") and str(error).endswith(".")


def test_memory_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*arguments: object) -> None:
        raise MemoryError

    data = encoded(Image.new("RGB", (30, 20)))
    monkeypatch.setattr(Image.Image, "copy", no_room)
    with pytest.raises(ValueError, match="needs more memory"):
        load_image(data)
    with pytest.raises(ValueError, match="needs more memory"):
        load_image(Image.open(io.BytesIO(data)))
