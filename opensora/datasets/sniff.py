"""What a file is, told by its first bytes, and how large a picture says it is before a decoder makes room for it.

A file's name and the type that a browser sends along count for nothing.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

HEAD = 64
"""First bytes of a file that are enough to tell."""

_PICTURES: Mapping[str, tuple[bytes, ...]] = MappingProxyType(
    {
        "PNG": (b"\x89PNG\r\n\x1a\n",),
        "JPEG": (b"\xff\xd8\xff",),
        "GIF": (b"GIF87a", b"GIF89a"),
        "BMP": (b"BM",),
        "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    }
)
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_LONGEST_NAME = 80


def picture_kind(head: bytes) -> str | None:
    """Pillow's name of a picture's format; ``None`` where it is none that is read."""
    for kind, starts in _PICTURES.items():
        if head.startswith(starts):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and any(brand in (b"avif", b"avis") for brand in _brands(head)):
        return "AVIF"
    return None


def clip_kind(head: bytes) -> str | None:
    """FFmpeg's name of a clip's format; ``None`` where it is none that is read."""
    if head[4:8] in _ISO_BOXES:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    return "gif" if head.startswith(_PICTURES["GIF"]) else None


def declared_size(head: bytes) -> tuple[int, int] | None:
    """Width and height that a GIF or WebP file says it has, in pixels; ``None`` of other formats.

    The decoders of these two make room for the whole picture while the file is being opened.
    """
    kind = picture_kind(head)
    if kind == "GIF" and len(head) >= 10:
        width, height = struct.unpack("<HH", head[6:10])
        return width, height
    if kind != "WEBP" or len(head) < 30:
        return None
    chunk, data = head[12:16], head[20:30]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack("<HH", data[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return None


def shown_name(path: Path) -> str:
    """A file's name for a sentence: no folder, nothing that could speak to a terminal, not too long."""
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."


def _brands(head: bytes) -> list[bytes]:
    """The brands that an ISO file names in its first box."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
