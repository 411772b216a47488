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
