"""Which files of a folder or a hub repository make a checkpoint.

A checkpoint is weights plus companions (configuration, tokenizer). Weights are one safetensors file, or shards with
an index (`model.safetensors.index.json`, whose `weight_map` names the shard of every tensor). PyTorch pickles are
considered only where `OPENSORA_ALLOW_PICKLE` says so, a `Layout` admits them and no safetensors are there.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

SINGLE = ("model.safetensors", "diffusion_pytorch_model.safetensors")
"""Names of unsharded weights in the order of preference."""
PICKLES = ("pytorch_model.bin",)
ALLOW_PICKLE = "OPENSORA_ALLOW_PICKLE"
"""Variable that admits pickled weights; what the option ``--allow-pickle`` sets, so that workers know it too."""
INDEX_SUFFIX = ".index.json"


class LayoutError(ValueError):
    """A folder or repository does not hold the files of a checkpoint; the message names them."""


@dataclass(frozen=True)
class Layout:
    """The files that one role of network needs."""

    required: tuple[str, ...] = ()
    """Companions without which the checkpoint is of no use."""
    optional: tuple[str, ...] = ("config.json",)
    """Companions taken when they are there."""
    weights: tuple[str, ...] | None = None
    """Exact names of the weights, or None: find them by the usual names. Empty: companions only."""
    pickle: bool = False
    """Whether `pytorch_model.bin` will do when there are no safetensors and :func:`pickles_allowed`."""

    def choose(self, names: Iterable[str], where: str) -> "Chosen":
        """Pick from `names` (paths relative to the root, with '/').

        Args:
            names: what the folder or repository holds.
            where: how to call it in an error, for example ``the hub repository a/b``.
        Raises:
            LayoutError: a required file or the weights are missing, or the weights are ambiguous.
        """
        held = {name for name in names if is_plain(name)}
        missing = [name for name in (*self.required, *(self.weights or ())) if name not in held]
        if missing:
            raise LayoutError(f"{where} lacks {', '.join(missing)}.")
        companions = [*self.required, *(n for n in self.optional if n in held and n not in self.required)]
        if self.weights is not None:
            return Chosen(tuple(companions), None, self.weights)
        found = self._find_weights(held, where)
        if found.endswith(INDEX_SUFFIX):
            return Chosen((*companions, found), found, ())
        return Chosen(tuple(companions), None, (found,))

    def _find_weights(self, held: set[str], where: str) -> str:
        """The single weights file or the index of the shards."""
        kinds = (*SINGLE, *PICKLES) if self.pickle and pickles_allowed() else SINGLE
        for name in kinds:
            for candidate in (name, name + INDEX_SUFFIX):
                if candidate in held:
                    return candidate
        others = sorted(n for n in held if "/" not in n and n.endswith(".safetensors"))
        if len(others) == 1:
            return others[0]
        if others:
            raise LayoutError(f"{where} holds several weights, name one: {', '.join(others)}.")
        pickles = sorted(n for n in held if n.endswith((".bin", ".pt", ".pth", ".ckpt")))
        if pickles:
            way = f", or the option --allow-pickle ({ALLOW_PICKLE}=1) if you trust them" if self.pickle else ""
            raise LayoutError(
                f"{where} holds only pickled weights ({', '.join(pickles[:4])}), which can run code when loaded; "
                f"safetensors are needed{way}."
            )
        raise LayoutError(
            f"{where} holds no weights; expected {SINGLE[0]} or {SINGLE[0]}{INDEX_SUFFIX} with its shards."
        )


@dataclass(frozen=True)
class Chosen:
    """The files of one checkpoint."""

    companions: tuple[str, ...]
    """Small files: configuration, tokenizer, and the index of sharded weights."""
    index: str | None
    """The index of sharded weights; its shards are `shards(index)`."""
    weights: tuple[str, ...]
    """Weight files, empty while an index is to be read first."""


def pickles_allowed() -> bool:
    """Whether whoever started the program admits pickled weights, where a `Layout` does: `OPENSORA_ALLOW_PICKLE`."""
    return os.environ.get(ALLOW_PICKLE, "").lower() in ("1", "on", "yes", "true")


def shards(index: Path) -> tuple[str, ...]:
    """The shard files that a `*.index.json` names, sorted.

    Raises:
        LayoutError: it is not an index, or names a file outside its own folder.
    """
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        raise LayoutError(f"{index.name} is not an index of weights: it has no weight_map.") from None
    for name in names:
        if not isinstance(name, str) or not is_plain(name) or "/" in name:
            raise LayoutError(f"{index.name} names the shard {name!r}, which is not a file beside it.")
    if not names:
        raise LayoutError(f"{index.name} names no shards.")
    return tuple(sorted(names))


def read_object(path: Path) -> dict[str, Any]:
    """The object in a small JSON file of a checkpoint, such as its config.json.

    Raises:
        LayoutError: it cannot be read, or is no JSON object; names the file and its folder.
    """
    name = f"{path.parent.name}/{path.name}"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LayoutError(f"{name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise LayoutError(f"{name} is not JSON, or is damaged; get it again.") from error
    if not isinstance(values, dict):
        raise LayoutError(f"{name} is a JSON {type(values).__name__}; expected an object of settings.")
    return values


def present(folder: Path, layout: Layout, where: str) -> tuple[str, ...]:
    """The names of all files of the checkpoint in `folder`, companions first.

    Raises:
        LayoutError: the folder does not hold all of them; the message names what is missing.
    """
    beside = [path.name for path in folder.iterdir()]
    named = [*layout.required, *layout.optional, *(layout.weights or ())]
    chosen = layout.choose([name for name in {*beside, *named} if (folder / name).is_file()], where)
    if chosen.index is None:
        return chosen.companions + chosen.weights
    parts = shards(folder / chosen.index)
    missing = [name for name in parts if not (folder / name).is_file()]
    if missing:
        raise incomplete(where, missing, len(parts))
    return chosen.companions + parts


def incomplete(where: str, missing: Sequence[str], count: int) -> LayoutError:
    """The error for `count` shards of which some are missing."""
    return LayoutError(f"{where} is incomplete: {len(missing)} of {count} shards are missing, {missing[0]} first.")


def is_plain(name: str) -> bool:
    """Whether `name` stays inside the folder that it is joined to, on any operating system."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and not set(name) & set('\\:*?"<>|\0')


CHECKPOINT = Layout(optional=("config.json",))
"""STDiT3 and autoencoders: weights, and a configuration where there is one."""

T5 = Layout(
    required=("config.json", "spiece.model"),
    optional=("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    pickle=True,
)
"""A T5 encoder with its tokenizer. Published ones are pickled too; `models/text/loading.py` reads those with
`weights_only`."""

CLIP = Layout(
    required=("config.json", "vocab.json", "merges.txt"),
    optional=("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
)
"""A CLIP text encoder, alone or with its vision half, with its tokenizer."""
