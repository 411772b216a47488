"""Writing clips that browsers play as they were generated, and reading clips that people bring.

Legend: T frames, H, W rows and columns; frames are uint8 (T, H, W, 3), sRGB.
"""

import io
import itertools
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

from opensora.datasets.clip_limits import (
    CLIP_LIMITS,
    ClipLimits,
    check_file,
    check_frame_size,
    check_stream,
    too_many_frames,
    too_many_pixels,
)
from opensora.datasets.sniff import HEAD, clip_kind, declared_size, shown_name
from opensora.sentences import say

CRF = 14
"""Quality of the encoder: 0 is lossless, 18 looks the same."""
MAX_READ_PIXELS = 2**31
"""Pixels that are decoded of one clip at most, all frames together."""
MAX_METADATA = 2**24
"""Characters of metadata that are read."""

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
        replacing(Path(path)) as partial,
        av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as out,
    ):
        out.metadata["comment"] = _to_json(metadata)
        options = {"crf": str(CRF), "preset": "medium", "threads": "4", "g": str(max(1, round(fps)))}
        stream = out.add_stream("libx264", rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = 1 / rate
        tag(stream.codec_context)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(to_yuv420(picture), format="yuv420p")
            tag(frame)
            frame.pts, frame.time_base, frame.duration = index, 1 / rate, 1
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def write_png(path: str | os.PathLike[str], picture: np.ndarray, metadata: Mapping[str, Any]) -> None:
    """Write uint8 (H, W, 3) as PNG with the metadata as JSON in the text chunk ``Comment``; atomic."""
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3, picture.shape
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", _to_json(metadata))
    with replacing(Path(path)) as partial:
        Image.fromarray(picture).save(partial, format="PNG", pnginfo=text)


def read_metadata(source: str | os.PathLike[str] | bytes) -> dict[str, Any]:
    """The metadata that a writer of this program put into an MP4, PNG or WebM file.

    Reads the file's head and its tags, decodes no picture, and opens nothing else.

    Args:
        source: a file, or its bytes.

    Raises:
        ValueError: the file is none of these, damaged, or holds no metadata; a sentence for people.
    """
    name = say("the.file") if isinstance(source, bytes) else Path(source).name
    comment = _png_comment(source, name) if _head(source).startswith(b"\x89PNG") else _clip_comment(source)
    try:
        metadata = json.loads(comment) if len(comment) <= MAX_METADATA else None
    except (ValueError, RecursionError):  # also of numbers with thousands of digits, and of brackets in brackets
        metadata = None
    if not isinstance(metadata, dict):
        raise ValueError(say("file.settings", file=name))
    return metadata


def _png_comment(source: str | os.PathLike[str] | bytes, name: str) -> str:
    """The text chunk that stands before the pixels."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=["PNG"]) as image:
            return str(image.info.get("Comment", ""))
    except Exception as error:  # decoders raise all kinds on damaged files
        raise ValueError(say("file.broken", file=name)) from error


def _clip_comment(source: str | os.PathLike[str] | bytes) -> str:
    with _open(source) as container:
        return str(container.metadata.get("comment") or container.metadata.get("COMMENT") or "")


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
    with reading(path, ClipLimits(pixels=max_pixels)) as (fps, frames):
        return Clip(np.stack(list(itertools.islice(frames, max_frames))), fps)


@contextmanager
def reading(
    path: str | os.PathLike[str], limits: ClipLimits = CLIP_LIMITS
) -> Iterator[tuple[float, Iterator[np.ndarray]]]:
    """Frames per second of a clip, and its frames uint8 (H, W, 3) one after the other, at least one.

    What its headers say is held against the limits before a frame is decoded; what is decoded is, too.

    Raises:
        ValueError: as of :func:`read_video`.
    """
    path = Path(path)
    name = shown_name(path)
    try:
        with _open(path, limits) as container:
            if not container.streams.video:
                raise ValueError(say("clip.empty", file=name))
            stream = container.streams.video[0]
            check_stream(path, stream, name, limits)
            yield float(stream.average_rate or stream.guessed_rate or 24), _decoded(container, stream, name, limits)
    except (av.error.FFmpegError, EOFError) as error:
        raise ValueError(say("clip.damaged", file=name)) from error


def _decoded(
    container: "av.container.InputContainer", stream: av.VideoStream, name: str, limits: ClipLimits
) -> Iterator[np.ndarray]:
    pixels, shape = 0, None
    for number, frame in enumerate(container.decode(stream), start=1):
        check_frame_size(frame.width, frame.height, name, limits)
        pixels += frame.width * frame.height
        if number > limits.frames:
            raise too_many_frames(name, limits)
        if pixels > limits.pixels:
            raise too_many_pixels(name)
        picture = _to_rgb(frame)
        shape = shape or picture.shape
        if picture.shape != shape:
            raise ValueError(say("clip.sizes", file=name))
        yield picture
    if not pixels:
        raise ValueError(say("clip.empty", file=name))


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


def tag(target: Any) -> None:
    """Say how the colours are coded."""
    target.color_range, target.colorspace = _LIMITED_TAG, _MATRIX_TAG
    target.color_primaries = target.color_trc = _BT709_TAG


def _open(source: str | os.PathLike[str] | bytes, limits: ClipLimits = CLIP_LIMITS) -> "av.container.InputContainer":
    """Open a clip with the demuxer that its first bytes call for, and nothing but this file."""
    name = say("the.file") if isinstance(source, bytes) else shown_name(Path(source))
    head = _head(source)
    kind, size = clip_kind(head), declared_size(head)
    if kind is None:
        raise ValueError(say("clip.unread", file=name))
    if size is not None:
        check_frame_size(*size, name, limits)
    if not isinstance(source, bytes):
        check_file(Path(source), name, limits)
    file = io.BytesIO(source) if isinstance(source, bytes) else str(Path(source).absolute())
    # a decoder that is asked for larger frames than these fails before it makes room for them
    options = {"protocol_whitelist": "file", "enable_drefs": "0", "max_pixels": str(limits.frame_pixels)}
    try:
        return av.open(file, "r", format=kind, options=options)
    except av.error.FFmpegError as error:
        raise ValueError(say("clip.damaged", file=name)) from error


def _head(source: str | os.PathLike[str] | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD]
    path = Path(source)
    try:
        here = path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        here = False
    if not here:
        raise ValueError(say("file.none", file=repr(shown_name(path))))
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError as error:
        raise ValueError(say("file.unreadable", file=shown_name(path), reason=f"{error.strerror}")) from error


def _to_json(metadata: Mapping[str, Any]) -> str:
    return json.dumps(metadata, ensure_ascii=True, sort_keys=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that takes its place when the block ends well, and vanishes otherwise."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
