"""Reading pictures that people bring: any common format, upright, without transparency, as 8-bit RGB."""

import io
import os
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from opensora.datasets.sniff import HEAD, declared_size, picture_kind, shown_name
from opensora.sentences import say

MAX_BYTES = 64 * 2**20
"""Largest file."""
MAX_PIXELS = 64_000_000
"""Largest picture."""
_ORIENTATION = 0x0112
"""EXIF's number of the entry that says how the picture is to be turned."""


def load_image(source: str | os.PathLike[str] | bytes | Image.Image | np.ndarray) -> Image.Image:
    """A picture as 8-bit RGB.

    It is turned upright by its EXIF entry, converted to sRGB by its colour profile, put on white where it is
    transparent, and cut to its first frame where it moves. PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF are told by
    content; an address on the net is no file. Of strangers' files :func:`opensora.datasets.confined.read_image` is for.

    Args:
        source: a file, its bytes, a picture, or a uint8 array (H, W), (H, W, 3) or (H, W, 4).

    Raises:
        ValueError: it is no picture, damaged or too large; a sentence for people.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _decoded(source, say("the.image"))
    if isinstance(source, bytes):
        return _read(source, say("the.image"))
    if not isinstance(source, str | os.PathLike):
        raise ValueError(say("image.kind", got=type(source).__name__))
    path = Path(source)
    name = shown_name(path)
    try:
        if not path.is_file():
            raise ValueError(say("image.none", file=repr(name)))
        if path.stat().st_size > MAX_BYTES:
            raise _too_large(name)
        return _read(path.read_bytes(), name)
    except OSError as error:
        raise ValueError(say("file.unreadable", file=name, reason=f"{error.strerror}")) from error


def cover(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale a picture until it covers ``width`` x ``height`` pixels and cut off evenly what juts out."""
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def _read(data: bytes, name: str) -> Image.Image:
    if len(data) > MAX_BYTES:
        raise _too_large(name)
    kind, size = picture_kind(data[:HEAD]), declared_size(data[:HEAD])
    Image.init()
    if kind is None or kind not in Image.OPEN:
        raise ValueError(say("image.not", file=name))
    if size is not None:
        _check_size(size, name)
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG", "MPO"] if kind == "JPEG" else [kind])
    except Image.DecompressionBombError:
        raise _too_many_pixels(name) from None
    except MemoryError:
        raise _no_memory(name) from None
    except Exception as error:  # decoders raise all kinds on damaged files
        raise _damaged(name) from error
    return _decoded(image, name)


def _decoded(image: Image.Image, name: str) -> Image.Image:
    _check_size(image.size, name)
    try:
        image.load()
        return _to_rgb(_upright(image))
    except MemoryError:
        raise _no_memory(name) from None
    except Exception as error:  # decoders raise all kinds on damaged files
        raise _damaged(name) from error


def _check_size(size: tuple[int, int], name: str) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise _too_many_pixels(name)
    if min(size) < 1:
        raise ValueError(say("image.empty", file=name))


def _upright(image: Image.Image) -> Image.Image:
    """Turned by the EXIF entry; as it is where there is none, or where only the entries are damaged."""
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except (ValueError, TypeError, SyntaxError, KeyError, struct.error, OSError):
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data and "icc_profile" not in image.info:
        return image.copy()
    if image.mode.startswith(("I", "F")):
        return _from_deep(image)
    if not image.has_transparency_data:
        return _to_srgb(image)
    alpha = (image if image.mode in ("RGBA", "LA", "PA") else image.convert("RGBA")).getchannel("A")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(_to_srgb(image), mask=alpha)
    return white


def _to_srgb(image: Image.Image) -> Image.Image:
    """Colours of a picture by its embedded profile, or as they are where it has none that fits."""
    profile = image.info.get("icc_profile")
    solid = image if image.mode in ("RGB", "RGBA", "CMYK", "L") else image.convert("RGBA")
    solid = solid.convert("RGB") if solid.mode == "RGBA" else solid
    if profile and image.mode in ("RGB", "RGBA", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(solid, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError):
            converted = None
        if converted is not None:
            return converted
    return solid.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """Grey of 16 bits or more, or of floating point from 0 to 1, as 8-bit RGB."""
    values = np.array(image, dtype=np.float32)
    values[np.isnan(values)] = 0
    top = 65535.0 if image.mode.startswith("I") else 1.0
    if image.mode == "F" and values.max(initial=0.0) > 1.0:
        top = 255.0
    np.clip(values, 0, top, out=values)  # in place: a large picture is hundreds of megabytes
    values *= 255.0 / top
    return Image.fromarray(np.rint(values, out=values).astype(np.uint8)).convert("RGB")


def _from_array(array: np.ndarray) -> Image.Image:
    kinds = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not kinds or 0 in array.shape:
        raise ValueError(say("image.array", shape=f"{array.shape}", dtype=f"{array.dtype}"))
    return _decoded(Image.fromarray(np.ascontiguousarray(array)), say("the.image"))


def _damaged(name: str) -> ValueError:
    return ValueError(say("image.damaged", file=name))


def _no_memory(name: str) -> ValueError:
    return ValueError(say("image.memory", file=name))


def _too_large(name: str) -> ValueError:
    return ValueError(say("image.bytes", file=name, most=MAX_BYTES // 2**20))


def _too_many_pixels(name: str) -> ValueError:
    return ValueError(say("image.pixels", file=name, most=MAX_PIXELS // 10**6))
