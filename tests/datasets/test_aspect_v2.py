"""Sizes of generation 2.0 are the published ones."""

from typing import Any

import pytest

from opensora.datasets.aspect_v2 import RESOLUTIONS, image_size, ratios, size_table
from tests.golden_io import load_json

PUBLISHED: dict[str, Any] = load_json("v2/tables/aspect_ratios")


@pytest.mark.parametrize("case", PUBLISHED["get_image_size"])
def test_every_published_size(case: str) -> None:
    multiple, training, resolution = case.split("/")
    expected = PUBLISHED["get_image_size"][case]
    table = size_table(resolution, int(multiple[1:]), training == "training=True")
    assert RESOLUTIONS[resolution] == expected["num_pixels"]
    assert table == {name: tuple(size) for name, size in expected["hw"].items()}


def test_what_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="no resolution '256'; choose one of 144p"):
        image_size("256", "16:9")
    with pytest.raises(ValueError, match=r"256px has no aspect ratio '21:9'.*16:9, 9:16"):
        image_size("256px", "21:9")
    assert set(ratios("256px")) == set(size_table("256px"))
    assert image_size("256px", "16:9") == (192, 336)


def test_sizes_of_small_networks_come_close_to_their_area_and_shape() -> None:
    sizes = size_table("128px")
    assert (sizes["16:9"], sizes["9:16"], sizes["1:1"]) == ((96, 176), (176, 96), (128, 128))
    for name, (height, width) in sizes.items():
        across, down = map(float, name.split(":"))
        assert height % 16 == width % 16 == 0 and 0.84 < height * width / 128**2 < 1.13, name
        assert abs(width / height / (across / down) - 1) < 0.05, name
