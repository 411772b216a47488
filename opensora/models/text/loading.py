"""From a folder or hub id to a text encoder of transformers, strictly: nothing missing, nothing made up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoTokenizer, CLIPTextModel, PreTrainedModel, PreTrainedTokenizerBase, T5EncoderModel

from opensora.checkpoint.layout import CLIP, T5, Layout, pickles_allowed, present, read_object
from opensora.checkpoint.locate import resolve
from opensora.checkpoint.safetensors_io import CheckpointError, listed, refuse_quantised


@dataclass(frozen=True)
class Kind:
    """One of the two encoders that the published networks read."""

    module: type[PreTrainedModel]
    """The class of transformers."""
    output_key: str
    """The field of its output that the networks read."""
    layout: Layout
    """Files that a hub repository must give."""
    other_half: tuple[str, ...]
    """Beginnings of tensors of the whole network, of which only the text encoder is wanted."""
    prefix: str = ""
    """Beginning of the text encoder's tensors in published files that transformers takes away."""


KINDS: dict[str, Kind] = {
    "T5EncoderModel": Kind(T5EncoderModel, "last_hidden_state", T5, ("decoder.", "lm_head.")),
    "CLIPTextModel": Kind(
        CLIPTextModel,
        "pooler_output",
        CLIP,
        (
            "vision_model.",
            "visual_projection.",
            "text_projection.",
            "logit_scale",
            "text_model.embeddings.position_ids",
        ),
        prefix="text_model.",
    ),
}
"""Encoders by the published value of ``hf_module``."""

MODEL_TYPES = {"t5": "T5EncoderModel", "clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel"}
"""What a checkpoint calls itself in its config.json."""


def kind_of(source: str | Path) -> str:
    """What an encoder is by its config.json, a name of :data:`KINDS`; of a hub id only that file is downloaded.

    Where the configuration does not say, "openai" in the source means CLIP, as it was published.

    Raises:
        ValueError: nothing by that name, or neither T5 nor CLIP.
    """
    said = read_object(resolve(source, "config.json")).get("model_type")
    if said is None:
        return "CLIPTextModel" if "openai" in str(source) else "T5EncoderModel"
    if said not in MODEL_TYPES:
        raise ValueError(f"the checkpoint {Path(source).name} is a {str(said)[:40]!r}; expected T5 or CLIP.")
    return MODEL_TYPES[said]


def folder_of(source: str | Path, name: str) -> Path:
    """Folder with the files of an encoder; a hub id is downloaded where it is not here.

    Args:
        source: folder or hub id.
        name: of :data:`KINDS`.

    Raises:
        ValueError: nothing by that name, or not all files.
    """
    path = resolve(source, layout=KINDS[name].layout)
    return path if path.is_dir() else path.parent


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside an encoder.

    Raises:
        CheckpointError: its files are damaged.
    """
    tokenizer: PreTrainedTokenizerBase = _read("tokenizer", folder, AutoTokenizer.from_pretrained)
    return tokenizer


def read_network(name: str, folder: Path, **settings: Any) -> PreTrainedModel:
    """The encoder, frozen, in eval mode, on the CPU.

    Args:
        name: of :data:`KINDS`.
        folder: with config.json and weights.
        settings: of the class's own ``from_pretrained``, such as ``dtype``.

    Raises:
        CheckpointError: missing, unexpected, misshapen or quantised tensors, listed; damaged files; a pickle that holds
            more than tensors, which is not run.
        LayoutError: no weights, or pickled ones that nobody allowed.
    """
    kind = KINDS[name]
    present(folder, replace(kind.layout, required=(), optional=()), folder.name)
    load = partial(
        kind.module.from_pretrained,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        use_safetensors=None if pickles_allowed() else True,
        weights_only=True,
    )
    network, found = _read("weights", folder, load, **settings)
    _refuse_misfits(folder.name, kind, found)
    _refuse_whole_numbers(folder, kind, network)
    frozen: PreTrainedModel = network.eval().requires_grad_(False)
    return frozen


def _read(what: str, folder: Path, load: Callable[..., Any], **settings: Any) -> Any:
    """What a loader of transformers makes of a folder; it raises all kinds on damaged files."""
    try:
        return load(folder, **settings)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"The {what} of the text encoder in {folder.name} cannot be read ({type(error).__name__}); the files are "
            "damaged or of another network. Get them again."
        ) from error


def _refuse_misfits(where: str, kind: Kind, found: Mapping[str, Any]) -> None:
    """transformers fills what it did not find with random numbers; here that is an error."""
    problems = {
        "missing": found["missing_keys"],
        "unexpected": [name for name in found["unexpected_keys"] if not name.startswith(kind.other_half)],
        "of another shape": [name for name, *_ in found["mismatched_keys"]],
    }
    lines = [f"  {len(names)} {problem}: {listed(sorted(names))}" for problem, names in problems.items() if names]
    if lines:
        raise CheckpointError("\n".join([f"{where} does not fit this text encoder:", *lines]))


def _refuse_whole_numbers(folder: Path, kind: Kind, network: nn.Module) -> None:
    """transformers reads quantised weights without their scales; here that is an error."""
    weights = network.state_dict()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as reader:
            names = [name for name in list(reader.keys()) if name.removeprefix(kind.prefix) in weights]
            refuse_quantised({name: reader.get_slice(name).get_dtype() for name in names})
