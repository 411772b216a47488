"""Behaviour of STDiT3: configuration, masks, training, loading."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from opensora.checkpoint import safetensors_io
from opensora.checkpoint.safetensors_io import CheckpointError
from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config

SMALL = STDiT3Config(
    in_channels=4,
    hidden_size=48,
    depth=2,
    num_heads=2,
    mlp_ratio=2.0,
    caption_channels=16,
    model_max_length=6,
    kernel_size=(4, 4, -1),
)


def network(seed: int = 0, **overrides: Any) -> STDiT3:
    """A small network with every weight drawn, so that nothing is zero."""
    model = STDiT3(replace(SMALL, **overrides)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3 / math.sqrt(max(1, parameter[0].numel())), generator=generator)
    return model


def inputs(batch: int = 2, frames: int = 3, rows: int = 10, columns: int = 12, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "x": draw(batch, 4, frames, rows, columns),
        "timestep": torch.rand(batch, generator=generator) * 1000,
        "y": draw(batch, 1, 6, 16),
        "mask": (torch.arange(6) < torch.tensor([3, 6])[torch.arange(batch) % 2, None]).long(),
        "fps": torch.full((batch,), 24.0),
        "height": torch.full((batch,), 8.0 * rows),
        "width": torch.full((batch,), 8.0 * columns),
    }


def given_frames(call: dict[str, Any], index: list[int]) -> dict[str, Any]:
    cond = torch.zeros_like(call["x"])
    cond[:, :, index] = 1.5
    return call | {
        "cond": cond,
        "cond_mask": (cond != 0).float(),
        "mask_index": index,
        "y_null": torch.full_like(call["y"], 0.3),
    }


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_text_behind_the_mask_changes_nothing() -> None:
    model, call = network(), inputs()
    out = model(**call)
    call["y"][0, :, 3:] = 100.0
    assert torch.equal(model(**call), out)


@torch.no_grad()
def test_text_may_stand_anywhere() -> None:
    model, call = network(), inputs(batch=1)
    order = torch.tensor([4, 0, 3, 1, 5, 2])
    moved = call | {"y": call["y"][:, :, order], "mask": call["mask"][:, order]}
    close(model(**moved), model(**call))


@torch.no_grad()
@pytest.mark.parametrize("index", [None, [], [0], [0, 2], [0, 1, 2]])
def test_batch_equals_single(index: list[int] | None) -> None:
    model, call = network(), inputs()
    if index is not None:
        call = given_frames(call, index)
    together = model(**call)
    for i in range(2):
        one = {k: v[i : i + 1] if isinstance(v, Tensor) else v for k, v in call.items()}
        close(model(**one), together[i : i + 1])


@torch.no_grad()
def test_rows_are_repeated_for_guidance() -> None:
    model, call = network(), inputs(batch=4)
    full = given_frames(call, [0])
    short = full | {"mask": full["mask"][:2], "fps": full["fps"][:1], "y_null": full["y_null"][:1]}
    assert torch.equal(model(**short), model(**full))


@torch.no_grad()
def test_frame_mask() -> None:
    model, call = network(), inputs()
    plain = model(**call)
    close(model(**call, x_mask=torch.ones(2, 3, dtype=torch.bool)), plain)
    mask = torch.tensor([[True, False, True], [True, True, True]])
    masked = model(**call, x_mask=mask)
    close(masked[1], plain[1])
    other = model(**call | {"timestep": call["timestep"] * 0.5}, x_mask=torch.zeros(2, 3, dtype=torch.bool))
    assert not torch.allclose(masked[0], plain[0])
    assert other.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize(("frames", "rows", "columns"), [(1, 2, 2), (1, 5, 3), (4, 9, 16), (2, 8, 8)])
def test_any_size_goes_through(frames: int, rows: int, columns: int) -> None:
    out = network()(**inputs(frames=frames, rows=rows, columns=columns))
    assert out.shape == (2, 8, frames, rows, columns)
    assert out.isfinite().all()


@torch.no_grad()
def test_temporal_patches() -> None:
    model = network(patch_size=(2, 2, 2))
    assert model(**given_frames(inputs(frames=5), [0, 2])).shape == (2, 8, 5, 10, 12)


@torch.no_grad()
def test_results_repeat_exactly() -> None:
    model, call = network(), inputs()
    first = model(**call)
    model(**inputs(frames=1, rows=4))
    assert torch.equal(model(**call), first)


def loss(model: STDiT3, call: dict[str, Any]) -> Tensor:
    return model(**call).square().mean()


def test_checkpointing_keeps_gradients() -> None:
    model, call = network(), given_frames(inputs(), [0])
    loss(model, call).backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing = True
    loss(model, call).backward()
    assert plain.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        close(parameter.grad, plain[name])


def test_gradient_is_the_derivative() -> None:
    """The loss along the gradient changes as the gradient says."""
    model, call = network().double(), inputs()
    value = loss(model, call)
    value.backward()
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in parameters))
    step = 1e-3
    with torch.no_grad():
        for p in parameters:
            p += step * p.grad / norm
        up = loss(model, call).item()
        for p in parameters:
            p -= 2 * step * p.grad / norm
        down = loss(model, call).item()
    assert (up - down) / (2 * step) == pytest.approx(norm, rel=2e-3)


def test_autocast_trains_close_to_float32() -> None:
    model, call = network(), inputs()
    loss(model, call).backward()
    exact = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss(model, call).backward()
    rounded = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_a_few_steps_learn() -> None:
    torch.manual_seed(0)
    model = STDiT3(replace(SMALL, class_dropout_prob=0.0)).train()
    call, target = inputs(), torch.randn(2, 8, 3, 10, 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        value = (model(**call) - target).square().mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.9 * losses[0]


def test_new_network_predicts_zero_and_every_weight_gets_a_gradient_soon() -> None:
    torch.manual_seed(0)
    model, call = STDiT3(SMALL).train(), given_frames(inputs(), [0])
    assert not model(**call).any()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(4):
        optimizer.zero_grad()
        (model(**call) - 1).square().mean().backward()
        optimizer.step()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_dropped_captions_are_the_null_text() -> None:
    call = inputs()
    model = network(class_dropout_prob=0.999999)
    with torch.no_grad():
        null = model(**call | {"y": model.y_embedder.y_embedding.expand(2, 1, -1, -1)})
        close(model.train()(**call), null)
        assert not torch.allclose(model.eval()(**call), null)


def test_stochastic_depth() -> None:
    torch.manual_seed(0)
    model, call = network(drop_path=0.9, class_dropout_prob=0.0), inputs()
    with torch.no_grad():
        close(model(**call), network()(**call))
        model.train()
        assert not torch.equal(model(**call), model(**call))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": None}, "fps is missing"),
        ({"height": None}, "height and width are missing"),
        ({"height": torch.tensor([80.0, 90.0])}, "batch videos of one size"),
        ({"mask": torch.zeros(2, 6)}, "row without tokens"),
        ({"mask": torch.ones(3, 6)}, "mask has 3 rows, the batch has 2"),
        ({"x_mask": torch.ones(2, 4, dtype=torch.bool)}, r"x_mask is \(2, 4\); expected \(2, 3\)"),
        ({"mask_index": [0]}, "without cond and cond_mask"),
        ({"mask_index": [3]}, "expected frames from 0 to 2"),
        ({"mask_index": [-1]}, "expected frames from 0 to 2"),
        ({"mask_index": [0], "y_null": None}, "without y_null"),
    ],
)
def test_wrong_inputs_are_refused(change: dict[str, Any], message: str) -> None:
    call = inputs()
    if "mask_index" in change and message != "without cond and cond_mask":
        call = given_frames(call, [0])
    with pytest.raises(ValueError, match=message):
        network()(**call | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 50}, "hidden_size is 50 with 2 heads"),
        ({"depth": 0}, "depth is 0; expected at least 1"),
        ({"patch_size": (1, 2)}, r"patch_size is \(1, 2\)"),
        ({"kernel_size": (-1, 8, -1)}, r"kernel_size is \(-1, 8, -1\)"),
        ({"kernel_size": None}, "use_spatial_rope needs kernel_size"),
        ({"input_size": (8, 8, 8)}, "leave it empty"),
        ({"class_dropout_prob": 1.0}, "expected a probability"),
        ({"mlp_ratio": 0.0}, "mlp_ratio is 0.0"),
        ({"compat": "exact"}, "choose one of right, published"),
    ],
)
def test_wrong_configurations_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_configuration_goes_through_json() -> None:
    assert STDiT3Config.from_dict(json.loads(json.dumps(asdict(SMALL)))) == SMALL
    with pytest.raises(ValueError, match="did you mean hidden_size"):
        STDiT3Config.from_dict({"hiden_size": 3})
    with pytest.raises(ValueError, match="skip_y_embedder is set"):
        STDiT3Config.from_dict({"skip_y_embedder": True})


def saved(folder: Path, model: STDiT3, **metadata: str) -> Path:
    (folder / "config.json").write_text(json.dumps(asdict(model.config)))
    safetensors_io.save(model, folder / "model.safetensors", {"role": "stdit", "family": "1.3", **metadata})
    return folder


@torch.no_grad()
def test_loading_from_a_folder_and_a_file(tmp_path: Path) -> None:
    model = network()
    saved(tmp_path, model)
    for source in (tmp_path, str(tmp_path / "model.safetensors")):
        loaded = STDiT3.from_pretrained(source, class_dropout_prob=0.0)
        assert not loaded.training
        assert loaded.config == replace(SMALL, class_dropout_prob=0.0)
        assert torch.equal(loaded(**inputs()), model(**inputs()))
    assert STDiT3.from_pretrained(tmp_path, dtype=torch.bfloat16).x_embedder.proj.weight.dtype is torch.bfloat16


def test_loading_refuses_another_network(tmp_path: Path) -> None:
    saved(tmp_path, network(), resolutions="360p", modes="t2v")
    STDiT3.from_pretrained(tmp_path, expect={"resolution": "360p"})
    with pytest.raises(ValueError, match="made for the resolution 360p, not for 720p"):
        STDiT3.from_pretrained(tmp_path, expect={"resolution": "720p"})
    with pytest.raises(CheckpointError, match=r"34 unexpected: spatial_blocks\.1\..* and 26 more"):
        STDiT3.from_pretrained(tmp_path, depth=1)
    saved(tmp_path, network(), family="2.0")
    with pytest.raises(ValueError, match=r"family 2\.0; 1\.3 is needed"):
        STDiT3.from_pretrained(tmp_path)


def test_loading_refuses_other_frequencies(tmp_path: Path) -> None:
    model = network()
    model.rope.freqs *= 2
    with pytest.raises(ValueError, match="other rotary frequencies"):
        STDiT3.from_pretrained(saved(tmp_path, model))
