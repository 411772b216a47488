"""A file is what its first bytes say, whatever its name."""

from pathlib import Path

import pytest
from PIL import Image
from upload_files import encoded, gif_of_size, mp4_of_size, small_mp4, webp_of_size

from opensora.datasets.sniff import HEAD, clip_kind, declared_size, picture_kind, shown_name


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF"])
def test_pictures_are_told_by_content(kind: str) -> None:
    head = encoded(Image.new("RGB", (30, 20)), kind)[:HEAD]
    assert picture_kind(head) == kind
    assert declared_size(head) == ((30, 20) if kind in ("GIF", "WEBP") else None)


def test_the_three_kinds_of_webp_say_their_size() -> None:
    picture = Image.new("RGB", (300, 77))
    assert declared_size(encoded(picture, "WEBP")[:HEAD]) == (300, 77)
    assert declared_size(encoded(picture, "WEBP", lossless=True)[:HEAD]) == (300, 77)
    assert declared_size(webp_of_size(16384, 9000)[:HEAD]) == (16384, 9000)
    assert declared_size(gif_of_size(65535, 3)) == (65535, 3)


def test_clips_are_told_by_content(tmp_path: Path) -> None:
    assert clip_kind(small_mp4(tmp_path / "a.mp4")) == "mov"
    assert clip_kind(mp4_of_size(tmp_path / "b.mp4", 9, 9)) == "mov"
    assert clip_kind(gif_of_size(4, 4)) == "gif"
    assert clip_kind(b"\x1a\x45\xdf\xa3" + bytes(60)) == "matroska"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<?xml version='1.0'?><svg/>",
        b"#EXTM3U\nhttp://example.org/a.ts\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"%PDF-1.7\n",
        b"MZ\x90\0",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    ],
)
def test_everything_else_is_nothing(head: bytes) -> None:
    assert picture_kind(head) is None and declared_size(head) is None
    assert clip_kind(head) in (None, "mov")  # HEIC is a relative of MP4; its demuxer finds no frames


def test_a_name_is_short_and_printable() -> None:
    assert shown_name(Path("/secret/folder/a\x1b[31m\n.png")) == "a?[31m?.png"
    assert len(shown_name(Path("x" * 200))) == 80
