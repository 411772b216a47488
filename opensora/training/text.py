"""Training of a small T5 encoder, from its tokenizer to frozen features.

The encoder learns to make the *content* of a caption readable from its last hidden state: for every attribute of the
scene (subject, colour, motion, camera, weather ...) an attention probe must name the value that the caption mentions,
or that it mentions none. English and Korean captions share the probes, so both languages land in the same features.
A masked-token objective keeps features of words that no probe asks for.

Legend: B captions, L tokens, C width, V vocabulary.
"""

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, T5Config, T5EncoderModel

from opensora.checkpoint import safetensors_io
from opensora.datasets.world.scene import ATTRIBUTE_VALUES, caption_with_attributes, random_scene
from opensora.models.text.tokenizer import train_tokenizer
from opensora.training.optim import Optimizers, warmup_stable_decay
from opensora.training.state import load_state, save_state

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextTrainConfig:
    """Recipe of the text encoder."""

    vocab_size: int = 1536
    """Pieces of the unigram tokenizer."""
    tokenizer_captions: int = 20_000
    """Captions that the tokenizer is trained on."""
    d_model: int = 192
    """Width of the features, the denoiser's ``caption_channels``."""
    d_ff: int = 512
    """Width of the feed-forward layers."""
    layers: int = 3
    """Transformer layers."""
    heads: int = 4
    """Attention heads."""
    max_length: int = 96
    """Tokens seen of a caption."""
    steps: int = 2000
    """Updates."""
    batch: int = 48
    """Captions in a step."""
    lr: float = 2e-3
    """Peak learning rate."""
    warmup: int = 100
    """Updates of linear warm-up."""
    korean_share: float = 0.35
    """Share of Korean captions."""
    pair_share: float = 0.4
    """Share of captions with two subjects, whose order and colours are the hardest to tell apart."""
    mask_share: float = 0.15
    """Share of tokens hidden for the masked-token objective."""
    mask_weight: float = 0.2
    """Weight of the masked-token objective; 0 for none."""
    mask_every: int = 4
    """Updates from one masked-token step to the next."""
    seed: int = 0
    """Seed of data and weights."""
    save_every: int = 500
    """Updates between two state files."""


class AttributeProbes(nn.Module):
    """One learned query per attribute attends over the tokens and names the attribute's value."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.queries = nn.ParameterDict({k: nn.Parameter(torch.randn(width) * width**-0.5) for k in ATTRIBUTE_VALUES})
        self.heads = nn.ModuleDict({k: nn.Linear(width, len(v)) for k, v in ATTRIBUTE_VALUES.items()})

    def forward(self, features: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Features (B, L, C) and mask (B, L) -> logits (B, values) of every attribute."""
        logits = {}
        for name, query in self.queries.items():
            scores = (features @ query).masked_fill(mask == 0, float("-inf"))
            pooled = torch.einsum("bl,blc->bc", scores.softmax(-1), features)
            logits[name] = self.heads[name](pooled)
        return logits


class TextTrainer:
    """Trains the tokenizer and encoder, resumes and exports them."""

    family = "1.3"
    """Generation of networks that reads the encoder, as its file says."""

    def __init__(self, config: TextTrainConfig, run_dir: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.run_dir, self.step = config, run_dir, 0
        self.tokenizer_dir = run_dir / "tokenizer"
        if not (self.tokenizer_dir / "tokenizer.json").exists():
            self.make_tokenizer()
        self.tokenizer = AutoTokenizer.from_pretrained(self.tokenizer_dir)
        self.model, self.probes = self.networks()
        self.modules = nn.ModuleDict({"encoder": self.model, "probes": self.probes})
        self.optimizers = Optimizers(self.modules, "adamw", config.lr, weight_decay=0.01)
        state = load_state(run_dir / "state.pt")
        if state is not None:
            self.modules.load_state_dict(state["modules"])
            self.optimizers.load_state_dict(state["optimizers"])
            self.step = state["step"]

    def make_tokenizer(self) -> None:
        """Train the tokenizer and write its files."""
        train_tokenizer(self._tokenizer_lines(), self.tokenizer_dir, vocab_size=self.config.vocab_size)

    def networks(self) -> tuple[PreTrainedModel, nn.Module]:
        """The encoder, and the probes that read its features."""
        c = self.config
        config = T5Config(
            vocab_size=len(self.tokenizer),
            d_model=c.d_model,
            d_kv=c.d_model // c.heads,
            d_ff=c.d_ff,
            num_layers=c.layers,
            num_heads=c.heads,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            is_encoder_decoder=False,
            use_cache=False,
            dtype=torch.float32,
        )
        return T5EncoderModel(config).train(), AttributeProbes(c.d_model)

    def read(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Token ids and mask (B, L) -> the probes' logits (B, values) of every attribute."""
        features = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        logits: dict[str, Tensor] = self.probes(features.float(), mask)
        return logits

    def _tokenizer_lines(self) -> list[str]:
        return [self.caption(("tokenizer", i))[0] for i in range(self.config.tokenizer_captions)]

    def caption(self, key: tuple[str, int]) -> tuple[str, dict[str, str]]:
        """Caption and mentioned attributes number ``key``, the same for the same key."""
        stream = {"tokenizer": 1, "train": 2, "test": 3}[key[0]]
        rng = np.random.default_rng((self.config.seed, stream, key[1]))
        language: Literal["en", "ko"] = "ko" if rng.random() < self.config.korean_share else "en"
        pair = {"count": 2} if key[0] == "train" and rng.random() < self.config.pair_share else {}
        return caption_with_attributes(random_scene(rng, **pair), rng, language)

    def batch(self, keys: list[tuple[str, int]]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Token ids (B, L), mask (B, L) and the index of each attribute's value (B,)."""
        texts, attributes = zip(*(self.caption(key) for key in keys), strict=True)
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.config.max_length, return_tensors="pt"
        )
        labels = {
            name: torch.tensor([values.index(a.get(name, "unspecified")) for a in attributes])
            for name, values in ATTRIBUTE_VALUES.items()
        }
        return tokens["input_ids"], tokens["attention_mask"], labels

    def train_step(self) -> dict[str, float]:
        """One update; returns the loss terms and the share of right probe answers."""
        config = self.config
        ids, mask, labels = self.batch([("train", self.step * config.batch + i) for i in range(config.batch)])
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.read(ids, mask)
        attribute_loss = sum((F.cross_entropy(logits[n], labels[n]) for n in labels), torch.zeros(())) / len(labels)
        loss = attribute_loss
        if config.mask_weight and self.step % config.mask_every == 0:
            loss = loss + config.mask_weight * self._masked_token_loss(ids, mask)
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizers.step(warmup_stable_decay(self.step, config.steps, config.warmup, 0.4))
        self.step += 1
        right = torch.stack([(logits[n].argmax(-1) == labels[n]).float().mean() for n in labels]).mean()
        return {"loss": attribute_loss.item(), "right": right.item()}

    def _masked_token_loss(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Cross entropy of hidden tokens, read out with the embedding matrix."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        hidden = (torch.rand(ids.shape, generator=generator) < self.config.mask_share) & (mask == 1)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.model(
                input_ids=ids.masked_fill(hidden, self.tokenizer.unk_token_id), attention_mask=mask
            ).last_hidden_state
        words = self.model.get_input_embeddings().weight
        assert isinstance(words, Tensor)
        readout = features.float()[hidden] @ words.T * self.config.d_model**-0.5
        return F.cross_entropy(readout, ids[hidden])

    def run(self, max_seconds: float | None = None) -> list[dict[str, float]]:
        """Train to the end of the recipe, or for ``max_seconds``."""
        history: list[dict[str, float]] = []
        start = time.monotonic()
        while self.step < self.config.steps and (max_seconds is None or time.monotonic() - start < max_seconds):
            history.append(self.train_step())
            if self.step % 100 == 0:
                recent = {k: sum(h[k] for h in history[-100:]) / len(history[-100:]) for k in history[-1]}
                text = " ".join(f"{k} {v:.4g}" for k, v in recent.items())
                log.info("text step %d/%d %s", self.step, self.config.steps, text)
            if self.step % self.config.save_every == 0:
                self.save()
        self.save()
        return history

    def save(self) -> None:
        """Write the resumable state."""
        state = {
            "modules": self.modules.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "step": self.step,
        }
        save_state(self.run_dir / "state.pt", state)

    @torch.no_grad()
    def accuracy(self, captions: int = 512) -> dict[str, float]:
        """Share of right probe answers of every attribute on captions never trained on."""
        self.model.eval()
        ids, mask, labels = self.batch([("test", i) for i in range(captions)])
        logits = self.read(ids, mask)
        return {n: float((logits[n].argmax(-1) == labels[n]).float().mean()) for n in labels}

    def export(self, directory: Path) -> None:
        """Write encoder and tokenizer as a transformers checkpoint; the probes are left behind."""
        directory.mkdir(parents=True, exist_ok=True)
        self.model.eval()
        metadata = {"family": self.family, "role": "text", "format": "pt", "steps": str(self.step)}
        config = {**self.model.config.to_dict(), "architectures": [type(self.model).__name__], "dtype": "bfloat16"}
        (directory / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True, default=str) + "\n")
        safetensors_io.save(self.model, directory / "model.safetensors", metadata, dtype=torch.bfloat16)
        for file in sorted(self.tokenizer_dir.iterdir()):
            (directory / file.name).write_bytes(file.read_bytes())
