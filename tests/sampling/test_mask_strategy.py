"""Mask strategies against the published tables."""

from typing import Any

import golden_io
import pytest
import torch
from torch import Tensor

from opensora.sampling.mask_strategy import (
    Entry,
    append_generated,
    apply_mask_strategy,
    find_nearest_point,
    parse_mask_strategy,
)

TABLES: dict[str, Any] = golden_io.load_json("utils_mask_v13")
FIXTURES = {version: golden_io.load(f"utils_apply_mask_{version}") for version in ("v12", "v13")}
CASES: dict[str, dict[str, Any]] = FIXTURES["v13"].meta["cases"]


def test_versions_have_one_language() -> None:
    v12 = golden_io.load_json("utils_mask_v12")
    assert {key for key in TABLES if TABLES[key] != v12[key]} == {"upstream"}
    assert FIXTURES["v12"].meta["cases"] == CASES


def test_strategies_are_read_as_published() -> None:
    for text, expected in TABLES["parse_mask_strategy"]:
        if isinstance(expected, list):
            assert [list(entry) for entry in parse_mask_strategy(text)] == expected
        else:
            with pytest.raises(ValueError, match="write one to six numbers"):
                parse_mask_strategy(text)
    assert list(Entry()) == [float(value) for value in TABLES["MASK_DEFAULT"]]


def test_nearest_points_are_the_published_ones() -> None:
    for value, point, max_value, expected in TABLES["find_nearest_point"]["table"]:
        assert find_nearest_point(value, point, max_value) == expected, (value, point, max_value)


@pytest.mark.parametrize("version", FIXTURES)
@pytest.mark.parametrize("case", [case for case in CASES if CASES[case]["masks"] is not None])
def test_references_are_placed_as_published(case: str, version: str) -> None:
    about, t = CASES[case], FIXTURES[version].tensors
    refs = [[t[f"{case}/in.ref{i}_{j}"] for j in range(len(row))] for i, row in enumerate(about["refs"])]
    z = t[f"{case}/in.z"].clone()
    placed, mask = apply_mask_strategy(z, refs, about["mask_strategys"], about["loop_i"], about["align"])
    assert torch.equal(z, t[f"{case}/in.z"]), "the public code writes into its input; ours must not"
    assert mask is not None
    golden_io.assert_close(placed, t[f"{case}/out.z"], f"utils_apply_mask_{version} z")
    golden_io.assert_close(mask, t[f"{case}/out.mask"], f"utils_apply_mask_{version} mask")


def test_nothing_given_is_no_mask() -> None:
    z = torch.zeros(1, 3, 5, 2, 2)
    assert CASES["none"]["masks"] is None
    assert apply_mask_strategy(z, [], [], 0)[1] is None
    with pytest.raises(ValueError, match="names reference 1, but there are 0"):
        apply_mask_strategy(z, [[]], ["0,1"], 0)


def test_a_generated_clip_becomes_the_condition_of_the_next() -> None:
    for row in TABLES["append_generated"]:
        clip = torch.zeros(len(row["refs"]), 3, 5, 2, 2)
        refs: list[list[Tensor] | None] = [given and [clip[0]] * len(given) for given in row["refs"]]
        options = (row["loop_i"], row["condition_frame_length"], row["condition_frame_edit"])
        longer, strategies = append_generated(clip, refs, row["mask_strategy"], *options)
        if "out" in row:  # the public code breaks off without references
            assert row["refs"] == [None] and len(longer[0]) == 1
            continue
        assert [len(given) for given in longer] == row["out_n_refs"]
        assert strategies == row["out_mask_strategy"]


def test_a_clip_goes_on_from_the_one_before() -> None:
    before = torch.arange(5.0)[None, None, :, None, None]
    refs, strategies = append_generated(before, [[]], [None], 1, 2, 0.0)
    z, mask = apply_mask_strategy(torch.full_like(before, 9.0), refs, strategies, 1)
    assert z.flatten().tolist() == [3, 4, 9, 9, 9]
    assert mask is not None and mask.tolist() == [[0, 0, 1, 1, 1]]
