"""Frame sizes and frame counts.

The published tables are keyed by HEIGHT:WIDTH ("9:16" is a lying picture there): ``get_image_size`` and its neighbours
keep that. What people type and read is WIDTH:HEIGHT ("9:16" is upright): ``pixel_size``, ``aspect_ratios`` and
``closest_aspect_ratio``.
"""

import math
from collections.abc import Mapping

from opensora.datasets import aspect_v2
from opensora.datasets.aspect_tables import ASPECT_RATIO_MAP, Table, tables

ASPECT_RATIOS: dict[str, tuple[int, Table]] = tables()
"""Published area and sizes by resolution."""

AR: list[float] = [int(h) / int(w) for h, w in (name.split(":") for name in ASPECT_RATIO_MAP)]
"""The published names as numbers."""

RESOLUTIONS_V2: tuple[str, ...] = ("256px", "768px", aspect_v2.SMALL)
"""Resolutions in which networks of 2.0 make videos; their sizes are in :mod:`opensora.datasets.aspect_v2`."""
RESOLUTIONS: tuple[str, ...] = ("144p", "240p", "360p", "480p", "720p", *RESOLUTIONS_V2)
"""Resolutions in which videos are made."""

_PERSON_RATIOS: dict[str, str] = {
    "16:9": "0.56",
    "9:16": "1.78",
    "1:1": "1.00",
    "4:3": "0.75",
    "3:4": "1.33",
    "3:2": "0.67",
    "2:3": "1.50",
    "2:1": "0.50",
    "1:2": "2.00",
    "21:9": "0.43",
    "8:5": "0.62",
    "8:3": "0.38",
    "17:9": "0.53",
    "9:17": "1.89",
    "50:27": "0.54",
    "25:12": "0.48",
    "12:25": "2.08",
}
"""Table key by WIDTH:HEIGHT, common ones first."""

_PUBLISHED_FRAMES: dict[str, int] = {f"{n}x": 51 * n for n in (1, 2, 4, 8, 16)} | {
    f"{2 * n}s": 51 * n for n in (1, 2, 4, 8, 16)
}


def _table(resolution: str) -> Table:
    if resolution not in ASPECT_RATIOS:
        raise ValueError(f"There is no resolution {resolution!r}; choose one of {', '.join(ASPECT_RATIOS)}.")
    return ASPECT_RATIOS[resolution][1]


def get_num_pixels(resolution: str) -> int:
    """Area of a published resolution, in pixels."""
    _table(resolution)
    return ASPECT_RATIOS[resolution][0]


def get_image_size(resolution: str, ar: str) -> tuple[int, int]:
    """Published (height, width) for a HEIGHT:WIDTH name ("9:16") or a table key ("0.56")."""
    table = _table(resolution)
    key = ASPECT_RATIO_MAP.get(ar, ar)
    if key not in table:
        names = [name for name, k in ASPECT_RATIO_MAP.items() if k in table]
        raise ValueError(
            f"Resolution {resolution} has no height:width ratio {ar!r}; choose one of {', '.join(names)}, "
            f"or a number of its table: {', '.join(table)}."
        )
    return table[key]


def get_closest_ratio(height: float, width: float, ratios: Mapping[str, object]) -> str:
    """The key of ``ratios`` (height to width) that is closest to ``height / width``."""
    if not ratios:
        raise ValueError("There are no ratios to choose from.")
    ratio = _positive(height, "height") / _positive(width, "width")
    return min(ratios, key=lambda key: abs(float(key) - ratio))


def get_h_w(ratio: float, pixels: float, eps: float = 1e-4) -> tuple[int, int]:
    """Even (height, width) of about ``pixels`` pixels whose height-to-width ratio is about ``ratio``."""
    height = _even(math.sqrt(pixels * ratio) + eps)
    return height, _even(height / ratio + eps)


def get_aspect_ratios_dict(pixels: float) -> Table:
    """Sizes of about ``pixels`` pixels in every published ratio, by the ratio with two decimals."""
    return {f"{ratio:.2f}": get_h_w(ratio, pixels) for ratio in AR}


def get_num_frames(num_frames: str | float) -> int:
    """Published frame count of "1x"..."16x" and "2s"..."32s" (25.5 frames a second), or the number itself."""
    if isinstance(num_frames, str) and num_frames in _PUBLISHED_FRAMES:
        return _PUBLISHED_FRAMES[num_frames]
    try:
        return int(num_frames)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{num_frames!r} is no number of frames; give a whole number or one of {', '.join(_PUBLISHED_FRAMES)}."
        ) from None


def dframe_to_frame(latent_frames: int) -> int:
    """Video frames of so many latent frames of the autoencoder of version 1.2, which makes 5 of 17."""
    if latent_frames < 0 or latent_frames % 5:
        raise ValueError(f"{latent_frames} latent frames are not a multiple of 5.")
    return latent_frames // 5 * 17


def pixel_size(resolution: str, ratio: str, multiple: int = 16) -> tuple[int, int]:
    """(height, width) of a video, both multiples of 16, or of 32 for resolutions of 2.0 with high compression.

    ``ratio`` is WIDTH:HEIGHT, "9:16" is upright.
    """
    if ratio not in (ratios := aspect_ratios(resolution)):
        raise ValueError(f"There is no aspect ratio {ratio!r} (width:height); choose one of {', '.join(ratios)}.")
    if resolution in RESOLUTIONS_V2:
        return aspect_v2.image_size(resolution, ratio, multiple)
    assert multiple == 16, f"{resolution} has sizes in multiples of 16, not of {multiple}"
    return _table(f"{resolution}_16d")[_PERSON_RATIOS[ratio]]


def aspect_ratios(resolution: str) -> list[str]:
    """The WIDTH:HEIGHT ratios of a resolution, common ones first."""
    if resolution not in RESOLUTIONS:
        raise ValueError(f"There is no resolution {resolution!r}; choose one of {', '.join(RESOLUTIONS)}.")
    return aspect_v2.ratios(resolution) if resolution in RESOLUTIONS_V2 else list(_PERSON_RATIOS)


def closest_aspect_ratio(width: float, height: float, resolution: str, multiple: int = 16) -> str:
    """The WIDTH:HEIGHT ratio whose frame, of :func:`pixel_size`, comes closest to the shape ``width`` x ``height``.

    Of ratios with equally close frames, the one whose name is closest, then the more common one.
    """
    shape = math.log(_positive(width, "width")) - math.log(_positive(height, "height"))

    def distance(ratio: str) -> tuple[float, float]:
        h, w = pixel_size(resolution, ratio, multiple)
        name_w, name_h = ratio.split(":")
        return round(abs(math.log(w / h) - shape), 9), round(abs(math.log(float(name_w) / float(name_h)) - shape), 9)

    return min(aspect_ratios(resolution), key=distance)


def _positive(number: float, what: str) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
        raise ValueError(f"The {what} has to be a number above zero, not {_short(number)}.")
    return number


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # integers of thousands of digits
        text = "given"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _even(number: float) -> int:
    up = math.ceil(number)
    return up if up % 2 == 0 else math.floor(number)
