"""Given frames against the published tables and in closed form."""

from typing import Any

import golden_io
import pytest
import torch
from torch import Tensor

from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3, VAEv13Config
from opensora.sampling import conditions
from opensora.sampling.frame_rate import IMAGE_FPS

FIXTURE = golden_io.load("utils_prep_ref_v13")
CASES: dict[str, dict[str, Any]] = FIXTURE.meta["cases"]
KNOWN = [case for case, about in CASES.items() if "out" not in about]
REFUSED = [case for case, about in CASES.items() if "out" in about]
TABLES = golden_io.load_json("utils_refs_v13")


def references(case: str) -> list[list[Tensor]]:
    counts = [len(frames) for frames in CASES[case]["ref_frames"]]
    names = [[f"{case}/in.ref{i}_{j}" for j in range(count)] for i, count in enumerate(counts)]
    return [[FIXTURE.tensors.get(name, torch.zeros(3, 1, 2, 2)) for name in row] for row in names]


def run(case: str, compat: str) -> tuple[Tensor, list[int]]:
    about = CASES[case]
    end = (torch.device("cpu"), torch.float32)
    what = (about["cond_type"], about["condition_frame_length"])
    if about["fn"] == "prep_ref_and_mask":
        place = (about["target_shape"], about["loop"])
        return conditions.prep_ref_and_mask(*what, references(case), *place, *end, compat=compat)
    return conditions.prep_ref_and_update_mask_in_loop(
        *what,
        FIXTURE.tensors[f"{case}/in.samples"],
        references(case),
        about["target_shape"],
        about["is_last_loop"],
        *end,
        compat=compat,
    )


@pytest.mark.parametrize("case", KNOWN)
def test_given_frames_are_the_published_ones(case: str) -> None:
    ref, index = run(case, "published")
    assert index == CASES[case]["mask_index"]
    golden_io.assert_close(ref, FIXTURE.tensors[f"{case}/out.ref"], "utils_prep_ref_v13")


@pytest.mark.parametrize("case", KNOWN)
def test_the_default_differs_where_the_end_is_wrong_only(case: str) -> None:
    about = CASES[case]
    ref, index = run(case, "right")
    expected = FIXTURE.tensors[f"{case}/out.ref"].clone()
    later = about["fn"] != "prep_ref_and_mask"
    if later and about["cond_type"] == "i2v_loop" and not about["is_last_loop"]:
        assert index == about["mask_index"][:-1]  # the end belongs to the last loop
        expected[:, :, -1] = 0
    else:
        assert index == about["mask_index"]
    if later and about["cond_type"] == "i2v_tail" and about["is_last_loop"]:
        expected[:, :, -1] = torch.stack([given[0][:, -1] for given in references(case)])  # as with one loop
    if not later and about["cond_type"] == "i2v_loop" and about["loop"] == 1:
        ends = [given[1][:, 0] if len(given) > 1 else given[0][:, -1] for given in references(case)]
        expected[:, :, -1] = torch.stack(ends)  # of each sample, not as the first sample has it
    assert torch.equal(ref, expected)


@pytest.mark.parametrize("case", REFUSED)
def test_unknown_types_are_refused(case: str) -> None:
    with pytest.raises(ValueError, match="choose one of i2v_head, i2v_loop, i2v_tail, v2v_head"):
        run(case, "right")


@pytest.mark.parametrize(("cond_type", "index"), [("v2v_tail", [6, 7]), ("v2v_tail_easy", [4, 5, 6, 7])])
def test_the_end_of_a_clip_is_given(cond_type: str, index: list[int]) -> None:
    clip = torch.arange(6.0)[None, :, None, None]
    place = ((1, 1, 8, 1, 1), 1, "cpu", torch.float32)
    ref, given = conditions.prep_ref_and_mask(cond_type, 2, [[clip]], *place)
    assert given == index
    assert torch.equal(ref[0, :, index], clip[:, -len(index) :])
    assert not ref[:, :, : index[0]].any()
    before = torch.ones(1, 1, 8, 1, 1)
    for last, expected in ((False, [0, 1]), (True, [0, 1, *index])):
        _, given = conditions.prep_ref_and_update_mask_in_loop(
            cond_type, 2, before, [[clip]], place[0], last, "cpu", torch.float32
        )
        assert given == expected


def test_a_missing_reference_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"i2v_head needs a reference for each of 2 samples; got \[1, 0\]"):
        conditions.prep_ref_and_mask(
            "i2v_head", 1, [[torch.zeros(3, 1, 2, 2)], []], (2, 3, 5, 2, 2), 1, "cpu", torch.float32
        )


def test_training_conditions_are_the_published_ones() -> None:
    for cond_type, frames, expected in TABLES["get_mask_index"]:
        if isinstance(expected, list):
            assert conditions.get_mask_index(cond_type, frames) == sorted(set(expected))
        else:
            with pytest.raises(ValueError, match="choose one of none, i2v"):
                conditions.get_mask_index(cond_type, frames)


def small_vae(**options: Any) -> OpenSoraVAE_V1_3:
    config = VAEv13Config(ch=32, num_res_blocks=1, normalization=None, **options)
    with torch.device("meta"):
        return OpenSoraVAE_V1_3(config)


def test_reference_clips_keep_all_the_frames_that_fill_latents() -> None:
    options = [
        {"micro_frame_size": None, "temporal_overlap": False},
        {"micro_frame_size": 17, "temporal_overlap": False},
        {"micro_frame_size": 17, "temporal_overlap": True},
    ]
    vaes = [small_vae(**option) for option in options]
    for frames, *published in TABLES["collect_references_frames"]["table"]:
        used = [conditions.whole_frames(frames, vae) for vae in vaes]
        assert used[0] == published[0]
        for count, cut in zip(used[1:], published[1:], strict=True):
            assert max(cut, frames - 3, 1) <= count <= frames  # the public code cuts to whole windows, even to none


class Mean:
    """An autoencoder of 4x8x8 pixels that keeps their mean."""

    def encode(self, x: Tensor) -> Tensor:
        frames = torch.cat([x[:, :, :1].expand(-1, -1, 3, -1, -1), x], dim=2)
        return torch.nn.functional.avg_pool3d(frames, (4, 8, 8))

    def get_latent_size(self, size: Any) -> Any:
        return (-(-(size[0] + 3) // 4), *size[1:])


def test_references_are_encoded_one_by_one() -> None:
    clips = {"a": torch.full((3, 6, 16, 8), 0.5), "b": torch.full((3, 1, 16, 8), -1.0)}
    asked: list[tuple[str, tuple[int, int]]] = []

    def read(name: str, size: tuple[int, int]) -> Tensor:
        asked.append((name, size))
        return clips[name]

    given = conditions.collect_references_batch(["a; b", None, [clips["b"]], ""], Mean(), (16, 8), read)
    assert asked == [("a", (16, 8)), ("b", (16, 8))]
    assert [[tuple(latents.shape) for latents in row] for row in given] == [
        [(3, 2, 2, 1), (3, 1, 2, 1)],
        [],
        [(3, 1, 2, 1)],
        [],
    ]
    torch.testing.assert_close(given[0][0], torch.full((3, 2, 2, 1), 0.5))
    with pytest.raises(ValueError, match="expected \\(3, frames, 8, 8\\)"):
        conditions.collect_references_batch([[clips["a"]]], Mean(), (8, 8))
    with pytest.raises(ValueError, match="there is no reader"):
        conditions.collect_references_batch(["a"], Mean(), (16, 8))


def test_a_single_image_is_told_the_published_rate() -> None:
    assert golden_io.load_json("utils_mask_v13")["IMG_FPS"] == IMAGE_FPS
