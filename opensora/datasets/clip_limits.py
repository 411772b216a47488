"""What a clip may be, looked at in its headers before a frame is decoded."""

from dataclasses import dataclass
from pathlib import Path

import av

from opensora.sentences import say


@dataclass(frozen=True)
class ClipLimits:
    """How large a clip may be that is read."""

    bytes: int = 2**30
    """Of the file."""
    frame_pixels: int = 2**25
    """Of one frame; 8K has 33.2 million."""
    pixels: int = 2**31
    """Of all frames together."""
    frames: int = 100_000
    """Frames."""
    seconds: float = 7200.0
    """Duration."""

    def __post_init__(self) -> None:
        for name in ("bytes", "frame_pixels", "pixels", "frames", "seconds"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"Got {value} for {name} of a clip; expected a number above 0.")


CLIP_LIMITS = ClipLimits()
"""What is read where nothing else is asked for."""


def check_file(path: Path, name: str, limits: ClipLimits) -> None:
    """Refuse a file that is too large.

    Raises:
        ValueError: a sentence for people.
    """
    if path.stat().st_size > limits.bytes:
        raise ValueError(say("clip.bytes", file=name, most=limits.bytes // 2**20))


def check_frame_size(width: int, height: int, name: str, limits: ClipLimits) -> None:
    """Refuse frames that are too large.

    Raises:
        ValueError: a sentence for people.
    """
    if width * height > limits.frame_pixels:
        most = f"{limits.frame_pixels / 1e6:.0f}"
        raise ValueError(say("clip.frame", file=name, width=width, height=height, most=most))


def check_stream(path: Path, stream: av.VideoStream, name: str, limits: ClipLimits) -> None:
    """Refuse a clip by what its headers say.

    Raises:
        ValueError: it is too large, too long, or its end is missing; a sentence for people.
    """
    width, height = stream.codec_context.width, stream.codec_context.height
    check_frame_size(width, height, name, limits)
    frames = stream.frames
    if frames > limits.frames:
        raise too_many_frames(name, limits)
    if frames * width * height > limits.pixels:
        raise too_many_pixels(name)
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
        if seconds > limits.seconds:
            raise ValueError(say("clip.seconds", file=name, most=f"{limits.seconds:g}"))
    if frames and _is_cut_short(path, stream):
        raise ValueError(say("clip.cut", file=name))


def too_many_frames(name: str, limits: ClipLimits) -> ValueError:
    """The refusal of a clip with too many frames."""
    return ValueError(say("clip.frames", file=name, most=limits.frames))


def too_many_pixels(name: str) -> ValueError:
    """The refusal of a clip whose frames are too much together."""
    return ValueError(say("clip.large", file=name))


def _is_cut_short(path: Path, stream: av.VideoStream) -> bool:
    """Whether an MP4's own list of frames goes beyond the end of the file."""
    entries = stream.index_entries
    count = len(entries)
    if count != stream.frames:  # a list that grows while the file is read
        return False
    end = max(entries[at].pos + entries[at].size for at in range(count))
    return end > path.stat().st_size
