"""The text encoder of the 1.x pipelines: T5 with a token mask, recent prompts kept, and the denoiser's null text.

Legend: B prompts, L tokens, E width of the features.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from opensora.models.text.conditioner import HFEmbedder

KEPT_PROMPTS = 64


class T5Embedder:
    """The encoder with its tokenizer; ``model`` is the transformers encoder."""

    def __init__(self, embedder: HFEmbedder) -> None:
        self.embedder = embedder

    @property
    def model(self) -> PreTrainedModel:
        """The transformers encoder."""
        return self.embedder.hf_module

    def embed(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Texts -> features (B, L, E) and token mask (B, L); padding is not attended to."""
        ids, mask = self.embedder.tokenize(texts)
        return self.embedder.encode(ids, mask), mask.to(self.model.device)


class T5Encoder:
    """What ``build_models`` returns as ``text_encoder``; ``y_embedder`` is the denoiser's, which owns the null text."""

    def __init__(self, t5: T5Embedder) -> None:
        self.t5 = t5
        self.y_embedder: nn.Module | None = None
        self._kept: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls, source: str | Path, max_length: int = 300, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> Self:
        """Load a T5 encoder from a folder or hub id.

        Args:
            max_length: tokens that are read of a prompt; 300 for the published networks.
            dtype: float32 or bfloat16.

        Raises:
            ValueError: float16, in which T5 overflows.
        """
        embedder = HFEmbedder(source, max_length, hf_module="T5EncoderModel", dtype=dtype)
        embedder.to(device)
        return cls(T5Embedder(embedder))

    @property
    def max_length(self) -> int:
        """Tokens that are read of a prompt."""
        return self.t5.embedder.max_length

    def encode(self, prompts: list[str]) -> dict[str, Tensor]:
        """Prompts -> ``y`` (B, 1, L, E) and ``mask`` (B, L)."""
        missing = [p for p in dict.fromkeys(prompts) if p not in self._kept]
        if missing:
            features, masks = self.t5.embed(missing)
            self._kept.update({p: (features[i], masks[i]) for i, p in enumerate(missing)})
        chosen = [self._kept[p] for p in prompts]
        for prompt in prompts:
            self._kept.move_to_end(prompt)
        while len(self._kept) > max(KEPT_PROMPTS, len(prompts)):
            self._kept.popitem(last=False)
        return {"y": torch.stack([f for f, _ in chosen])[:, None], "mask": torch.stack([m for _, m in chosen])}

    def null(self, n: int) -> Tensor:
        """The null text (n, 1, L, E) of the attached denoiser.

        Raises:
            ValueError: no denoiser is attached.
        """
        if self.y_embedder is None:
            raise ValueError("the null text belongs to the denoiser: set text_encoder.y_embedder = stdit.y_embedder.")
        embedding = self.y_embedder.get_buffer("y_embedding")
        return embedding[None, None].expand(n, 1, -1, -1)
