"""Files as strangers bring them: bombs, cut files and lies, each a few hundred bytes or made in a moment."""

import io
import struct
import zlib
from pathlib import Path

import av
import numpy as np
from PIL import Image

from opensora.datasets.video_io import write_mp4

RED = (200, 40, 30)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it is this large and holds almost nothing."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def webp_of_size(width: int, height: int) -> bytes:
    """A WebP whose canvas is this large; its decoder makes room for two of them while it opens the file."""
    animated = encoded(Image.new("RGBA", (4, 4)), "WEBP", save_all=True, append_images=[Image.new("RGBA", (4, 4), RED)])
    assert animated[12:16] == b"VP8X"
    return animated[:24] + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little") + animated[30:]


def gif_of_size(width: int, height: int, frames: int = 1, loop: int | None = None) -> bytes:
    """A GIF with a screen of this size and frames of one pixel."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    forever = b"" if loop is None else b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", loop) + b"\0"
    frame = b"!\xf9\x04\0\x04\0\0\0,\0\0\0\0\1\0\1\0\0\x02\x02\x44\x01\0"
    return head + forever + frame * frames + b";"


def small_mp4(path: Path, frames: int = 9, height: int = 32, width: int = 48, fps: float = 24) -> bytes:
    """A real clip; its first frame is dark, its last bright."""
    levels = np.linspace(20, 230, frames, dtype=np.uint8)
    write_mp4(path, np.broadcast_to(levels[:, None, None, None], (frames, height, width, 3)).copy(), fps, {"a": 1})
    return path.read_bytes()


def mp4_of_size(path: Path, width: int, height: int) -> bytes:
    """A clip whose boxes say that its frames are of this size: track header and sample entry."""
    data = bytearray(small_mp4(path))
    entry = data.index(b"avc1", data.index(b"stsd")) + 4
    data[entry + 24 : entry + 28] = struct.pack(">HH", width & 0xFFFF, height & 0xFFFF)
    track = data.index(b"tkhd") + 4
    data[track + 76 : track + 84] = struct.pack(">II", width << 16 & 0xFFFFFFFF, height << 16 & 0xFFFFFFFF)
    return bytes(data)


def png_clip(path: Path, width: int, height: int, frames: int) -> bytes:
    """A clip of flat frames as PNG packets: tiny, however large its frames are."""
    with av.open(str(path), "w", format="mov") as out:
        stream = out.add_stream("png", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, "gray"
        for at in range(frames):
            frame = av.VideoFrame.from_ndarray(np.zeros((height, width), np.uint8), format="gray")
            frame.pts = at
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path.read_bytes()


def boxes(depth: int) -> bytes:
    """An MP4 of boxes in boxes."""
    data = b""
    for _ in range(depth):
        data = struct.pack(">I", 8 + len(data)) + b"moov" + data
    return b"\0\0\0\x14ftypisom\0\0\0\0isom" + data


def refers_to(other: bytes, name: str) -> bytes:
    """A copy of an MP4 without its frames, which says that they are in a file of that name beside it."""
    path = b"/disk/" + name.encode()
    alias = bytes(10) + bytes([5]) + b"/disk".ljust(27, b"\0") + bytes(12)
    alias += bytes([len(name)]) + name.encode().ljust(63, b"\0") + bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + b"\0" * (len(path) % 2) + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I", 12 + len(alias)) + b"alis" + bytes(4) + alias
    data = bytearray(other)
    at = data.index(b"url \0\0\0\x01") - 4
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = data.index(box) - 4
        size = int.from_bytes(data[start : start + 4], "big") + len(entry) - 12
        data[start : start + 4] = size.to_bytes(4, "big")
    frames = data.index(b"mdat") + 4
    return bytes(data[:at] + entry + data[at + 12 : frames]) + bytes(len(data) - frames)
