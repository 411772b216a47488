"""LoRA files in peft's layout: what they change and how strongly, before a tensor is read.

A layer of weight W (out, in, …) becomes ``W + strength * alpha / r * B A`` with A (r, in, …) and B (out, r). The file
holds them as ``base_model.model.<layer>.lora_A.weight`` and ``lora_B.weight``, with or without the prefix; r and alpha
are in ``adapter_config.json`` beside it.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensora.checkpoint.identity import IdentityError, read_header
from opensora.checkpoint.layout import LayoutError, read_object
from opensora.sentences import say

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
"""Names in a folder that peft wrote."""

Shape = tuple[int, ...]

_KEY = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])\.weight")
_ONLY_PLAIN = {
    "use_dora": say("lora.has.dora"),
    "modules_to_save": say("lora.has.whole"),
    "alpha_pattern": say("lora.has.alphas"),
    "fan_in_fan_out": say("lora.has.turned"),
    "lora_bias": say("lora.has.biases"),
    "layer_replication": say("lora.has.repeated"),
    "target_parameters": say("lora.has.parameters"),
    "trainable_token_indices": say("lora.has.tokens"),
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
_NAMED = {
    "a network in diffusers' layout": say("lora.for.diffusers"),
    "a text encoder": say("lora.for.text"),
    "a language model": say("lora.for.language"),
}
"""Sentences of those networks that have no name of their own."""


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
        raise LoraError(say("lora.file", name=name, why=str(error))) from None
    except OSError as error:
        raise LoraError(say("lora.unreadable", name=name, reason=f"{error.strerror}")) from None
    if settings is None:
        told = header.metadata.get("lora_alpha")
        own = None if told is None else _number(name, "lora_alpha", told)
        return LoraFile(name, path, _pairs(name, header.shapes, None), own)
    _refuse_more(name, settings)
    rank = settings.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise LoraError(say("lora.rank", name=name, got=f"{rank!r:.40}", file=CONFIG))
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
        raise LoraError(say("lora.none", name=repr(name[:80]), file=WEIGHTS))
    if not path.is_file():
        pickled = (source / "adapter_model.bin").is_file()
        told = {"name": name, "file": WEIGHTS}
        raise LoraError(say("lora.folder.pickle", **told) if pickled else say("lora.folder", **told))
    if path.suffix != ".safetensors":
        raise LoraError(say("lora.ending", name=path.name))
    return path


def _refuse_more(name: str, settings: Mapping[str, Any]) -> None:
    kind = settings.get("peft_type", "LORA")
    if kind != "LORA":
        raise LoraError(say("lora.kind", name=name, got=f"{kind!r:.40}"))
    more = [words for field, words in _ONLY_PLAIN.items() if settings.get(field)]
    more += [say("lora.has.biases")] if settings.get("bias", "none") not in (None, "none") else []
    if more:
        raise LoraError(say("lora.more", name=name, what=listing(more)))


def _number(name: str, field: str, value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise LoraError(say("lora.number", name=name, field=field, got=f"{value!r:.40}"))
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
    ranks = say("lora.ranks") if rank is None else say("lora.ranks.other", rank=rank)
    refuse(
        say("lora.pairs", name=name, count=len(shapes)),
        {say("lora.unpaired"): sorted(others), say("lora.halves"): lone, ranks: unlike},
        guess([*halves, *others]),
    )
    if not pairs:
        raise LoraError(say("lora.empty", name=name))
    return pairs


def _low_rank(a: Shape, b: Shape, rank: int | None) -> bool:
    """Whether A (r, in, …) and B (out, r, 1, …) make a weight."""
    alike = len(a) == len(b) >= 2 and a[0] == b[1] >= 1 and set(b[2:]) <= {1}
    return alike and (rank is None or a[0] == rank)


def guess(layers: Iterable[str]) -> str:
    """A sentence on the network that has layers of such names."""
    network = seems_for(layers)
    return say("lora.for.none") if network is None else say("lora.for", network=_NAMED.get(network, network))


def listing(texts: Sequence[str]) -> str:
    """Texts with commas between them, which may be sentences."""
    first, *rest = texts
    return say("list.next", first=first, rest=listing(rest)) if rest else first


def refuse(what: str, problems: Mapping[str, list[str]], guessed: str) -> None:
    """Raise if there are problems.

    Args:
        what: the beginning of the error, a sentence.
        problems: names by what is wrong with them.
        guessed: a sentence on what it seems to be for.

    Raises:
        LoraError: lists them.
    """
    from opensora.checkpoint.safetensors_io import listed

    lines = ""
    for kind, names in reversed(list(problems.items())):
        if names:
            line = {"count": len(names), "kind": kind, "names": listed(names)}
            lines = say("lora.lines", rest=lines, **line) if lines else say("lora.line", rest=guessed, **line)
    if lines:
        raise LoraError(say("lora.refused", what=what, lines=lines))
