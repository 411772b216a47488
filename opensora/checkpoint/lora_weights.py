"""LoRA weights on a finished network, merged while a ``with`` lasts.

They are merged, not added by hooks: it costs nothing in the steps, and a hook would miss the layers whose weight is
read without a call (patch embeddings are one matrix product). Afterwards every layer gets the very tensor back that it
had, or its copy from main memory where the network is on a GPU, so the network is equal bit by bit; subtracting
the term again would leave rounding errors.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from opensora.checkpoint.lora import LoraError, LoraFile, guess, half_of, refuse, seems_for
from opensora.sentences import say

LAYERS = (nn.Linear, nn.Conv2d, nn.Conv3d)
"""Layers that a LoRA can change."""


@dataclass(frozen=True)
class Lora:
    """A LoRA in memory."""

    file: LoraFile
    """What it changes."""
    strength: float
    """Factor of the whole; 0 changes nothing."""
    sha256: str
    """Of the safetensors file, 64 hexadecimal digits."""
    tensors: Mapping[str, tuple[Tensor, Tensor]]
    """A (r, in, …) and B (out, r, …) by layer, on the CPU."""

    def term(self, layer: str, weight: Tensor) -> Tensor:
        """What is added to a layer's weight, float32 of its shape, on its device."""
        a, b = (half.to(weight.device, torch.float32) for half in self.tensors[layer])
        return (b.flatten(1) @ a.flatten(1)).view(weight.shape) * (self.strength * self.file.scale(layer))


def load_lora(file: LoraFile, strength: float) -> Lora:
    """Read the tensors of a LoRA.

    Raises:
        LoraError: the file cannot be read, changed since it was opened, or holds values that are no numbers.
    """
    try:
        data = file.path.read_bytes()
        held = safetensors.torch.load(data)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise LoraError(say("lora.again", name=file.name, kind=type(error).__name__)) from None
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in held.items():
        layer, half = half_of(key)
        found.setdefault(layer, {})[half] = tensor
    shapes = {layer: tuple(tuple(pair[half].shape) for half in sorted(pair)) for layer, pair in found.items()}
    if shapes != file.layers:
        raise LoraError(say("lora.changed", name=file.name))
    whole = sorted(key for key, tensor in held.items() if not tensor.is_floating_point())
    broken = sorted(
        key for key, tensor in held.items() if tensor.is_floating_point() and not bool(tensor.float().isfinite().all())
    )
    refuse(
        say("lora.unusable", name=file.name),
        {say("lora.whole"): whole, say("lora.broken"): broken},
        guess(file.layers),
    )
    tensors = {layer: (pair["A"], pair["B"]) for layer, pair in found.items()}
    return Lora(file, strength, hashlib.sha256(data).hexdigest(), tensors)


def require_fit(network: nn.Module, file: LoraFile) -> None:
    """Refuse a LoRA for another network.

    Args:
        network: may be on the meta device.

    Raises:
        LoraError: lists layers that the network does not have and those of another shape, and says which network the
            file seems to be for.
    """
    weights = _weights(network)
    unknown = [name for name in file.layers if name not in weights]
    misshapen = []
    for name, (a, b) in file.layers.items():
        if name in weights:
            needed, made = tuple(weights[name].shape), (b[0], *a[1:])
            if needed != made:
                misshapen.append(f"{name} is {list(made)} in the file, {list(needed)} in the network")
    here, there = seems_for(weights), seems_for(file.layers)
    kind = type(network).__name__
    same = here == there and there is not None
    refuse(
        say("lora.misfit", name=file.name, kind=kind, count=len(file.layers)),
        {say("lora.unknown"): unknown, say("lora.misshapen"): misshapen},
        say("lora.for.other", kind=kind) if same else guess(file.layers),
    )


@contextmanager
def wearing(network: nn.Module, loras: Sequence[Lora]) -> Iterator[None]:
    """Merge LoRAs into a network until the block ends, whatever ends it; their order does not matter.

    The sum is made in float32 and rounded once to the network's dtype. Nobody else may use the network meanwhile.

    Args:
        network: any network with the layers that they change.
        loras: several add up; those of strength 0 touch nothing.

    Raises:
        LoraError: one does not fit; nothing was changed.
    """
    for lora in loras:
        require_fit(network, lora.file)
    effective = sorted((lora for lora in loras if lora.strength != 0), key=lambda lora: (lora.sha256, lora.strength))
    weights = _weights(network)
    kept: dict[str, Tensor] = {}
    try:
        with torch.no_grad():
            for name in sorted({name for lora in effective for name in lora.tensors}):
                weight = weights[name]
                terms = [lora.term(name, weight) for lora in effective if name in lora.tensors]
                merged = (weight.float() + torch.stack(terms).sum(0)).to(weight.dtype)
                kept[name] = weight.data.cpu()
                weight.data = merged
        yield
    finally:
        for name, original in kept.items():
            weights[name].data = original.to(weights[name].device)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Weights that can be changed, by the name of their layer."""
    return {
        name: layer.weight
        for name, layer in network.named_modules()
        if isinstance(layer, LAYERS) and getattr(layer, "groups", 1) == 1
    }
