"""What a clip is given besides its text: a first and a last image, or a clip that it continues or leads to.

Legend: T frames, H, W pixels.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from opensora.datasets.clip_limits import ClipLimits
from opensora.datasets.confined import read_clip, read_image
from opensora.datasets.image_io import cover, load_image
from opensora.pipelines.errors import RequestError
from opensora.pipelines.parts import CONDITION_FRAMES
from opensora.sentences import say

CLIPS = ClipLimits(bytes=2**28, pixels=2**28, frames=600, seconds=600)
"""What a given clip may be. All its frames together take 800 MB of memory."""


@dataclass(frozen=True)
class References:
    """Given pictures as they were read, or cut to the clip's size; ``None`` for what is not given."""

    first: Image.Image | None = None
    """First image."""
    last: Image.Image | None = None
    """Last image."""
    video: np.ndarray | None = None
    """Clip, uint8 (T, H, W, 3)."""

    def __bool__(self) -> bool:
        return self.first is not None or self.last is not None or self.video is not None

    def shape(self) -> Image.Image | None:
        """The picture whose shape the clip takes where no aspect ratio is asked for."""
        if self.video is not None:
            return Image.fromarray(self.video[0])
        return self.first or self.last

    def fit(self, width: int, height: int) -> "References":
        """Everything cut to the middle and resized to the clip's size."""
        video = self.video
        if video is not None:
            video = np.stack([np.asarray(cover(Image.fromarray(frame), width, height)) for frame in video])
        first, last = (None if image is None else cover(image, width, height) for image in (self.first, self.last))
        return References(first, last, video)

    def cond_type(self, asked: str | None, offered: tuple[str, ...], name: str) -> str | None:
        """Where they go in the clip.

        Args:
            asked: what the request says.
            offered: what the weights were made for; images first.
            name: of the weights.

        Raises:
            RequestError: the weights take nothing of the kind, or what is asked for does not fit what is given.
        """
        if not self:
            return None
        if asked is not None and asked not in offered:
            raise RequestError("cond_type", say("kind.not", model=name, kind=asked, choices=", ".join(offered)))
        if self.video is not None:
            return _of_clip(asked, offered, name)
        kind = asked or ("i2v_loop" if self.first and self.last else "i2v_tail" if self.last else offered[0])
        if kind not in offered:
            raise RequestError("last_image", say("last.not", model=name))
        if kind.startswith("v2v"):
            raise RequestError("cond_type", say("kind.images", kind=kind))
        return kind

    def needed(self, cond_type: str | None, continues: bool) -> "References":
        """The clip cut to the frames that ``cond_type`` takes of it.

        Args:
            cond_type: where it goes.
            continues: whether the networks go on from a clip as they do from a part of their own.

        Raises:
            RequestError: it has fewer.
        """
        if self.video is None or cond_type is None:
            return self
        count = frames_of_clip(cond_type, continues)
        if len(self.video) < count:
            short = say("clip.short", kind=cond_type, count=count, got=len(self.video))
            raise RequestError("reference_video", short)
        # a clip is continued from its end, and led to up to its beginning
        return replace(self, video=self.video[-count:] if "head" in cond_type else self.video[:count])

    def in_order(self) -> list[np.ndarray]:
        """Every one as a clip uint8 (T, H, W, 3), the beginning first."""
        if self.video is not None:
            return [self.video]
        return [np.asarray(image)[None] for image in (self.first, self.last) if image is not None]


def frames_of_clip(cond_type: str, continues: bool) -> int:
    """Frames that a clip needs to be given as ``cond_type``.

    Args:
        continues: whether the networks go on from a clip as they do from a part of their own.
    """
    from opensora.sampling.given_frames import reference_frames  # with torch behind it

    return CONDITION_FRAMES if continues else reference_frames(cond_type)


def _of_clip(asked: str | None, offered: tuple[str, ...], name: str) -> str:
    kinds = [kind for kind in offered if kind.startswith("v2v")]
    if not kinds:
        raise RequestError("reference_video", say("clip.not", model=name))
    if asked is not None and asked not in kinds:
        raise RequestError("cond_type", say("kind.clip", kind=asked, choices=", ".join(kinds)))
    return asked or kinds[0]


def read(first: Any, last: Any, video: Any) -> References:
    """What is given, read from files where it is named by a file.

    Raises:
        RequestError: a picture or a clip that cannot be read, or a clip beside images.
    """
    if video is not None and (first is not None or last is not None):
        raise RequestError("reference_video", say("clip.and.image"))
    return References(
        None if first is None else _image("reference_image", first),
        None if last is None else _image("last_image", last),
        None if video is None else _video(video),
    )


def _image(field: str, source: Any) -> Image.Image:
    try:
        return read_image(source) if isinstance(source, str | Path | bytes) else load_image(source)
    except ValueError as error:
        raise RequestError(field, str(error)) from None


def _video(source: Any) -> np.ndarray:
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 4 or source.shape[3] != 3 or not source.size:
            got = say("clip.array", dtype=str(source.dtype), shape=str(source.shape))
            raise RequestError("reference_video", got)
        return source
    if not isinstance(source, str | Path):
        raise RequestError("reference_video", say("clip.kind", got=type(source).__name__))
    try:
        return read_clip(source, CLIPS).frames
    except ValueError as error:
        raise RequestError("reference_video", str(error)) from None
