"""Writing clips that browsers play as they were generated, and reading clips that people bring.

Legend: T frames, H, W rows and columns; frames are uint8 (T, H, W, 3), sRGB.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image, PngImagePlugin

CRF = 14
"""Quality of the encoder: 0 is lossless, 18 looks the same."""
MAX_READ_PIXELS = 2**31
"""Pixels that are decoded of one clip at most, all frames together."""

# How BT.601 makes Y', Cb and Cr of R'G'B' in [0, 1]. Any tagged matrix would do for players that compute exactly; in
# the software path of Chromium the blue of BT.709 is up to 12 levels off, that of BT.601 at most 2.
_BT601 = np.array(
    [[0.299, 0.587, 0.114], [-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]],
    dtype=np.float32,
)
_MATRIX_TAG = 6
"""Number of the BT.601 (SMPTE 170M) matrix in H.264."""
_BT709_TAG = 1
"""Number of the BT.709 primaries and transfer, which are those of sRGB screens, and of its matrix."""
_LIMITED_TAG = 1
"""Number of the limited range."""


@dataclass(frozen=True)
class Clip:
    """A clip that was read."""

    frames: np.ndarray = field(repr=False)
    """uint8 (T, H, W, 3)."""
    fps: float
    """Frames per second."""


def write_mp4(path: str | os.PathLike[str], frames: np.ndarray, fps: float, metadata: Mapping[str, Any]) -> None:
    """Write an H.264 MP4 that starts before it is loaded; readers see the old file or the whole new one.

    Colours are sRGB through the BT.601 matrix, and tagged so. Odd sizes get one more row or column. The same frames
    give the same bytes.

    Args:
        path: file; an existing one is replaced.
        frames: uint8 (T, H, W, 3), T at least 1.
        fps: frames per second.
        metadata: kept as JSON in the comment tag; see :func:`read_metadata`.
    """
    assert frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[3] == 3 and len(frames), frames.shape
    rate = Fraction(fps).limit_denominator(1001)
    height, width = (side + side % 2 for side in frames.shape[1:3])
    with (
        _replacing(Path(path)) as partial,
        av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as out,
    ):
        out.metadata["comment"] = _to_json(metadata)
        options = {"crf": str(CRF), "preset": "medium", "threads": "4", "g": str(max(1, round(fps)))}
        stream = out.add_stream("libx264", rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = 1 / rate
        _tag(stream.codec_context)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(to_yuv420(picture), format="yuv420p")
            _tag(frame)
            frame.pts, frame.time_base, frame.duration = index, 1 / rate, 1
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def write_png(path: str | os.PathLike[str], picture: np.ndarray, metadata: Mapping[str, Any]) -> None:
    """Write uint8 (H, W, 3) as PNG with the metadata as JSON in the text chunk ``Comment``; atomic."""
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3, picture.shape
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", _to_json(metadata))
    with _replacing(Path(path)) as partial:
        Image.fromarray(picture).save(partial, format="PNG", pnginfo=text)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata that :func:`write_mp4` or :func:`write_png` put into a file.

    Raises:
        ValueError: the file is neither, or holds none.
    """
    path = Path(path)
    if _head(path).startswith(b"\x89PNG"):
        with Image.open(path, formats=["PNG"]) as image:
            comment = getattr(image, "text", {}).get("Comment", "")
    else:
        with _open(path) as container:
            comment = container.metadata.get("comment", "")
    try:
        return json.loads(comment)
    except json.JSONDecodeError:
        raise ValueError(f"{path.name} holds no settings; it was not written by this program.") from None


def read_video(path: str | os.PathLike[str], max_frames: int | None = None, max_pixels: int = MAX_READ_PIXELS) -> Clip:
    """Frames of an MP4, MOV, WebM, MKV or GIF file, upright.

    The format is told by content and fixed, and no other file or address is opened whatever the file says.

    Args:
        path: file.
        max_frames: frames to read at most; ``None`` reads all.
        max_pixels: pixels of all frames together above which it is refused.

    Raises:
        ValueError: it is no clip of these formats, damaged or too long; a sentence for people.
    """
    path = Path(path)
    pictures: list[np.ndarray] = []
    pixels = 0
    try:
        with _open(path) as container:
            if not container.streams.video:
                raise ValueError(f"{path.name} has no pictures in it.")
            stream = container.streams.video[0]
            fps = float(stream.average_rate or stream.guessed_rate or 24)
            for frame in container.decode(stream):
                pixels += frame.width * frame.height
                if pixels > max_pixels:
                    raise ValueError(f"{path.name} is too long or too large to read; cut it first.")
                pictures.append(_to_rgb(frame))
                if max_frames is not None and len(pictures) >= max_frames:
                    break
    except (av.error.FFmpegError, EOFError) as error:
        raise ValueError(f"{path.name} is damaged and cannot be read; save it again as MP4.") from error
    if not pictures:
        raise ValueError(f"{path.name} has no pictures in it.")
    return Clip(np.stack(pictures), fps)


def to_yuv420(picture: np.ndarray) -> np.ndarray:
    """sRGB uint8 (H, W, 3) -> BT.601 planes of limited range, uint8 (3 H' / 2, W') with H' and W' rounded up to even.

    Chroma is averaged to where H.264 expects it: on every second column, between two rows.
    """
    picture = np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")
    yuv = picture.astype(np.float32) @ (_BT601.T / 255)
    luma = 16 + 219 * yuv[..., 0]
    chroma = (yuv[0::2, :, 1:] + yuv[1::2, :, 1:]) / 2
    left = np.concatenate([chroma[:, :1], chroma[:, 1:-1:2]], axis=1)
    chroma = 128 + 224 * (left + 2 * chroma[:, 0::2] + chroma[:, 1::2]) / 4
    planes = [luma.ravel(), chroma[..., 0].ravel(), chroma[..., 1].ravel()]
    return np.clip(np.rint(np.concatenate(planes)), 0, 255).astype(np.uint8).reshape(-1, picture.shape[1])


def _to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """Upright uint8 (H, W, 3) of a decoded frame, by its colour tags or, untagged, by what its size suggests."""
    large = frame.height >= 720
    guessed_709 = frame.colorspace == _BT709_TAG or (frame.colorspace not in (5, _MATRIX_TAG) and large)
    space = Colorspace.ITU709 if guessed_709 else Colorspace.ITU601
    rgb = frame.to_ndarray(format="rgb24", src_colorspace=space, dst_colorspace=space)
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def _tag(target: Any) -> None:
    """Say how the colours are coded."""
    target.color_range, target.colorspace = _LIMITED_TAG, _MATRIX_TAG
    target.color_primaries = target.color_trc = _BT709_TAG


def _open(path: Path) -> "av.container.InputContainer":
    """Open a clip with the demuxer that its first bytes call for, and nothing but this file."""
    head = _head(path)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        kind = "mov"
    elif head.startswith(b"\x1a\x45\xdf\xa3"):
        kind = "matroska"
    elif head.startswith((b"GIF87a", b"GIF89a")):
        kind = "gif"
    else:
        raise ValueError(f"{path.name} is no clip that can be read; use an MP4, MOV, WebM, MKV or GIF file.")
    try:
        return av.open(str(path.absolute()), format=kind, options={"protocol_whitelist": "file", "enable_drefs": "0"})
    except av.error.FFmpegError as error:
        raise ValueError(f"{path.name} is damaged and cannot be read; save it again as MP4.") from error


def _head(path: Path) -> bytes:
    try:
        here = path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        here = False
    if not here:
        raise ValueError(f"There is no file {path.name[:60]!r}; check the name.")
    with path.open("rb") as file:
        return file.read(16)


def _to_json(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, ensure_ascii=True, sort_keys=True)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place when the block ends well, and vanishes otherwise."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
