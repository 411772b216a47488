"""LoRA files with random terms for some layers of a network, as peft writes them."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

PREFIX = "base_model.model."


def write_lora(
    folder: Path, network: nn.Module, layers: list[str], seed: int = 0, prefix: str = PREFIX, **config: Any
) -> Path:
    """A folder of peft for these layers; returns it."""
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", **config}
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(tensors(network, layers, seed, prefix, settings["r"]), folder / "adapter_model.safetensors")
    return folder


def tensors(network: nn.Module, layers: list[str], seed: int, prefix: str = PREFIX, rank: int = 2) -> dict[str, Tensor]:
    """Halves of random terms as large as the weights."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in layers:
        weight = network.get_submodule(layer).weight
        assert isinstance(weight, Tensor)
        ones = [1] * (weight.ndim - 2)
        shapes = {"A": (rank, *weight.shape[1:]), "B": (weight.shape[0], rank, *ones)}
        for half, shape in shapes.items():
            found[f"{prefix}{layer}.lora_{half}.weight"] = torch.randn(shape, generator=generator) * 0.3
    return found
