"""Tokens, times, noise and given frames of 2.0 against the published helpers."""

from collections.abc import Sequence
from typing import Any

import golden_io
import pytest
import torch
from torch import Tensor

from opensora.sampling.denoise import SamplingOption
from opensora.sampling.given_frames import cut_reference, prepare_condition, reference_frames, trim_decoded, write_back
from opensora.sampling.guidance import oscillating
from opensora.sampling.latents import draw_noise, latent_frames
from opensora.sampling.schedule import frame_shift, shift_time
from opensora.sampling.tokens import pack, prepare, prepare_ids, unpack

FIXTURE = golden_io.load("v2/sampling/utils")
META = FIXTURE.meta["meta"]
COND_TYPES = ("i2v_head", "i2v_tail", "i2v_loop", "v2v_head", "v2v_tail", "v2v_head_easy", "v2v_tail_easy")


def test_tokens() -> None:
    """The published ``unpack`` is told pixels; with 16 or 32 of them a token its latents are these."""
    x = FIXTURE.tensors["pack2.in"]
    assert torch.equal(pack(x, 2), FIXTURE.tensors["pack2.out"])
    assert torch.equal(pack(x, 1), FIXTURE.tensors["pack1.out"])
    assert torch.equal(unpack(pack(x, 2), (2, 4, 6), 2), FIXTURE.tensors["unpack2.out"])
    assert torch.equal(unpack(pack(x, 1), (2, 4, 6), 1), FIXTURE.tensors["unpack1_D32.out"])
    with pytest.raises(ValueError, match="5 x 6 places; expected multiples of 2"):
        pack(torch.zeros(1, 3, 2, 5, 6))


@pytest.mark.parametrize("case", ["prepare_rep3", "prepare_b2", "prepare_patch1"])
def test_prepare(case: str) -> None:
    given, expected, about = FIXTURE.given(f"{case}.in."), FIXTURE.given(f"{case}.out."), META[case]
    calls: list[tuple[Sequence[str], dict[str, int]]] = []

    def rows(key: str, texts: Sequence[str]) -> Tensor:
        assert len(set(texts)) == len(texts)
        return expected[key][[about["prompt"].index(text) for text in texts]]

    def t5(texts: Sequence[str], **options: int) -> Tensor:
        calls.append((texts, options))
        return rows("txt", texts)

    prepared = prepare(t5, lambda texts: rows("y_vec", texts), given["z"], about["prompt"], 4, about["patch_size"])
    assert prepared.keys() == expected.keys()
    for key, value in prepared.items():
        assert torch.equal(value, expected[key]), key
    assert [options for _, options in calls] == [{"added_tokens": expected["img"].shape[1], "seq_align": 4}]


def test_prepare_with_encoded_texts() -> None:
    given, expected = FIXTURE.given("prepare_ids.in."), FIXTURE.given("prepare_ids.out.")
    prepared = prepare_ids(given["z"], given["t5"], given["clip"])
    assert prepared.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in prepared.items())
    one = prepare_ids(given["z"], given["t5"][:1], given["clip"][:1])
    assert torch.equal(one["txt"], given["t5"][:1].repeat(2, 1, 1)) and len(one["img"]) == 2
    with pytest.raises(ValueError, match="3 texts and 3 pooled texts for a batch of 2"):
        prepare_ids(given["z"], given["t5"][[0, 1, 1]], given["clip"][[0, 1, 1]])


def test_one_prompt_serves_a_batch_in_its_dtype() -> None:
    z = torch.zeros(3, 4, 1, 4, 4, dtype=torch.bfloat16)
    prepared = prepare(lambda texts, **options: torch.ones(1, 5, 6), lambda texts: torch.ones(1, 7), z, "a sea")
    assert {value.dtype for value in prepared.values()} == {torch.bfloat16}
    assert {len(value) for value in prepared.values()} == {3}


SCHEDULES = [name for name in META if name.startswith("schedule")]


@pytest.mark.parametrize("name", SCHEDULES)
def test_times(name: str) -> None:
    about = META[name]
    option = SamplingOption(num_steps=about["num_steps"], shift=about["shift"], flow_shift=about["shift_alpha"])
    times = option.times(about["image_seq_len"], about["num_frames"])
    golden_io.assert_within(times, FIXTURE.tensors[name], "v2/sampling/utils schedules", 2e-6)
    if about["shift"] and about["shift_alpha"] is None:
        assert frame_shift(about["image_seq_len"], about["num_frames"]) == pytest.approx(about["alpha_used"])


def test_shifts() -> None:
    for tokens, shift in META["get_res_lin_function"].items():
        assert frame_shift(int(tokens), 1) == pytest.approx(shift)
    for alpha in ("0.5", "1.0", "3.0", "17.2"):
        shifted = shift_time(FIXTURE.tensors["time_shift.in.t"], torch.tensor(float(alpha), dtype=torch.float64))
        golden_io.assert_within(shifted, FIXTURE.tensors[f"time_shift_{alpha}"], "v2/sampling/utils time shift", 2e-6)


@pytest.mark.parametrize("name", ["noise_a", "noise_b", "noise_p1"])
def test_noise(name: str) -> None:
    about = META[name]
    size = about["kwargs"]
    generator = torch.Generator().manual_seed(about["seed"])
    noise = draw_noise(
        size["num_samples"],
        size["channel"],
        size["num_frames"],
        size["height"],
        size["width"],
        generator,
        size["patch_size"],
    )
    assert list(noise.shape) == about["shape"]
    assert torch.equal(noise.flatten()[:16], FIXTURE.tensors[f"{name}.first16"])
    if name == "noise_a":
        assert torch.equal(noise.flatten()[:16].bfloat16(), FIXTURE.tensors["noise_a_bf16.first16"])


def test_oscillation() -> None:
    for case, expected in META["get_oscillation_gs"].items():
        scale, step, start = (float(part.lstrip("gsiforce")) for part in case.split("_"))
        assert oscillating(scale, int(step), int(start)) == expected


@pytest.mark.parametrize("case", META["conditions"])
def test_conditions(case: str) -> None:
    """The second sample has no reference: the public code gives it nothing, here that is refused."""
    cond_type, causal, frames = case.removeprefix("cond_").rsplit("_", 2)
    expected, causal = FIXTURE.given(f"{case}."), causal == "causal1"
    z = torch.zeros_like(expected["masked_ref"])
    own = [t for key, t in FIXTURE.given(f"cond_ref_{cond_type}_causal{causal:d}_").items()]
    masks, latents = prepare_condition(z, cond_type, [own, None], causal, "published")
    assert torch.equal(masks, expected["masks"]) and torch.equal(latents, expected["masked_ref"])
    assert masks[0, 0, :, 0, 0].tolist() == META["conditions"][case]["mask_per_frame"]
    if cond_type == "t2v":
        return
    assert own[0].shape[1] == META["conditions"][case]["ref_frames"]
    with pytest.raises(ValueError, match=f"which is {reference_frames(cond_type, causal)} frames of video"):
        prepare_condition(z, cond_type, [own, None], causal)
    if frames == "T20":
        right = prepare_condition(z, cond_type, [own, own], causal)
        assert all(torch.equal(both[0], both[1]) for both in right)
        assert torch.equal(right[0][0], masks[0]) and torch.equal(right[1][0], latents[0])


def test_unknown_condition_types() -> None:
    for cond_type in META["unknown_cond_type"]:
        with pytest.raises(ValueError, match=f"cond_type is '{cond_type}'; choose one of t2v"):
            prepare_condition(torch.zeros(1, 1, 3, 1, 1), cond_type, [[torch.zeros(1, 1, 1, 1)]])


@pytest.mark.parametrize("cond_type", COND_TYPES)
@pytest.mark.parametrize("causal", [True, False])
def test_references_are_cut_to_what_is_needed(cond_type: str, causal: bool) -> None:
    needed = reference_frames(cond_type, causal)
    assert needed == {"i2v": 1, "v2v": 64 if "easy" in cond_type else 32}[cond_type[:3]] + (
        "v2v" in cond_type and causal
    )
    clip = torch.arange(needed + 5.0).expand(3, 1, 1, -1).movedim(-1, 1)
    kept = cut_reference(clip, cond_type, causal=causal)[0, :, 0, 0].tolist()
    whole = [float(i) for i in range(needed + 5)]
    assert kept == (whole[-needed:] if "tail" in cond_type else whole[:needed])
    assert cut_reference(clip, cond_type, second=True, causal=causal)[0, -1, 0, 0] == needed + 4
    with pytest.raises(ValueError, match=f"needs at least {needed} frames; this one has {needed - 1}"):
        cut_reference(clip[:, : needed - 1], cond_type, causal=causal)
    latents = torch.ones(1, latent_frames(needed, 4, causal), 1, 1)
    masks, _ = prepare_condition(torch.zeros(1, 1, 40, 1, 1), cond_type, [[latents]], causal)
    assert int(masks.sum()) == latents.shape[1] * (2 if cond_type == "i2v_loop" else 1)


LENGTHS = {case: outcome for case, outcome in golden_io.load_json("v2/tables/edge_cases").items() if "frames=" in case}


@pytest.mark.parametrize("case", LENGTHS)
def test_reference_lengths(case: str) -> None:
    """What the public code made of references of some lengths, with an autoencoder of four frames a latent frame."""
    cond_type, _, length = case.partition(" ref_frames=")
    clip, z = torch.zeros(3, int(length), 1, 1), torch.zeros(1, 3, 20, 1, 1)

    def encoded(compat: Any) -> int:
        cut = cut_reference(clip, cond_type, compat=compat)
        latents = torch.zeros(3, latent_frames(cut.shape[1]), 1, 1)
        masks, _ = prepare_condition(z, cond_type, [[latents]], compat=compat)
        assert int(masks.sum()) == latents.shape[1]
        return latents.shape[1]

    if LENGTHS[case].startswith("ok"):
        assert LENGTHS[case] == f"ok, ref latents {encoded('published')}, masked {encoded('right')}"
        return
    with pytest.raises(RuntimeError if LENGTHS[case].startswith("Runtime") else ValueError):
        encoded("published")
    with pytest.raises(ValueError, match=f"needs at least {reference_frames(cond_type)} frames; this one has {length}"):
        encoded("right")


def test_one_reference_is_both_ends_of_a_loop() -> None:
    clip = torch.arange(4.0).view(1, 4, 1, 1)
    _, latents = prepare_condition(torch.zeros(1, 1, 6, 1, 1), "i2v_loop", [[clip]])
    assert latents.flatten().tolist() == [0, 0, 0, 0, 0, 3]
    x = write_back(torch.full((1, 1, 6, 1, 1), 9.0), "i2v_loop", [[clip]])
    assert x.flatten().tolist() == [0, 9, 9, 9, 9, 3]


@pytest.mark.parametrize(
    "row", golden_io.load_json("v2/tables/frame_counts")["table"], ids=lambda row: row["num_frames"]
)
def test_frame_counts(row: dict[str, Any]) -> None:
    n = row["num_frames"]
    for causal, key in ((True, "causal"), (False, "noncausal")):
        latents = latent_frames(n, 4, causal, "published")
        assert latents == row[key]["latent_T"]
        decoded = torch.zeros(1, 1, row[key]["dcae_decoded"], 1, 1)
        assert trim_decoded(decoded, n, "t2v", causal).shape[2] == row[key]["after_slice_dcae"]
        alone = 1 if causal or n == 1 else 0
        assert n <= alone + 4 * (latent_frames(n, 4, causal) - alone) < n + 4  # all frames, and no latent too many


def test_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="num_frames is 0"):
        latent_frames(0)
