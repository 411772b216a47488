"""Frame sizes of generation 2.0: an area and a ratio, cut to a multiple of what the autoencoder and the patch need.

Ratios are WIDTH:HEIGHT as people write them ("9:16" is upright), and so are the published names.
"""

import itertools
import math
from functools import lru_cache

RESOLUTIONS: dict[str, int] = {
    "144p": 144 * 256,
    "240p": 102400,
    "256px": 256**2,
    "360p": 230400,
    "480p": 409600,
    "512px": 512**2,
    "720p": 1280 * 720,
    "768px": 768**2,
    "1024px": 1024**2,
    "1080p": 1920 * 1080,
    "1080px": 1080**2,
    "128px": 128**2,
}
"""Area of each resolution, in pixels. All are published but :data:`SMALL`."""
SMALL = "128px"
"""The resolution of small networks of ours: so few pixels that cutting a size to a multiple would bend its shape."""

_RATIOS = ("2.39:1", "2:1", "16:9", "1.85:1", "9:16", "5:8", "3:2", "4:3", "1:1")
"""Published list; every ratio is also turned, which makes 16:9 and 9:16 twice: the turned one counts."""
_COMMON = ("16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "8:5", "5:8", "2:1", "1:2")


@lru_cache(maxsize=64)
def size_table(resolution: str, multiple: int = 16, closest: bool = False) -> dict[str, tuple[int, int]]:
    """(height, width) of every ratio of a resolution.

    Args:
        resolution: one of :data:`RESOLUTIONS`.
        multiple: both sides are multiples of it: 16 for the Hunyuan autoencoder with patches of 2, 32 for the one of
            high compression.
        closest: as pictures for image-then-video and training clips are sized: a side may grow by one multiple where
            that comes closer to the area, and a ratio whose size an earlier one has already is left out.

    Raises:
        ValueError: there is no such resolution.
    """
    if resolution not in RESOLUTIONS:
        raise ValueError(f"There is no resolution {resolution!r}; choose one of {', '.join(RESOLUTIONS)}.")
    made: dict[str, tuple[int, int]] = {}
    for name in _RATIOS:
        across, down = (float(side) for side in name.split(":"))
        area, ratio = RESOLUTIONS[resolution], across / down
        size = _nearest(area, ratio, multiple) if resolution == SMALL else _size(area, ratio, multiple, closest)
        if not closest or size not in made.values():
            made[name] = size
    turned = {":".join(reversed(name.split(":"))): (width, height) for name, (height, width) in made.items()}
    return made | turned


def image_size(resolution: str, ratio: str, multiple: int = 16, closest: bool = False) -> tuple[int, int]:
    """(height, width) in pixels of a WIDTH:HEIGHT ratio.

    Raises:
        ValueError: there is no such resolution or ratio.
    """
    table = size_table(resolution, multiple, closest)
    if ratio not in table:
        raise ValueError(
            f"{resolution} has no aspect ratio {ratio!r} (width:height); choose one of {', '.join(ratios(resolution))}."
        )
    return table[ratio]


def ratios(resolution: str) -> list[str]:
    """The WIDTH:HEIGHT ratios of a resolution, common ones first."""
    table = size_table(resolution)
    return [*_COMMON, *(name for name in table if name not in _COMMON)]


def _size(area: int, ratio: float, multiple: int, closest: bool) -> tuple[int, int]:
    width = int(math.sqrt(area * ratio) // multiple * multiple)
    height = int(area / width // multiple * multiple)
    if not closest:
        return height, width
    near = ((height, width), (height + multiple, width), (height, width + multiple))
    return min(near, key=lambda size: abs(size[0] * size[1] - area))


def _nearest(area: int, ratio: float, multiple: int) -> tuple[int, int]:
    """(height, width) that comes closest to an area and, twice as important, to a ratio."""

    def away(size: tuple[int, int]) -> float:
        height, width = size
        return abs(math.log(height * width / area)) + 2 * abs(math.log(width / height / ratio))

    sides = range(multiple, 2 * math.isqrt(area) + 1, multiple)
    return min(itertools.product(sides, sides), key=away)
