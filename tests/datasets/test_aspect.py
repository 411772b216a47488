"""Frame sizes and frame counts."""

import itertools
import math
import re
from fractions import Fraction
from typing import Any

import pytest

from opensora.datasets import aspect
from tests.golden_io import load_json

V13: dict[str, Any] = load_json("utils_aspect_v13")
V12: dict[str, Any] = load_json("utils_aspect_v12")


def numbered(table: dict[str, Any]) -> dict[float, tuple[int, ...]]:
    return {float(key): tuple(size) for key, size in table.items()}


def test_tables_are_the_published_ones() -> None:
    assert aspect.ASPECT_RATIO_MAP == V13["ASPECT_RATIO_MAP"] == V12["ASPECT_RATIO_MAP"]
    assert aspect.AR == V13["AR"] == V12["AR"]
    published = {
        name: (entry["pixels"], {key: tuple(size) for key, size in entry["table"].items()})
        for name, entry in V13["ASPECT_RATIOS"].items()
    }
    assert published == aspect.ASPECT_RATIOS
    for name, entry in V12["ASPECT_RATIOS"].items():  # its keys are written with fewer decimals
        assert numbered(entry["table"]) == numbered(dict(aspect.ASPECT_RATIOS[name][1])), name
    for name, area in (V13["get_num_pixels"] | V12["get_num_pixels"]).items():
        assert aspect.get_num_pixels(name) == area


def test_image_sizes() -> None:
    for resolution, ratio, expected in V13["get_image_size"]:
        if isinstance(expected, list):
            assert aspect.get_image_size(resolution, ratio) == tuple(expected), (resolution, ratio)
        else:
            with pytest.raises(ValueError, match=re.escape(f"{resolution} has no height:width ratio '{ratio}'")):
                aspect.get_image_size(resolution, ratio)
    known = {(row[0], row[1]): row[2] for row in V13["get_image_size"]}
    for resolution, ratio, expected in V12["get_image_size"]:  # 1.2 lacks some ratios, else has the same sizes
        assert isinstance(expected, dict) or known[resolution, ratio] == expected
    with pytest.raises(ValueError, match="144p, 240p"):
        aspect.get_image_size("145p", "1:1")


def test_closest_ratio() -> None:
    for height, width, resolution, expected in V13["get_closest_ratio"]:
        assert aspect.get_closest_ratio(height, width, aspect.ASPECT_RATIOS[resolution][1]) == expected
    for height, width, resolution, expected in V12["get_closest_ratio"]:
        table = V12["ASPECT_RATIOS"][resolution]["table"]
        assert aspect.get_closest_ratio(height, width, table) == expected
    for height, width, table in ((0, 1, {"1.0": 0}), (1, math.nan, {"1.0": 0}), (1, 1, {})):
        with pytest.raises(ValueError):
            aspect.get_closest_ratio(height, width, table)


def test_computed_sizes() -> None:
    for ratio, pixels, expected in V13["get_h_w"]:
        assert aspect.get_h_w(ratio, pixels) == tuple(expected)
    for pixels, expected in V13["get_aspect_ratios_dict"].items():
        assert aspect.get_aspect_ratios_dict(int(pixels)) == {key: tuple(size) for key, size in expected.items()}
    assert V12["get_h_w"] == V13["get_h_w"] and V12["get_aspect_ratios_dict"] == V13["get_aspect_ratios_dict"]


def test_published_frame_counts() -> None:
    assert V12["get_num_frames"] == V13["get_num_frames"]
    for value, expected in V13["get_num_frames"]:
        if isinstance(expected, int):
            assert aspect.get_num_frames(value) == expected
        else:
            with pytest.raises(ValueError, match="no number of frames"):
                aspect.get_num_frames(value)
    with pytest.raises(ValueError, match="no number of frames"):
        aspect.get_num_frames(math.inf)


def test_frames_of_latent_frames() -> None:
    rows = load_json("utils_prompts_v13")["dframe_to_frame"]
    assert load_json("utils_prompts_v12")["dframe_to_frame"] == rows
    for latent, expected in rows:
        if isinstance(expected, int):
            assert aspect.dframe_to_frame(latent) == expected
        else:
            with pytest.raises(ValueError, match=f"{latent} latent frames are not a multiple of 5"):
                aspect.dframe_to_frame(latent)


def test_sizes_people_choose() -> None:
    assert aspect.pixel_size("144p", "16:9") == (144, 256)
    assert aspect.pixel_size("144p", "9:16") == (256, 144)
    assert aspect.pixel_size("720p", "16:9") == (720, 1280)
    assert aspect.aspect_ratios("144p")[:9] == ["16:9", "9:16", "1:1", "4:3", "3:4", "3:2", "2:3", "2:1", "1:2"]
    assert aspect.pixel_size("256px", "16:9") == (192, 336)
    for resolution in aspect.RESOLUTIONS:
        ratios = aspect.aspect_ratios(resolution)
        sizes = {aspect.pixel_size(resolution, ratio) for ratio in ratios}
        if resolution not in aspect.RESOLUTIONS_V2:
            assert sizes == set(aspect.ASPECT_RATIOS[f"{resolution}_16d"][1].values())
        for ratio in ratios:
            height, width = aspect.pixel_size(resolution, ratio)
            assert height % 16 == width % 16 == 0
            assert width / height == pytest.approx(_number(ratio), rel=0.12)


def _number(ratio: str) -> float:
    width, height = (Fraction(side) for side in ratio.split(":"))
    return float(width / height)


def test_wrong_names_are_answered_with_the_right_ones() -> None:
    with pytest.raises(ValueError, match="no resolution '256p'; choose one of 144p, 240p, 360p, 480p, 720p"):
        aspect.pixel_size("256p", "16:9")
    with pytest.raises(ValueError, match=r"no aspect ratio '16x9'.* choose one of 16:9, 9:16, 1:1"):
        aspect.pixel_size("144p", "16x9")
    with pytest.raises(ValueError, match="choose one of"):
        aspect.closest_aspect_ratio(16, 9, "")


def test_the_closest_ratio_is_that_of_the_frames_which_the_network_makes() -> None:
    """768px in multiples of 32 has 1024 x 576 for 5:8; the 928 x 608 of 2:3 are closer to a picture of 5:8."""
    assert [aspect.closest_aspect_ratio(5, 8, "768px", multiple) for multiple in (16, 32)] == ["5:8", "2:3"]
    for resolution in aspect.RESOLUTIONS:
        multiples = (16, 32) if resolution in aspect.RESOLUTIONS_V2 else (16,)
        for multiple, percent in itertools.product(multiples, range(35, 290, 5)):
            sizes = {r: aspect.pixel_size(resolution, r, multiple) for r in aspect.aspect_ratios(resolution)}
            off = {ratio: abs(math.log(width / height * 100 / percent)) for ratio, (height, width) in sizes.items()}
            assert off[aspect.closest_aspect_ratio(percent, 100, resolution, multiple)] <= min(off.values()) + 1e-9


def test_closest_ratio_people_choose() -> None:
    assert aspect.closest_aspect_ratio(1920, 1080, "144p") == "16:9"
    assert aspect.closest_aspect_ratio(1080, 1920, "720p") == "9:16"
    assert aspect.closest_aspect_ratio(500, 501, "240p") == "1:1"
    assert aspect.closest_aspect_ratio(10**6, 1, "360p") == "8:3"
    assert aspect.closest_aspect_ratio(1, 10**6, "360p") == "12:25"
    assert aspect.closest_aspect_ratio(2, 1, "144p") == "2:1"
    for resolution in aspect.RESOLUTIONS:  # a finished frame goes back into its own size
        for ratio in aspect.aspect_ratios(resolution):
            size = aspect.pixel_size(resolution, ratio)
            assert aspect.pixel_size(resolution, aspect.closest_aspect_ratio(size[1], size[0], resolution)) == size
    for resolution in aspect.RESOLUTIONS_V2:  # and of networks whose sides are multiples of 32
        for ratio in aspect.aspect_ratios(resolution):
            size = aspect.pixel_size(resolution, ratio, 32)
            closest = aspect.closest_aspect_ratio(size[1], size[0], resolution, 32)
            assert aspect.pixel_size(resolution, closest, 32) == size
    for width, height in ((0, 1), (1, -1), (math.nan, 1), (1, math.inf)):
        with pytest.raises(ValueError, match="above zero"):
            aspect.closest_aspect_ratio(width, height, "144p")
