"""The scheduler with networks of 1.2: complete published runs, timesteps, shifts and losses."""

from collections.abc import Mapping
from typing import Any

import golden_io
import pytest
import torch
from torch import Tensor

from opensora.models.stdit.stdit3_v12 import STDiT3V12, STDiT3V12Config
from opensora.sampling import rectified_flow
from opensora.sampling.rectified_flow import RFLOW
from opensora.sampling.schedule import add_noise, shift_ratio, shift_time

LAYERS = golden_io.load("layers_v12")
RUNS = golden_io.names("rflow_v12_*")
OVER = "rflow_v12_mask_t_over_1000"
"""A first step that does nothing in the public code, because its time is above 1000."""
SHIFTS = sorted(case for case in LAYERS.meta["cases"] if case.startswith("tt_"))
LOSSES = ("plain", "mask", "weights")


def network(config: Mapping[str, Any], salt: str, keep: list[str]) -> STDiT3V12:
    model = STDiT3V12(STDiT3V12Config(**config)).eval()
    golden_io.fill(model, salt, keep=keep)
    return model


class Stored:
    """Text encoder of the recorded runs."""

    def __init__(self, tensors: Mapping[str, Tensor], embedding: Tensor) -> None:
        self.tensors, self.embedding = tensors, embedding

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        return {"y": self.tensors["in.y"], "mask": self.tensors["in.text_mask"]}

    def null(self, n: int) -> Tensor:
        return self.embedding[None, None].repeat(n, 1, 1, 1)


def run(name: str, monkeypatch: pytest.MonkeyPatch, compat: str) -> tuple[Tensor, list[dict[str, Any]]]:
    """Latents at the end, and what the network was called with in every step."""
    fixture = golden_io.load(name)
    meta, tensors, call = fixture.meta, fixture.tensors, fixture.meta["call"]
    model = network(meta["config"], meta["salt"], meta["kept_computed"])
    calls: list[dict[str, Any]] = []

    def watched(x: Tensor, timestep: Tensor, y: Tensor, **kwargs: Any) -> Tensor:
        calls.append({"timestep": timestep, "x_mask": kwargs.get("x_mask")})
        return model(x, timestep, y, **kwargs)

    monkeypatch.setattr(rectified_flow, "_randn_like", lambda z, generator: tensors["in.noise"][len(calls)])
    scheduler = RFLOW(**{"use_timestep_transform": False, **meta["scheduler"], "compat": compat, "family": "1.2"})
    out = scheduler.sample(
        watched,
        Stored(tensors, model.y_embedder.y_embedding),
        tensors["in.z"],
        prompts=["prompt"] * call["batch"],
        additional_args={key: call[key] for key in ("height", "width", "num_frames", "fps")},
        progress=False,
        mask=tensors.get("in.mask"),
        guidance_scale=call["guidance_scale"],
    )
    return out, calls


def test_all_fixtures_are_here() -> None:
    assert len(RUNS) == 8 and len(SHIFTS) == 6


@pytest.mark.parametrize("name", RUNS)
def test_complete_runs_equal_the_published_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = golden_io.load(name).tensors
    out, calls = run(name, monkeypatch, "published")
    golden_io.assert_close(out, tensors["out"], name)
    times = torch.stack([call["timestep"][: len(out)] for call in calls])
    golden_io.assert_close(times, tensors["timesteps"].float(), f"{name} timesteps")
    if "x_mask_per_step" in tensors:
        assert torch.equal(torch.stack([call["x_mask"] for call in calls]), tensors["x_mask_per_step"])


@pytest.mark.parametrize("name", RUNS)
def test_the_default_differs_only_where_the_published_code_is_wrong(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = golden_io.load(name).tensors["out"]
    out, calls = run(name, monkeypatch, "right")
    assert max(float(call["timestep"].max()) for call in calls) <= 1000
    if name == OVER:
        assert bool(out.isfinite().all()) and golden_io.compare(out, expected).rel_fro > 0.01
    else:
        golden_io.assert_close(out, expected, name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_timesteps_equal_the_published_ones(dtype: str) -> None:
    rows = [row for row in golden_io.load_json("rflow_v12_timesteps")["table"] if row["args_dtype"] == dtype]
    assert len(rows) == {"float32": 252, "bfloat16": 126}[dtype]
    for row in rows:
        scheduler = RFLOW(
            num_sampling_steps=row["steps"],
            use_timestep_transform=row["use_timestep_transform"],
            compat="published",
            family="1.2",
        )
        size = {k: torch.tensor([row[k]], dtype=getattr(torch, dtype)) for k in ("height", "width", "num_frames")}
        times, expected = scheduler.times(size)[:-1] * 1000, torch.tensor(row["timesteps"])
        golden_io.assert_close(times, expected, f"rflow_v12_timesteps {dtype}")


@pytest.mark.parametrize("case", SHIFTS)
def test_the_shift_equals_the_published_helper(case: str) -> None:
    call, t = LAYERS.meta["cases"][case]["call"], LAYERS.tensors
    size = (call["height"], call["width"], call["num_frames"], call["scale"])
    times = shift_time(t[f"{case}/in.t"] / 1000, shift_ratio(*size, compat="published", family="1.2")) * 1000
    golden_io.assert_close(times, t[f"{case}/out"], f"layers_v12 {case}")


@pytest.mark.parametrize("frames", [1, 2, 16, 17, 51])
def test_times_fall_from_one_to_zero_for_every_length(frames: int) -> None:
    times = RFLOW(7, family="1.2").times({"height": 144, "width": 256, "num_frames": frames})
    assert float(times[0]) == pytest.approx(1.0, abs=1e-6) and float(times[-1]) == 0.0
    assert bool((times.diff() < 0).all())


def test_which_scheduler_reads_the_scale() -> None:
    """In the public code of 1.2 only training does, of 1.3 only sampling; here both do."""
    size = {"height": 240, "width": 426, "num_frames": 51}

    def reads(family: str, compat: str) -> tuple[bool, bool]:
        plain, scaled = (RFLOW(4, transform_scale=s, family=family, compat=compat) for s in (1.0, 2.0))
        drawn = [s.training.times(3, size, torch.Generator().manual_seed(0), "cpu") for s in (plain, scaled)]
        return not torch.equal(plain.times(size), scaled.times(size)), not torch.equal(*drawn)

    assert reads("1.2", "published") == (False, True)
    assert reads("1.3", "published") == (True, False)
    assert reads("1.2", "right") == reads("1.3", "right") == (True, True)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match=r"family is '1\.1'; choose one of 1\.3, 1\.2"):
        RFLOW(family="1.1")


@pytest.mark.parametrize("case", LOSSES)
def test_training_losses_equal_the_published_ones(case: str) -> None:
    fixture = golden_io.load("loss_v12")
    about, tensors = fixture.meta["cases"][case], fixture.tensors
    model = network(fixture.meta["config"], about["salt"], about["kept"])
    size = {k: torch.full((2,), float(about[k])) for k in ("height", "width", "fps", "num_frames")}
    loss = RFLOW(family="1.2").training_losses(
        model,
        tensors[f"{case}/in.x_start"],
        {"y": tensors[f"{case}/in.y"], "mask": tensors[f"{case}/in.text_mask"], **size},
        t=tensors[f"{case}/in.t"],
        noise=tensors[f"{case}/in.noise"],
        mask=tensors.get(f"{case}/in.mask"),
        weights=torch.linspace(0.5, 2, 1000) if case == "weights" else None,
    )
    golden_io.assert_close(loss, tensors[f"{case}/loss"], f"loss_v12 {case}")


def test_noise_is_added_as_published() -> None:
    x, noise, t, out = (
        golden_io.load("loss_v12").tensors[f"add_noise/{k}"] for k in ("in.x", "in.noise", "in.t", "out")
    )
    golden_io.assert_close(add_noise(x, noise, t / 1000), out, "loss_v12 add_noise")
