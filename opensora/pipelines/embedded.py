"""Pictures inside the metadata of a file, so that a clip that began with one can be made again from its file alone.

Legend: T frames, H, W pixels.
"""

import base64
import binascii
import hashlib
import io
from typing import Any

import numpy as np
from PIL import Image

from opensora.pipelines.references import References
from opensora.sentences import say

MAX_BYTES = 4 * 2**20
"""Largest PNG that is kept inside a file; of larger pictures, and of clips, there is the hash alone."""


def pack(frames: np.ndarray) -> dict[str, Any]:
    """What a file's metadata say of frames that were given, uint8 (T, H, W, 3): a hash, and a single picture itself."""
    told: dict[str, Any] = {"sha256": sha256(frames), "frames": len(frames)}
    if len(frames) == 1:
        data = io.BytesIO()
        Image.fromarray(frames[0]).save(data, "PNG", optimize=True)
        if len(data.getvalue()) <= MAX_BYTES:
            told["png"] = base64.b64encode(data.getvalue()).decode("ascii")
    return told


def by_field(given: References) -> dict[str, np.ndarray]:
    """What a clip is given as frames uint8 (T, H, W, 3), by field of the request."""
    fields = {"reference_image": given.first, "last_image": given.last}
    names = ["reference_video"] if given.video is not None else [name for name, x in fields.items() if x is not None]
    return dict(zip(names, given.in_order(), strict=True))


def unpack(told: dict[str, Any], width: int, height: int) -> Image.Image | None:
    """The picture that :func:`pack` put into metadata; ``None`` where it put in the hash alone.

    Args:
        told: of a file that may come from anywhere.
        width: pixels that the picture must have.
        height: pixels that the picture must have.

    Raises:
        ValueError: it is no picture of this size, or not the one of the hash.
    """
    if "png" not in told:
        return None
    text = told["png"]
    try:
        if not isinstance(text, str) or len(text) > 4 * (MAX_BYTES // 3 + 2):
            raise ValueError("no text of the length that it can have")
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as image:
            if image.size != (width, height) or image.mode != "RGB":
                raise ValueError(f"{image.mode} of {image.width}×{image.height}, expected RGB of {width}×{height}")
            image.load()
            picture = image.copy()
    except (ValueError, binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(say("file.picture", reason=f"{error}")) from error
    if sha256(np.asarray(picture)[None]) != told.get("sha256"):
        raise ValueError(say("file.picture.other"))
    return picture


def sha256(frames: np.ndarray) -> str:
    """Hash of given frames, as a result's settings name it."""
    return hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()
