"""A finished clip in other forms, on request: GIF, WebM, or its frames in a zip archive."""

import contextlib
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import av
import numpy as np
from av.filter import Graph
from PIL import Image

from opensora.datasets.video_io import read_metadata, reading, replacing, tag, to_yuv420

GIF_SIDE = 480
"""Longest side of a GIF in pixels; larger clips are made smaller."""
GIF_FPS = 12.5
"""Most frames per second of a GIF: of faster clips every second or third frame is taken."""
WEBM_CRF = 20
"""Quality of VP9, from 0 (lossless) to 63."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every file in an archive, so that the same clip gives the same archive."""


def export(source: str | Path, kind: str, destination: str | Path | None = None) -> Path:
    """Write a clip in another form; returns the file. The original stays as it is.

    Args:
        source: a clip that was made here: MP4, or WebM.
        kind: ``gif`` (at most 480 pixels and 12.5 frames per second, without settings inside), ``webm`` (VP9, with the
            settings inside) or ``zip`` (every frame as PNG without loss, and ``settings.json``).
        destination: the file; an existing one is replaced. ``None``: beside the clip, with the same name.

    Raises:
        ValueError: no such form, or no clip; a sentence for people.
        OSError: the file cannot be written.
    """
    if kind not in FORMS:
        raise ValueError(f"Got the format {kind[:40]!r}; choose one of {', '.join(FORMS)}.")
    path = Path(source)
    target = path.with_suffix(f".{kind}") if destination is None else Path(destination)
    if target.suffix.lower() != f".{kind}":
        raise ValueError(f"Got the name {target.name[:80]} for a {kind} file; end it in .{kind}.")
    if target.exists() and target.resolve() == path.resolve():
        raise ValueError(f"{path.name} cannot be written over itself; give another name.")
    if path.suffix.lower() == ".png":
        raise ValueError(f"{path.name} is a picture; there are no frames to export.")
    with reading(path) as (fps, frames), replacing(target) as partial:
        FORMS[kind](path, fps, frames, partial)
    return target


def beside(clip: Path, kind: str) -> Path:
    """A clip in another form, from the file beside it; whoever asks first has it written there.

    It goes where the clip goes: one that was deleted while this worked leaves nothing behind.

    Raises:
        ValueError: no such form, or no clip; a sentence for people.
        OSError: the file cannot be written.
    """
    target = clip.with_suffix(f".{kind}")
    if kind not in FORMS or not target.is_file():
        target = export(clip, kind, target)
    if not clip.exists():
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            clip.parent.rmdir()
        raise ValueError(f"{clip.name} was deleted while it was written in another form.")
    return target


def _gif(_: Path, fps: float, frames: Iterator[np.ndarray], target: Path) -> None:
    """One palette for all frames, made from what changes; still parts of a frame are not written again."""
    every = math.ceil(fps / GIF_FPS)
    rate = Fraction(fps).limit_denominator(1001)
    graph: Graph | None = None
    shape = (0, 0)
    for index, picture in enumerate(frames):
        if index % every:
            continue
        if graph is None:
            shape = _within(picture.shape[1], picture.shape[0], GIF_SIDE)
            graph = _palette_graph(picture.shape[1], picture.shape[0], shape, 1 / rate)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = index, 1 / rate
        graph.push(frame)
    assert graph is not None, "a clip has frames"
    graph.push(None)
    with av.open(str(target), "w", format="gif", options={"loop": "0"}) as out:
        stream = out.add_stream("gif", rate=rate / every)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *shape, "pal8"
        stream.codec_context.time_base = Fraction(1, 100)
        for number, frame in enumerate(_pulled(graph)):
            frame.pts, frame.time_base = round(100 * number * every / rate), Fraction(1, 100)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def _palette_graph(width: int, height: int, shape: tuple[int, int], time_base: Fraction) -> Graph:
    """Frames in, frames of 256 colours out once the last one is in."""
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=time_base)
    scale = graph.add("scale", f"{shape[0]}:{shape[1]}:flags=lanczos")
    split = graph.add("split")
    palette = graph.add("palettegen", "stats_mode=full")
    use = graph.add("paletteuse", "dither=bayer:bayer_scale=5:diff_mode=rectangle")
    sink = graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            return
        assert isinstance(frame, av.VideoFrame)
        yield frame


def _webm(path: Path, fps: float, frames: Iterator[np.ndarray], target: Path) -> None:
    """VP9 of constant quality, in the colours of the MP4."""
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(target), "w", format="webm") as out:
        out.metadata["comment"] = _settings(path)
        stream = out.add_stream(
            "libvpx-vp9", rate=rate, options={"crf": str(WEBM_CRF), "b": "0", "cpu-used": "4", "row-mt": "1"}
        )
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = 1 / rate
        tag(stream.codec_context)
        for index, picture in enumerate(frames):
            if not index:
                stream.height, stream.width = (side + side % 2 for side in picture.shape[:2])
            frame = av.VideoFrame.from_ndarray(to_yuv420(picture), format="yuv420p")
            tag(frame)
            frame.pts, frame.time_base, frame.duration = index, 1 / rate, 1
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def _zip(path: Path, fps: float, frames: Iterator[np.ndarray], target: Path) -> None:
    """``frame-0001.png`` and so on; they do not shrink any more, so they are stored."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for number, picture in enumerate(frames, start=1):
            data = io.BytesIO()
            Image.fromarray(picture).save(data, "PNG", compress_level=6)
            archive.writestr(zipfile.ZipInfo(f"frame-{number:04}.png", EPOCH), data.getvalue())
        told = {"fps": fps, **json.loads(_settings(path))}
        archive.writestr(zipfile.ZipInfo("settings.json", EPOCH), json.dumps(told, indent=1, ensure_ascii=False))


FORMS: Mapping[str, Callable[[Path, float, Iterator[np.ndarray], Path], None]] = MappingProxyType(
    {"gif": _gif, "webm": _webm, "zip": _zip}
)
"""Forms of a clip, and who writes them."""


def _settings(path: Path) -> str:
    """The metadata of a clip as JSON; empty for one that was not made here."""
    try:
        return json.dumps(read_metadata(path), ensure_ascii=True, sort_keys=True)
    except ValueError:
        return "{}"


def _within(width: int, height: int, side: int) -> tuple[int, int]:
    """The size with its longest side at most ``side``."""
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
