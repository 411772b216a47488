"""The scheduler against complete published runs, its conventions in closed form, and the exact saving."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import golden_io
import pytest
import torch
from torch import Tensor

from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config
from opensora.sampling import rectified_flow
from opensora.sampling.guidance import rescale_to_conditional
from opensora.sampling.rectified_flow import RFLOW
from opensora.sampling.schedule import shift_ratio, shift_time

LAYERS = golden_io.load("layers_v13")
RUNS = golden_io.names("rflow_v13_*")
DEFECTS = {"rflow_v13_i2v_flaw", "rflow_v13_mask_t_over_1000"}
"""The flaw fix that does nothing beside an image, and a first step that does nothing because its time is above 1000."""
LOSSES = list(golden_io.load("loss_v13").meta["cases"])


def network(config: Mapping[str, Any], salt: str, keep: list[str]) -> STDiT3:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items()}
    model = STDiT3(STDiT3Config(**values)).eval()
    golden_io.fill(model, salt, keep=keep)
    return model


class Stored:
    """Text encoder of the recorded runs."""

    def __init__(self, tensors: Mapping[str, Tensor], embedding: Tensor) -> None:
        self.tensors, self.embedding = tensors, embedding

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        end = "_neg" if prompts[0] == "negative" else ""
        return {"y": self.tensors[f"in.y{end}"], "mask": self.tensors[f"in.text_mask{end}"]}

    def null(self, n: int) -> Tensor:
        return self.embedding[None, None].repeat(n, 1, 1, 1)


class Call(NamedTuple):
    """One call of the network."""

    rows: int
    timestep: Tensor
    x_mask: Tensor | None


def run(name: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Tensor, golden_io.Fixture, list[Call]]:
    fixture = golden_io.load(name)
    meta, tensors, call = fixture.meta, fixture.tensors, fixture.meta["call"]
    model = network(meta["config"], meta["salt"], meta["kept_computed"])
    steps = [0]
    monkeypatch.setattr(rectified_flow, "_randn_like", lambda z, generator: tensors["in.noise"][steps[-1]])
    calls: list[Call] = []

    def watched(x: Tensor, timestep: Tensor, y: Tensor, **kwargs: Any) -> Tensor:
        calls.append(Call(len(x) // call["batch"], timestep, kwargs.get("x_mask")))
        return model(x, timestep, y, **kwargs)

    out = RFLOW(**meta["scheduler"], **{"compat": "published", **options}).sample(
        watched,
        Stored(tensors, model.y_embedder.y_embedding),
        tensors["in.z"],
        tensors.get("in.z_cond"),
        tensors.get("in.z_cond_mask"),
        prompts=["prompt"] * call["batch"],
        additional_args=call["additional_args"],
        progress=False,
        mask=tensors.get("in.mask"),
        mask_index=call["mask_index"],
        guidance_scale=call["guidance_scale"],
        image_cfg_scale=call["image_cfg_scale"],
        neg_prompts=["negative"] * call["batch"] if call["neg_prompts"] else None,
        use_sdedit=call["use_sdedit"],
        use_oscillation_guidance_for_text=call["use_oscillation_guidance_for_text"],
        use_oscillation_guidance_for_image=call["use_oscillation_guidance_for_image"],
        on_step=lambda step, *_: steps.append(step),
    )
    return out, fixture, calls


@pytest.mark.parametrize("name", RUNS)
def test_complete_runs_equal_the_published_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, fixture, calls = run(name, monkeypatch)
    golden_io.assert_close(out, fixture.tensors["out"], name)
    times = torch.stack([call.timestep[: fixture.meta["call"]["batch"]] for call in calls])
    golden_io.assert_close(times, fixture.tensors["timesteps"], f"{name} timesteps")


@pytest.mark.parametrize("name", [name for name in RUNS if "mask" in name])
def test_frames_join_when_they_joined_in_the_published_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, fixture, calls = run(name, monkeypatch, skip_cancelled_rows=False)
    masks = [call.x_mask for call in calls]
    assert torch.equal(torch.stack([mask for mask in masks if mask is not None]), fixture.tensors["x_mask_per_step"])


@pytest.mark.parametrize("name", sorted(set(RUNS) - DEFECTS))
def test_the_default_equals_the_published_runs_where_nothing_is_wrong(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, fixture, _ = run(name, monkeypatch, compat="right")
    golden_io.assert_close(out, fixture.tensors["out"], name)


@pytest.mark.parametrize("name", sorted(DEFECTS))
def test_the_default_differs_where_the_published_code_is_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, fixture, calls = run(name, monkeypatch, compat="right")
    assert bool(torch.isfinite(out).all())
    assert golden_io.compare(out, fixture.tensors["out"]).rel_fro > 0.01
    assert max(float(call.timestep.max()) for call in calls) <= 1000


@pytest.mark.parametrize("name", ["rflow_v13_t2v_osc", "rflow_v13_i2v_osc", "rflow_v13_i2v_all"])
def test_rows_that_cancel_can_be_left_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short, _, fewer = run(name, monkeypatch, skip_cancelled_rows=True)
    whole, _, every = run(name, monkeypatch, skip_cancelled_rows=False)
    golden_io.assert_close(short, whole, f"{name} without cancelled rows")
    assert sum(call.rows for call in fewer) < sum(call.rows for call in every)


@pytest.mark.parametrize(("image", "passes"), [(None, 50), (5.0, 70)])
def test_thirty_oscillating_steps_need_fewer_network_rows(image: float | None, passes: int) -> None:
    scheduler = RFLOW(num_sampling_steps=30, use_oscillation_guidance=True)
    rows = [scheduler.step_guidance(i, 7.5, image, 5, True, True).rows() for i in range(30)]
    assert sum(map(len, rows)) == passes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_timesteps_equal_the_published_ones(dtype: str) -> None:
    rows = [row for row in golden_io.load_json("rflow_v13_timesteps")["table"] if row["args_dtype"] == dtype]
    assert len(rows) > 100
    for row in rows:
        scheduler = RFLOW(
            num_sampling_steps=row["steps"],
            use_timestep_transform=row["use_timestep_transform"],
            transform_scale=row["transform_scale"],
            scale_temporal=row["scale_temporal"],
            compat="published",
        )
        size = {k: torch.tensor([row[k]], dtype=getattr(torch, dtype)) for k in ("height", "width", "num_frames")}
        times, expected = scheduler.times(size)[:-1] * 1000, torch.tensor(row["timesteps"])
        golden_io.assert_close(times, expected, f"rflow_v13_timesteps {dtype}")


def test_the_default_does_not_round_sizes() -> None:
    size = {"height": 360, "width": 638, "num_frames": 97}
    rounded = {name: torch.tensor([value], dtype=torch.bfloat16) for name, value in size.items()}
    exact = {name: torch.tensor([float(rounded[name])]) for name in size}
    assert torch.equal(RFLOW(7).times(rounded), RFLOW(7).times(exact))


SHIFTS = sorted(case for case in LAYERS.meta["cases"] if case.startswith("tt_") and case != "tt_over")


@pytest.mark.parametrize("case", SHIFTS)
def test_the_shift_equals_the_published_helper(case: str) -> None:
    call, t = LAYERS.meta["cases"][case]["call"], LAYERS.tensors
    size = (call["height"], call["width"], call["num_frames"], call["scale"], call["scale_temporal"])
    ratio = shift_ratio(*size, compat="published")
    golden_io.assert_close(ratio.expand(5), t[f"{case}/ratio"], f"layers_v13 {case} ratio")
    golden_io.assert_close(shift_time(t[f"{case}/in.t"] / 1000, ratio) * 1000, t[f"{case}/out"], f"layers_v13 {case}")


def test_times_are_not_drawn_again_above_a_threshold() -> None:
    """The published helper can draw times above 0.8 again, evenly; below, it is our shift. No recipe asks for it."""
    t, out, drawn = (LAYERS.tensors[f"tt_over/{name}"] for name in ("in.t", "out", "in.rand"))
    size = LAYERS.meta["cases"]["tt_over"]["call"]
    shifted = shift_time(t / 1000, shift_ratio(size["height"], size["width"], size["num_frames"]))
    again = torch.where(shifted > 0.8, 0.8 + 0.2 * drawn, shifted)
    golden_io.assert_close(again * 1000, out, "layers_v13 tt_over")


def test_the_flaw_fix_equals_the_published_helper() -> None:
    t = LAYERS.tensors
    fixed = rescale_to_conditional(t["flaw/in.v_pred"], t["flaw/in.pred_cond"])
    golden_io.assert_close(fixed, t["flaw/out"], "layers_v13 flaw")


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 17, 97])
@pytest.mark.parametrize("size", [(144, 256), (128, 272), (1024, 1024)])
def test_times_fall_from_one_to_zero_for_every_size(frames: int, size: tuple[int, int]) -> None:
    times = RFLOW(7).times({"height": size[0], "width": size[1], "num_frames": frames})
    assert float(times[0]) == pytest.approx(1.0, abs=1e-6) and float(times[0]) <= 1.0
    assert float(times[-1]) == 0.0
    assert bool((times.diff() < 0).all())


class NoText:
    """One token of nothing."""

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        return {"y": torch.zeros(len(prompts), 1, 1, 1), "mask": torch.ones(len(prompts), 1)}

    def null(self, n: int) -> Tensor:
        return torch.zeros(n, 1, 1, 1)


def test_a_straight_path_ends_at_the_data() -> None:
    data = torch.full((2, 3, 2, 4, 4), 0.25)
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(0))
    seen: list[tuple[int, int]] = []

    def straight(x: Tensor, timestep: Tensor, y: Tensor, **kwargs: Any) -> Tensor:
        return (data - noise).repeat(len(x) // 2, 1, 1, 1, 1)

    def on_step(step: int, steps: int, estimate: Tensor) -> None:
        seen.append((step, steps))
        torch.testing.assert_close(estimate, data)

    out = RFLOW(4, use_timestep_transform=False).sample(
        straight, NoText(), noise, prompts=["a", "b"], progress=False, on_step=on_step
    )
    torch.testing.assert_close(out, data)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_frames_masked_out_are_kept() -> None:
    z = torch.randn(1, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    out = RFLOW(3, use_timestep_transform=False).sample(
        lambda x, t, y, **kwargs: torch.ones_like(x), NoText(), z, prompts=["a"], progress=False, mask=mask
    )
    torch.testing.assert_close(out[:, :, [0, 3]], z[:, :, [0, 3]])
    assert not torch.allclose(out[:, :, 1], z[:, :, 1])


def test_arguments_that_do_not_belong_together_are_refused() -> None:
    z = torch.zeros(1, 3, 2, 2, 2)

    def model(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return x

    with pytest.raises(ValueError, match="image_cfg_scale"):
        RFLOW(2, use_timestep_transform=False).sample(model, NoText(), z, prompts=["a"], mask_index=[0], progress=False)
    with pytest.raises(ValueError, match="height, width and num_frames"):
        RFLOW(2).sample(model, NoText(), z, prompts=["a"], progress=False)
    with pytest.raises(ValueError, match="at least 1 step"):
        RFLOW(0, use_timestep_transform=False).sample(model, NoText(), z, prompts=["a"], progress=False)


@pytest.mark.parametrize("case", LOSSES)
def test_training_losses_equal_the_published_ones(case: str) -> None:
    fixture = golden_io.load("loss_v13")
    about = fixture.meta["cases"][case]
    options = about["options"]
    model = network(fixture.meta["config"], about["salt"], about["kept"])

    def stored(name: str) -> Tensor | None:
        return fixture.tensors.get(f"{case}/in.{name}")

    x_start = stored("x_start")
    assert x_start is not None
    size = {k: torch.full((2,), float(about[k])) for k in ("height", "width", "fps", "num_frames")}
    loss = RFLOW(compat="published").training_losses(
        model,
        x_start,
        {"y": stored("y"), "mask": stored("text_mask"), **size},
        t=stored("t"),
        noise=stored("noise"),
        mask=stored("mask"),
        weights=torch.linspace(0.5, 2, 1000) if options.get("wt") else None,
        mask_index=options.get("mi"),
        drop=next(iter(options.get("drop", {"keep": 1}))),
        y_null=model.y_embedder.y_embedding[None, None].repeat(2, 1, 1, 1),
        x_noisy_ref=stored("x_noisy_ref"),
        x_cond_weight=options.get("xw"),
        x_gt=stored("x_gt"),
        noise_disable_threshold=options.get("thr"),
    )
    golden_io.assert_close(loss, fixture.tensors[f"{case}/loss"], f"loss_v13 {case}")


def test_a_fixed_shift_holds_for_every_size() -> None:
    scheduler = RFLOW(num_sampling_steps=4, fixed_shift=3.0)
    expected = [3 * t / (1 + 2 * t) for t in (1.0, 0.75, 0.5, 0.25, 0.0)]
    for height, frames in ((144, 1), (144, 49), (720, 97)):
        times = scheduler.times({"height": height, "width": 2 * height, "num_frames": frames})
        torch.testing.assert_close(times, torch.tensor(expected))
    with pytest.raises(ValueError, match="fixed_shift is 0"):
        RFLOW(fixed_shift=0)
