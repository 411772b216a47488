"""The text encoder of the 1.x pipelines: T5 with a token mask, known prompts kept, and the denoiser's null text.

Legend: B prompts, L tokens, E width of the features.
"""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from opensora.models.text.conditioner import HFEmbedder
from opensora.models.text.embedding_cache import EmbeddingCache
from opensora.models.text.precision import TextSettings


class T5Embedder:
    """The encoder with its tokenizer; ``model`` is the transformers encoder."""

    def __init__(self, embedder: HFEmbedder) -> None:
        self.embedder = embedder

    @property
    def model(self) -> PreTrainedModel:
        """The transformers encoder."""
        return self.embedder.hf_module

    def embed(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Texts -> features (B, M, E) and token mask (B, M), M the tokens of the longest.

        Padding is not attended to, so leaving out what all texts have of it changes nothing but rounding.
        """
        ids, mask = self.embedder.tokenize(texts)
        longest = max(1, int(mask.sum(1).max()))
        mask = mask[:, :longest].to(self.model.device)
        return self.embedder.encode(ids[:, :longest], mask), mask


class T5Encoder:
    """What ``build_models`` returns as ``text_encoder``; ``y_embedder`` is the denoiser's, which owns the null text."""

    def __init__(self, t5: T5Embedder) -> None:
        self.t5 = t5
        self.y_embedder: nn.Module | None = None
        self.cache = EmbeddingCache()

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        max_length: int = 300,
        settings: TextSettings | None = None,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Load a T5 encoder from a folder or hub id.

        Args:
            max_length: tokens that are read of a prompt; 300 for the published networks.
            settings: precision and policy; ``None`` for float32 as it is.
            device: where it runs.

        Raises:
            ValueError: files that are not of such an encoder, or settings that cannot be had here.
        """
        loading = (settings or TextSettings()).loading(device)
        embedder = HFEmbedder(source, max_length, hf_module="T5EncoderModel", **loading)
        embedder.to(device)
        return cls(T5Embedder(embedder))

    @property
    def max_length(self) -> int:
        """Tokens that are read of a prompt."""
        return self.t5.embedder.max_length

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        """Prompts -> ``y`` (B, 1, L, E), zero behind a prompt's tokens, and ``mask``, int64 (B, L).

        Prompts that are not in the cache are encoded one at a time, so that the company of others changes no bit.
        """
        model = self.t5.model
        mask = torch.zeros(len(prompts), self.max_length, dtype=torch.int64, device=model.device)
        y = torch.zeros(*mask.shape, model.config.d_model, dtype=model.dtype, device=model.device)
        for i, prompt in enumerate(prompts):
            features = self._features(prompt)
            y[i, : len(features)] = features
            mask[i, : len(features)] = 1
        return {"y": y[:, None], "mask": mask}

    def _features(self, prompt: str) -> Tensor:
        """Features of a prompt's own tokens (L', E)."""
        features = self.cache.get(prompt, self.max_length)
        if features is None:
            features = self.t5.embed([prompt])[0][0]
            self.cache.put(prompt, self.max_length, features)
        return features

    def null(self, n: int) -> Tensor:
        """The null text (n, 1, L, E) of the attached denoiser.

        Raises:
            ValueError: no denoiser is attached.
        """
        if self.y_embedder is None:
            raise ValueError("the null text belongs to the denoiser: set text_encoder.y_embedder = stdit.y_embedder.")
        embedding = self.y_embedder.get_buffer("y_embedding")
        return embedding[None, None].expand(n, 1, -1, -1)
