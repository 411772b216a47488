"""Behaviour of MMDiT: configuration, batches, training, loading."""

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
from opensora.models.mmdit.config import FLUX, OPEN_SORA_2
from opensora.models.mmdit.mmdit import MMDiT, MMDiTConfig
from opensora.sampling.tokens import places

SMALL = MMDiTConfig(
    in_channels=8,
    vec_in_dim=10,
    context_in_dim=12,
    hidden_size=48,
    mlp_ratio=2.0,
    num_heads=2,
    depth=1,
    depth_single_blocks=2,
    axes_dim=(4, 8, 12),
)


def network(seed: int = 0, **overrides: Any) -> MMDiT:
    """A small network with every weight drawn, so that nothing is zero."""
    model = MMDiT(replace(SMALL, **overrides)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5 / math.sqrt(max(1, parameter[0].numel())), generator=generator)
    return model


def inputs(batch: int = 2, seed: int = 0, guidance: bool = False) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    ids = places((2, 6, 4))
    call = {
        "img": draw(batch, len(ids), 8),
        "img_ids": ids.repeat(batch, 1, 1),
        "txt": draw(batch, 5, 12),
        "txt_ids": torch.zeros(batch, 5, 3),
        "timesteps": torch.rand(batch, generator=generator),
        "y_vec": draw(batch, 10),
        "cond": draw(batch, len(ids), 12),
    }
    return call | ({"guidance": 4 * torch.rand(batch, generator=generator)} if guidance else {})


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


KINDS: list[dict[str, Any]] = [{}, {"fused_qkv": True, "use_liger_rope": False}, {"guidance_embed": True, "depth": 0}]


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_batch_equals_single(kind: dict[str, Any]) -> None:
    model, call = network(**kind), inputs(guidance="guidance_embed" in kind)
    call["img_ids"] = call["img_ids"] + torch.tensor([0.0, 3.0])[:, None, None]
    together = model(**call)
    for i in range(2):
        close(model(**{key: value[i : i + 1] for key, value in call.items()}), together[i : i + 1])


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_only_distances_count(kind: dict[str, Any]) -> None:
    """Moving all tokens of a sequence by the same step changes nothing."""
    model, call = network(**kind), inputs(guidance="guidance_embed" in kind)
    out = model(**call)
    step = torch.tensor([1.0, 5.0, 2.0])
    moved = {key: call[key] + step for key in ("img_ids", "txt_ids")}
    close(model(**call | moved), out)
    assert not torch.allclose(model(**call | {"img_ids": moved["img_ids"]}), out, atol=1e-3)


@torch.no_grad()
def test_results_repeat_exactly() -> None:
    model, call = network(), inputs()
    first = model(**call)
    model(**inputs(batch=1, seed=1))
    assert torch.equal(model(**call), first)
    assert first.dtype is torch.float32 and network().bfloat16()(**call).dtype is torch.float32


def loss(model: MMDiT, call: dict[str, Any]) -> Tensor:
    return model(**call).square().mean()


@pytest.mark.parametrize("kind", KINDS[:2])
def test_checkpointing_keeps_gradients(kind: dict[str, Any]) -> None:
    model, call = network(**kind), inputs()
    loss(model, call).backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.gradient_checkpointing = True
    loss(model, call).backward()
    assert plain.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        close(parameter.grad, plain[name])


def test_autocast_trains_close_to_float32() -> None:
    model, call = network(), inputs()
    loss(model, call).backward()
    exact = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss(model, call).backward()
    rounded = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert (rounded - exact).norm() < 0.03 * exact.norm()


def test_new_network_predicts_zero_and_every_weight_gets_a_gradient_soon() -> None:
    torch.manual_seed(0)
    model, call = MMDiT(SMALL).train(), inputs()
    assert not model(**call).any()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        value = (model(**call) - 1).square().mean()
        value.backward()
        losses.append(value.item())
        optimizer.step()
    assert losses == sorted(losses, reverse=True)
    silent = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert silent == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cond": None}, "cond is missing; this network needs it"),
        ({"guidance": torch.ones(2)}, "guidance is given, but this network has no embedding of it"),
        ({"img": torch.zeros(2, 12, 9)}, r"img is \(2, 12, 9\); expected \(2, 12, 8\)"),
        ({"img_ids": torch.zeros(2, 11, 3)}, r"img_ids is \(2, 11, 3\); expected \(2, 12, 3\)"),
        ({"txt": torch.zeros(1, 5, 12)}, r"txt is \(1, 5, 12\); expected \(2, 5, 12\)"),
        ({"txt_ids": torch.zeros(2, 4, 3)}, r"txt_ids is \(2, 4, 3\); expected \(2, 5, 3\)"),
        ({"cond": torch.zeros(2, 12, 8)}, r"cond is \(2, 12, 8\); expected \(2, 12, 12\)"),
    ],
)
def test_wrong_inputs_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network()(**inputs() | change)


def test_networks_without_conditions_refuse_them() -> None:
    model = network(guidance_embed=True, cond_embed=False)
    with pytest.raises(ValueError, match="cond is given, but this network has no embedding"):
        model(**inputs(guidance=True))
    call = {key: value for key, value in inputs().items() if key != "cond"}
    with pytest.raises(ValueError, match="guidance is missing"):
        model(**call)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 50}, "axes_dim is .* a head, 25"),
        ({"hidden_size": 49}, "hidden_size is 49 with 2 heads"),
        ({"num_heads": 0}, "num_heads is 0; expected at least 1"),
        ({"depth": -1}, "depth is -1; expected 0 or more"),
        ({"theta": 0}, "theta is 0; expected more than 0"),
        ({"in_channels": 6}, "in_channels is 6 with patch_size 2; expected a multiple of 4"),
        ({"axes_dim": (5, 7, 12)}, "expected even numbers whose sum is the width of a head, 24"),
    ],
)
def test_wrong_configurations_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_configuration_goes_through_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(asdict(SMALL)))
    assert MMDiTConfig.from_file(tmp_path / "config.json") == SMALL
    published = {"type": "flux", "from_pretrained": "weights.safetensors", "grad_ckpt_settings": [8, 100]}
    assert MMDiTConfig.from_dict(published) == OPEN_SORA_2
    with pytest.raises(ValueError, match="hidden_size"):
        MMDiTConfig.from_dict({"hiden_size": 3})
    (tmp_path / "config.json").write_text('{"type": "stdit3"}')
    with pytest.raises(ValueError, match=r"config\.json: the configuration is of the type 'stdit3'"):
        MMDiTConfig.from_file(tmp_path / "config.json")


def saved(folder: Path, model: MMDiT, **metadata: str) -> Path:
    (folder / "config.json").write_text(json.dumps(asdict(model.config)))
    safetensors_io.save(model, folder / "model.safetensors", {"role": "stdit", "family": "2.0", **metadata})
    return folder


@torch.no_grad()
def test_loading_from_a_folder_and_a_file(tmp_path: Path) -> None:
    model = network()
    saved(tmp_path, model)
    for source in (tmp_path, str(tmp_path / "model.safetensors")):
        loaded = MMDiT.from_pretrained(source, theta=500)
        assert not loaded.training
        assert loaded.config == replace(SMALL, theta=500)
        assert not torch.equal(loaded(**inputs()), model(**inputs()))
    assert torch.equal(MMDiT.from_pretrained(tmp_path)(**inputs()), model(**inputs()))
    assert MMDiT.from_pretrained(tmp_path, dtype=torch.bfloat16).img_in.weight.dtype is torch.bfloat16


@torch.no_grad()
def test_published_files_have_no_configuration(tmp_path: Path) -> None:
    model = network()
    (saved(tmp_path, model) / "config.json").unlink()
    loaded = MMDiT.from_pretrained(tmp_path / "model.safetensors", default=SMALL)
    assert torch.equal(loaded(**inputs()), model(**inputs()))


def test_loading_refuses_another_network(tmp_path: Path) -> None:
    saved(tmp_path, network(), resolutions="256px", modes="t2v")
    MMDiT.from_pretrained(tmp_path, expect={"resolution": "256px"})
    with pytest.raises(ValueError, match="made for the resolution 256px, not for 768px"):
        MMDiT.from_pretrained(tmp_path, expect={"resolution": "768px"})
    with pytest.raises(CheckpointError, match=r"12 unexpected: single_blocks\.1\."):
        MMDiT.from_pretrained(tmp_path, depth_single_blocks=1)
    with pytest.raises(CheckpointError, match=r"missing: .*guidance_in"):
        MMDiT.from_pretrained(tmp_path, guidance_embed=FLUX.guidance_embed)
    saved(tmp_path, network(), family="1.3")
    with pytest.raises(ValueError, match=r"family 1\.3; 2\.0 is needed"):
        MMDiT.from_pretrained(tmp_path)
