"""Training of a small CLIP text encoder: one vector that holds the content of a caption.

As :mod:`opensora.training.text`, but the probes see only the pooled output, the features of the end of the text, which
is all that 2.0 reads of CLIP.

Legend: B captions, L tokens, V width of the pooled output.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedModel

from opensora.datasets.world.scene import ATTRIBUTE_VALUES
from opensora.models.text.tokenizer import train_clip_tokenizer
from opensora.training.text import TextTrainConfig, TextTrainer


@dataclass(frozen=True)
class ClipTrainConfig(TextTrainConfig):
    """Recipe of the CLIP text encoder. A pooled output has no tokens, so there is no masked-token objective."""

    d_model: int = 128
    """Width of the pooled output, the denoiser's ``vec_in_dim``."""
    d_ff: int = 384
    """Width of the feed-forward layers."""
    max_length: int = 77
    """Tokens seen of a caption."""
    lr: float = 1e-3
    """Peak learning rate."""
    mask_weight: float = 0.0
    """Always 0."""

    def __post_init__(self) -> None:
        if self.mask_weight:
            raise ValueError(f"mask_weight is {self.mask_weight}; a pooled output has no masked tokens, so it is 0.")


class PooledProbes(nn.Module):
    """A linear map per attribute names its value."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in ATTRIBUTE_VALUES.items()})

    def forward(self, pooled: Tensor) -> dict[str, Tensor]:
        """Pooled output (B, V) -> logits (B, values) of every attribute."""
        return {name: head(pooled) for name, head in self.heads.items()}


class ClipTrainer(TextTrainer):
    """Trains the tokenizer and encoder, resumes and exports them."""

    family = "2.0"

    def make_tokenizer(self) -> None:
        train_clip_tokenizer(self._tokenizer_lines(), self.tokenizer_dir, vocab_size=self.config.vocab_size)

    def networks(self) -> tuple[PreTrainedModel, nn.Module]:
        c, size = self.config, len(self.tokenizer)
        config = CLIPTextConfig(
            vocab_size=size,
            hidden_size=c.d_model,
            intermediate_size=c.d_ff,
            projection_dim=c.d_model,
            num_hidden_layers=c.layers,
            num_attention_heads=c.heads,
            max_position_embeddings=c.max_length,
            bos_token_id=size - 2,
            eos_token_id=size - 1,
            pad_token_id=size - 1,
            dtype=torch.float32,
        )
        return CLIPTextModel(config).train(), PooledProbes(c.d_model)

    def read(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        pooled = self.model(input_ids=ids, attention_mask=mask).pooler_output
        logits: dict[str, Tensor] = self.probes(pooled.float())
        return logits
