"""LoRA files in peft's layout: what they change and how strongly, before a tensor is read.

A layer of weight W (out, in, …) becomes ``W + strength * alpha / r * B A`` with A (r, in, …) and B (out, r). The file
holds them as ``base_model.model.<layer>.lora_A.weight`` and ``lora_B.weight``, with or without the prefix; r and alpha
are in ``adapter_config.json`` beside it.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensora.checkpoint.identity import IdentityError, read_header
from opensora.checkpoint.layout import LayoutError, read_object

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
"""Names in a folder that peft wrote."""

Shape = tuple[int, ...]

_KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])\.weight")
_ONLY_PLAIN = {
    "use_dora": "magnitudes of DoRA",
    "modules_to_save": "whole layers besides the low-rank ones",
    "alpha_pattern": "an alpha for each layer",
    "fan_in_fan_out": "transposed weights",
    "lora_bias": "biases",
    "layer_replication": "repeated layers",
    "target_parameters": "parameters that are no layer's weight",
    "trainable_token_indices": "tokens",
}
"""Settings of peft that would change more than the weights of layers, and what they are about."""
_NETWORKS = {
    "MMDiT (2.0 or FLUX.1)": ("double_blocks.", "single_blocks."),
    "STDiT3 (1.2 or 1.3)": ("spatial_blocks.", "temporal_blocks."),
    "a network in diffusers' layout": ("transformer_blocks.", "single_transformer_blocks.", "down_blocks.", "unet."),
    "a text encoder": ("encoder.block.", "text_model."),
    "a language model": ("model.layers.", "layers."),
}
"""Beginnings of layers' names by the network that has them."""


class LoraError(ValueError):
    """A LoRA file is damaged, is of another kind, or does not fit. The message is for people and names no folder."""


@dataclass(frozen=True)
class LoraFile:
    """What the header and the configuration of a LoRA say."""

    name: str
    """What a person calls it: the file's name, or the folder's."""
    path: Path
    """Its safetensors file."""
    layers: Mapping[str, tuple[Shape, Shape]]
    """Shapes of A and B by the name of the layer in the network."""
    alpha: float | None
    """Numerator of the scale; ``None``: every layer's own rank, which makes the scale 1."""
    by_root: bool = False
    """Whether alpha is divided by the root of the rank (peft's ``use_rslora``)."""

    def scale(self, layer: str) -> float:
        """The factor of a layer's ``B A`` at strength 1."""
        rank = self.layers[layer][0][0]
        return 1.0 if self.alpha is None else self.alpha / (math.sqrt(rank) if self.by_root else rank)


def open_lora(source: Path) -> LoraFile:
    """Read what a LoRA changes; reads no tensor.

    Args:
        source: a folder that peft wrote, or a safetensors file. ``adapter_config.json`` is read from the same folder;
            without one alpha is ``lora_alpha`` of the file's metadata, or the rank.

    Raises:
        LoraError: no such file, a pickled or damaged one, tensors that are no pairs of A and B (listed), or settings
            that are more than low-rank weights.
    """
    name = source.name or str(source)
    path = _weights(source, name)
    config = path.parent / CONFIG
    try:
        settings = read_object(config) if config.is_file() or source.is_dir() else None
        header = read_header(path)
    except (IdentityError, LayoutError) as error:
        raise LoraError(f"The LoRA {name} cannot be used: {error}") from None
    except OSError as error:
        raise LoraError(f"The LoRA {name} cannot be read: {error.strerror}.") from None
    if settings is None:
        told = header.metadata.get("lora_alpha")
        own = None if told is None else _number(name, "lora_alpha", told)
        return LoraFile(name, path, _pairs(name, header.shapes, None), own)
    _refuse_more(name, settings)
    rank = settings.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise LoraError(
            f"The LoRA {name} has the rank r = {rank!r:.40} in {CONFIG}; expected a whole number from 1 on."
        )
    layers = _pairs(name, header.shapes, None if settings.get("rank_pattern") else rank)
    alpha = _number(name, "lora_alpha", settings.get("lora_alpha"))
    return LoraFile(name, path, layers, alpha, by_root=bool(settings.get("use_rslora")))


def half_of(key: str) -> tuple[str, str]:
    """The layer that a tensor is for, and whether it is its ``A`` or its ``B``; nothing where it is neither."""
    match = _KEY.fullmatch(key)
    return ("", "") if match is None else (match[1], match[2])


def seems_for(layers: Iterable[str]) -> str | None:
    """The network that has layers of such names; ``None`` for none that is known."""
    names = list(layers)
    for network, beginnings in _NETWORKS.items():
        if any(name.startswith(beginnings) for name in names):
            return network
    return None


def _weights(source: Path, name: str) -> Path:
    """The safetensors file of a folder, or the file itself."""
    try:
        is_folder, is_file = source.is_dir(), source.is_file()
    except (OSError, ValueError):  # a name that no file can have
        is_folder = is_file = False
    path = source / WEIGHTS if is_folder else source
    if not is_folder and not is_file:
        raise LoraError(f"There is no LoRA {name[:80]!r}; give a safetensors file, or a folder with {WEIGHTS}.")
    if not path.is_file():
        held = "adapter_model.bin, a pickle that can run code" if (source / "adapter_model.bin").is_file() else "none"
        raise LoraError(f"The folder {name} needs {WEIGHTS} and has {held}; save the LoRA as safetensors.")
    if path.suffix != ".safetensors":
        raise LoraError(
            f"The LoRA {path.name} does not end in .safetensors; only such files are loaded, because others can run "
            "code."
        )
    return path


def _refuse_more(name: str, settings: Mapping[str, Any]) -> None:
    kind = settings.get("peft_type", "LORA")
    if kind != "LORA":
        raise LoraError(f"The adapter {name} is of the kind {kind!r:.40}; only LORA can be used.")
    more = [words for field, words in _ONLY_PLAIN.items() if settings.get(field)]
    more += ["biases"] if settings.get("bias", "none") not in (None, "none") else []
    if more:
        raise LoraError(f"The LoRA {name} has {', '.join(more)}, which cannot be used; only low-rank weights can.")


def _number(name: str, field: str, value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise LoraError(f"The LoRA {name} has {field} = {value!r:.40}; expected a number.")
    return number


def _pairs(name: str, shapes: Mapping[str, Shape], rank: int | None) -> dict[str, tuple[Shape, Shape]]:
    """Shapes of A and B by layer.

    Args:
        rank: what every layer has to have; ``None`` where each has its own.
    """
    halves: dict[str, dict[str, Shape]] = {}
    others = []
    for key, shape in shapes.items():
        layer, half = half_of(key)
        if not half or half in halves.get(layer, {}):
            others.append(key)
        else:
            halves.setdefault(layer, {})[half] = shape
    lone = sorted(layer for layer, pair in halves.items() if len(pair) < 2)
    pairs = {layer: (pair["A"], pair["B"]) for layer, pair in sorted(halves.items()) if len(pair) == 2}
    unlike = [f"{layer}: A {list(a)}, B {list(b)}" for layer, (a, b) in pairs.items() if not _low_rank(a, b, rank)]
    wanted = "ranks that differ" if rank is None else f"another rank than r = {rank}"
    refuse(
        f"The LoRA {name} cannot be used ({len(shapes)} tensors; expected pairs of lora_A.weight and lora_B.weight)",
        {"that are no such pair": sorted(others), "layers with one half only": lone, f"layers with {wanted}": unlike},
        seems_for([*halves, *others]),
    )
    if not pairs:
        raise LoraError(f"The LoRA {name} is empty: it changes no layer.")
    return pairs


def _low_rank(a: Shape, b: Shape, rank: int | None) -> bool:
    """Whether A (r, in, …) and B (out, r, 1, …) make a weight."""
    alike = len(a) == len(b) >= 2 and a[0] == b[1] >= 1 and set(b[2:]) <= {1}
    return alike and (rank is None or a[0] == rank)


def refuse(what: str, problems: Mapping[str, list[str]], network: str | None) -> None:
    """Raise if there are problems.

    Args:
        what: the beginning of the error.
        problems: names by what is wrong with them.
        network: what it seems to be for.

    Raises:
        LoraError: lists them.
    """
    from opensora.checkpoint.safetensors_io import listed

    lines = [f"  {len(names)} {kind}: {listed(names)}" for kind, names in problems.items() if names]
    if lines:
        guess = "It is for no network that is known here." if network is None else f"It seems to be for {network}."
        raise LoraError("\n".join([f"{what}:", *lines, guess]))
