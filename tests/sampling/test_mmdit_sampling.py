"""The 2.0 sampler against complete published runs, its conventions in closed form, and the exact saving."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import golden_io
import pytest
import torch
from torch import Tensor

from opensora.models.mmdit.mmdit import MMDiT, MMDiTConfig
from opensora.sampling.denoise import SamplingOption, denoise_guided, sample_video
from opensora.sampling.given_frames import prepare_condition, trim_decoded
from opensora.sampling.tokens import pack

RUNS = golden_io.names("v2/sampling/run_*")
DEFECTS = {"v2/sampling/run_i2v_head_batch2_neg", "v2/sampling/run_i2v_requested_on_single_frame"}
"""Only the first sample of a batch keeps its reference, and a single frame is made although it is given."""
RUN = 1e-4
"""Allowed difference as a share of the largest value."""


@cache
def network(name: str) -> MMDiT:
    fixture = golden_io.load(name)
    model = MMDiT(MMDiTConfig.from_dict(fixture.meta["mmdit_config"])).eval()
    golden_io.fill(model, fixture.meta["mmdit_salt"])
    assert golden_io.checksum(model) == fixture.meta["rule"]["weights_crc32"]
    return model


def option_of(name: str, **changes: Any) -> SamplingOption:
    recorded = golden_io.load(name).meta["sampling_option"]
    fields = {key: recorded[key] for key in SamplingOption.__dataclass_fields__ if key in recorded}
    fields["method"] = recorded["method"].removeprefix("SamplingMethod.").lower()
    return SamplingOption(**{**fields, "compat": "published", **changes})


class Run:
    """A recorded run, made again."""

    def __init__(self, name: str, **changes: Any) -> None:
        self.fixture, self.option, self.calls = (
            golden_io.load(name),
            option_of(name, **changes),
            list[dict[str, Tensor]](),
        )
        self.model = network(name)
        meta, tensors = self.fixture.meta, self.fixture.tensors
        self.causal = meta["sampling_option"]["is_causal_vae"]
        self.references = [
            [tensors[key] for key in sorted(tensors) if key.startswith(f"in.ref{i}_")] for i in range(len(meta["text"]))
        ]
        texts = meta["upstream_calls"]["t5_calls"][0]["text"]
        self.rows = {text: i for i, text in enumerate(texts)}
        self.out = sample_video(
            self.watched,
            self.t5,
            self.clip,
            tensors["in.z"],
            meta["text"],
            self.option,
            negatives=meta["neg"],
            cond_type=meta["cond_type"],
            references=self.references,
            causal=self.causal,
            patch_size=meta["patch_size"],
        )

    def watched(self, **call: Tensor) -> Tensor:
        out = self.model(**call)
        self.calls.append(call | {"pred": out})
        return out

    def t5(self, texts: Sequence[str], added_tokens: int, seq_align: int) -> Tensor:
        call = self.fixture.meta["upstream_calls"]["t5_calls"][0]
        assert (added_tokens, seq_align) == (call["added_tokens"], call["seq_align"])
        return self.fixture.tensors["model_in.txt"][[self.rows[text] for text in texts]]

    def clip(self, texts: Sequence[str]) -> Tensor:
        return self.fixture.tensors["model_in.y_vec"][[self.rows[text] for text in texts]]

    @property
    def decoded(self) -> Tensor:
        """What was made, through an autoencoder that changes nothing."""
        option = self.fixture.meta["sampling_option"]
        return trim_decoded(self.out, option["num_frames"], self.fixture.meta["cond_type"], self.causal)

    @property
    def passes(self) -> int:
        """Rows that the network computed for one sample."""
        return sum(len(call["img"]) for call in self.calls) // len(self.fixture.tensors["in.z"])


@pytest.mark.parametrize("name", RUNS)
def test_complete_runs_equal_the_published_ones(name: str) -> None:
    run = Run(name)
    golden_io.assert_within(run.decoded, run.fixture.tensors["out.x"], name, RUN)


@pytest.mark.parametrize("name", RUNS)
def test_every_recorded_step(name: str) -> None:
    run = Run(name, skip_cancelled_rows=False)
    golden_io.assert_within(run.decoded, run.fixture.tensors["out.x"], f"{name} all rows", RUN)
    samples, first = len(run.fixture.tensors["in.z"]), run.calls[0]
    told = run.fixture.given("model_in.")
    for key in first.keys() & told.keys() - {"guidance"}:
        golden_io.assert_within(first[key], told[key], f"{name} inputs", RUN)
    assert told["guidance"].unique().item() == run.option.guidance  # networks that are not told it ignore it
    assert ("guidance" in first) == (run.option.method == "distilled")
    times = torch.stack([call["timesteps"][0] for call in run.calls] + [torch.tensor(0.0)])
    golden_io.assert_within(times, run.fixture.tensors["timesteps"], f"{name} times", RUN)
    for key, expected in run.fixture.given("mid.step").items():
        number, what = key.split(".")
        call = run.calls[int(number)]
        actual = {"img": call["img"][:samples], "pred": call["pred"], "t": call["timesteps"]}[what]
        golden_io.assert_within(actual, expected, f"{name} steps", RUN)


@pytest.mark.parametrize("name", [name for name in RUNS if "model_in.masks" in golden_io.load(name).tensors])
def test_conditions_of_runs(name: str) -> None:
    fixture = golden_io.load(name)
    z, references = fixture.tensors["in.z"], Run(name).references
    causal = fixture.meta["upstream_calls"]["prepare_inference_condition"]["causal"]
    masks, latents = prepare_condition(z, fixture.meta["cond_type"], references, causal, "published")
    assert torch.equal(masks, fixture.tensors["model_in.masks"])
    assert torch.equal(latents, fixture.tensors["model_in.masked_ref"])


@pytest.mark.parametrize("name", sorted(set(RUNS) - DEFECTS))
def test_the_default_equals_the_published_runs_where_nothing_is_wrong(name: str) -> None:
    run = Run(name, compat="right")
    golden_io.assert_within(run.decoded, run.fixture.tensors["out.x"], f"{name} default", RUN)


def test_every_sample_keeps_its_reference() -> None:
    name = "v2/sampling/run_i2v_head_batch2_neg"
    run = Run(name, compat="right")
    expected = run.fixture.tensors["out.x"].clone()
    assert not torch.equal(expected[1, :, :1], run.references[1][0])
    expected[1, :, :1] = run.references[1][0]
    golden_io.assert_within(run.out, expected, f"{name} default", RUN)
    assert torch.equal(run.out[1, :, :1], run.references[1][0])


def test_one_frame_cannot_be_given_and_made() -> None:
    name = "v2/sampling/run_i2v_requested_on_single_frame"
    assert torch.equal(Run(name).out[:, :, :1], golden_io.load(name).tensors["in.ref0_0"][None])
    with pytest.raises(ValueError, match="nothing is left to make"):
        Run(name, compat="right")


LENGTHS = {"t2v": (150, 80), "i2v_head": (150, 110)}


@pytest.mark.parametrize("cond_type", LENGTHS)
def test_fifty_steps_need_fewer_network_rows(cond_type: str) -> None:
    """Rows that are the same or cancel are left out, with the same result; here from the same state at every step."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    z, matrix = draw(1, 4, 3, 4, 4), draw(16, 16) / 4
    masks, latents = prepare_condition(z, cond_type, [[draw(4, 1, 4, 4)]] if cond_type != "t2v" else [])
    inputs = {"img_ids": draw(2, 12, 3), "txt": draw(2, 5, 6), "txt_ids": torch.zeros(2, 5, 3), "y_vec": draw(2, 16)}
    inputs["cond"] = pack(torch.cat((masks, latents), dim=1))
    rows: list[int] = []

    def model(**call: Tensor) -> Tensor:
        rows.append(len(call["img"]))
        text = (call["txt"].sum((1, 2)) + call["timesteps"])[:, None, None] * call["y_vec"][:, None]
        return 0.1 * (call["img"] @ matrix + text + call["cond"][..., :16])

    results = []
    for skip, passes in zip((False, True), LENGTHS[cond_type], strict=True):
        rows.clear()
        results.append(denoise_guided(model, z, inputs, SamplingOption(skip_cancelled_rows=skip), cond_type))
        assert sum(rows) == passes
    golden_io.assert_within(results[1], results[0], f"fifty steps of {cond_type} without cancelled rows", 1e-5)


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("run_t2v", (12, 8)),
        ("run_t2v_text_image_osci_14steps", (42, 26)),
        ("run_i2v_head_all_osci_13steps", (39, 37)),
        ("run_i2v_head_guidance_img_1", (12, 8)),
        ("run_v2v_head", (12, 12)),
        ("run_distilled_t2i", (4, 4)),
    ],
)
def test_rows_that_cancel_are_left_out(name: str, passes: tuple[int, int]) -> None:
    whole, short = (Run(f"v2/sampling/{name}", skip_cancelled_rows=skip) for skip in (False, True))
    assert (whole.passes, short.passes) == passes
    golden_io.assert_within(short.out, whole.out, f"v2/sampling/{name} without cancelled rows", 2e-6)


def test_missing_image_guidance() -> None:
    """The public code fails, also for text alone; with a given frame a number is needed, without one it is not."""
    published = golden_io.load_json("v2/tables/edge_cases")["guidance_img None (SamplingOption default) with I2V"]
    with pytest.raises(TypeError):
        Run("v2/sampling/run_t2v", guidance_img=None)
    assert published.startswith("TypeError")
    with pytest.raises(ValueError, match="guidance_img is None with i2v_head"):
        Run("v2/sampling/run_i2v_head", guidance_img=None, compat="right")
    run = Run("v2/sampling/run_t2v", guidance_img=None, compat="right", skip_cancelled_rows=False)
    golden_io.assert_within(run.out, run.fixture.tensors["out.x"], "v2/sampling/run_t2v no image guidance", RUN)


def features(texts: Sequence[str], **options: Any) -> Tensor:
    return torch.zeros(len(texts), 2, 3)


def pooled(texts: Sequence[str]) -> Tensor:
    return torch.zeros(len(texts), 3)


@pytest.mark.parametrize("method", ["i2v", "distilled"])
def test_a_straight_path_ends_at_the_data(method: Any) -> None:
    data = torch.full((2, 4, 2, 4, 4), 0.25)
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(0))
    seen: list[tuple[int, int]] = []

    def straight(img: Tensor, timesteps: Tensor, **call: Tensor) -> Tensor:
        assert timesteps.dtype is torch.float32 and len(timesteps) == len(img)
        return pack(noise - data).repeat(len(img) // 2, 1, 1)

    def on_step(step: int, steps: int, estimate: Tensor) -> None:
        seen.append((step, steps))
        torch.testing.assert_close(estimate, data)

    option = SamplingOption(num_steps=4, method=method)
    out = sample_video(straight, features, pooled, noise, ["a", "b"], option, on_step=on_step)
    torch.testing.assert_close(out, data)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("compat", ["right", "published"])
def test_times_are_told_in_float32(compat: Any) -> None:
    """The public code rounds them to the dtype of the latents."""
    told: list[Tensor] = []

    def model(img: Tensor, timesteps: Tensor, **call: Tensor) -> Tensor:
        told.append(timesteps)
        return img

    z = torch.zeros(1, 4, 1, 4, 4, dtype=torch.bfloat16)
    sample_video(model, features, pooled, z, ["a"], SamplingOption(num_steps=3, compat=compat))
    assert {t.dtype for t in told} == {torch.float32 if compat == "right" else torch.bfloat16}


def test_arguments_that_do_not_belong_together_are_refused() -> None:
    z = torch.zeros(2, 4, 3, 4, 4)
    image = torch.zeros(4, 1, 4, 4)

    def refused(message: str, option: SamplingOption = SamplingOption(num_steps=2), **call: Any) -> None:  # noqa: B008
        arguments = {"prompts": ["a", "b"]} | call
        with pytest.raises(ValueError, match=message):
            sample_video(lambda **call: call["img"], features, pooled, z, option=option, **arguments)

    refused("1 prompts", prompts=["a"])
    refused("1 negative prompts", negatives=["bad"])
    refused("takes neither given frames", SamplingOption(method="distilled"), cond_type="i2v_head")
    refused("references are given with t2v", references=[[image], None])
    refused("choose one of t2v, i2v_head", cond_type="v2v_head_half")
    refused("for each of 2 samples a reference of 1 latent frames, which is 1 frames", cond_type="i2v_head")
    refused(r"got latent frames \[\[1\], \[\]\]", cond_type="i2v_head", references=[[image], None])
    refused("9 latent frames, which is 33 frames of video", cond_type="v2v_head", references=[[image], [image]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 0}, "num_steps is 0"),
        ({"flow_shift": 0.0}, "flow_shift is 0.0"),
        ({"method": "euler"}, "choose one of i2v, distilled"),
        ({"compat": "exact"}, "choose one of right, published"),
    ],
)
def test_wrong_options_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingOption(**change)
