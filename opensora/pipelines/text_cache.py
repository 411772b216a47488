"""Where features of texts are kept between runs, and what they depend on."""

import hashlib
from pathlib import Path

import torch

from opensora.checkpoint.layout import CLIP, T5
from opensora.models.text.embedding_cache import EmbeddingCache
from opensora.models.text.precision import QUANTISED
from opensora.pipelines.plan import device_name, versions
from opensora.pipelines.remembered import cache_folder

COMPANIONS = tuple(dict.fromkeys(name for layout in (T5, CLIP) for name in (*layout.required, *layout.optional)))
"""Small files beside an encoder's weights that decide what it makes of a text, where they are there."""


def text_cache(encoder: Path, weights: str, precision: str, device: torch.device) -> EmbeddingCache:
    """Features of an encoder in the user's cache folder.

    Args:
        encoder: folder with the encoder's configuration and tokenizer.
        weights: sha256 of its weights.
        precision: in which it computes, such as ``fp32``.
        device: where it computes.
    """
    more = ["bitsandbytes"] if precision in QUANTISED else []
    known = versions(*more)
    identity = {
        "weights": weights,
        "files": [_digest(encoder / name) for name in COMPANIONS],
        "precision": precision,
        "device": [device.type, device_name(device)],
        "versions": [known[name] for name in ("torch", "transformers", "tokenizers", *more)],
    }
    return EmbeddingCache(identity, cache_folder() / "text")


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
