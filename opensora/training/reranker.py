"""Training of the network that picks among pictures, on cached latents of pictures and their captions.

Pictures that a denoiser made are not quite like the world's, so training pictures get noise of every strength up to
``noise``. The objective is CLIP's, over the pictures of a batch and one caption of each. Beside these every picture
stands against captions of its own scene with another subject, another colour, or the colours of two subjects swapped:
without them the place and the weather tell most pictures of a batch apart.

Legend: B pictures, C latent channels, H, W latent rows and columns, L text tokens.
"""

import json
import logging
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from opensora.checkpoint import safetensors_io
from opensora.datasets.world.spec import COLOURS, KINDS, SceneSpec, heldout
from opensora.models.reranker import Reranker, RerankerConfig
from opensora.models.text.t5 import T5Encoder
from opensora.training.latents import LatentBucket, caption_of, load, scene_at
from opensora.training.optim import Optimizers, warmup_stable_decay
from opensora.training.state import load_state, save_state

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RerankerTrainConfig:
    """Recipe of the reranker."""

    model: RerankerConfig = field(default_factory=RerankerConfig)
    """Network."""
    text: str
    """Folder of the frozen T5."""
    max_length: int = 80
    """Tokens seen of a caption."""
    latents: str
    """Folder of the latent cache."""
    buckets: tuple[LatentBucket, ...]
    """Pictures of one size that are trained on."""
    held_out: int = 256
    """Pictures at the end of each bucket that are kept for the test."""
    latents_seed: int = 0
    """Seed that the latents were rendered with."""
    steps: int = 1000
    """Updates."""
    batch: int = 128
    """Pictures in an update."""
    near_from: int = 700
    """Update from which captions of nearly the same scene stand against each picture's own."""
    near_batch: int = 64
    """Pictures in an update from then on."""
    lr: float = 2e-3
    """Peak learning rate."""
    warmup: int = 60
    """Updates of linear warm-up."""
    noise: float = 0.5
    """Largest share of noise in a training picture, in [0, 1)."""
    seed: int = 0
    """Seed of weights, data order and noise."""
    save_every: int = 200
    """Updates between two state files."""


class RerankerTrainer:
    """Trains, resumes and exports a reranker."""

    def __init__(self, config: RerankerTrainConfig, run_dir: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.run_dir, self.step = config, run_dir, 0
        self.model = Reranker(config.model).train()
        self.optimizers = Optimizers(self.model, "adamw", config.lr, weight_decay=0.05)
        state = load_state(run_dir / "state.pt")
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.optimizers.load_state_dict(state["optimizers"])
            self.step = state["step"]
        self.text = T5Encoder.from_pretrained(config.text, max_length=config.max_length)
        cached = [load(bucket, Path(config.latents)) for bucket in config.buckets]
        if short := [b.name for b, c in zip(config.buckets, cached, strict=True) if len(c.captions) != b.clips]:
            raise ValueError(f"the latents of {', '.join(short)} are not whole: run scripts/diffusion/encode.py first.")
        self.places = [(b, i) for b in config.buckets for i in range(b.clips - config.held_out)]
        self.z = torch.cat([c.z[: len(c.captions) - config.held_out, :, 0] for c in cached])
        self.captions = [lines for c in cached for lines in c.captions[: len(c.captions) - config.held_out]]
        self.test_z = torch.cat([c.z[-config.held_out :, :, 0] for c in cached])
        self.test_captions = [lines for c in cached for lines in c.captions[-config.held_out :]]

    def features(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Captions -> features (B, L, E) and mask (B, L), L the tokens of the longest."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return self.text.t5.embed(captions)

    def near(self, chosen: list[int]) -> list[str]:
        """Captions of nearly the scenes of training pictures ``chosen``: with another subject, and another colour."""
        lines = []
        for index in chosen:
            scene, _ = scene_at(*self.places[index], self.config.latents_seed)
            rng = np.random.default_rng((self.config.seed, self.step, index))
            lines += [caption_of(other, rng, "1.3", moves=True) for other in nearly(scene, rng)]
        return lines

    def train_step(self) -> dict[str, float]:
        """One update; the loss, and the share of captions whose own picture scores highest in the batch."""
        config, hard = self.config, self.step >= self.config.near_from
        batch = config.near_batch if hard else config.batch
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        chosen = torch.randint(len(self.z), (batch,), generator=generator)
        z = self.z[chosen].float()
        t = config.noise * torch.rand(batch, 1, 1, 1, generator=generator)
        z = (1 - t) * z + t * torch.randn(z.shape, generator=generator)
        which = torch.randint(6, (batch,), generator=generator).tolist()
        lines = [self.captions[i] for i in chosen.tolist()]
        own = [texts[k % len(texts)] for texts, k in zip(lines, which, strict=True)]
        y, mask = self.features(own + (self.near(chosen.tolist()) if hard else []))
        with torch.autocast("cpu", torch.bfloat16):
            scores = self.model(z, y, mask).float()
        labels = torch.arange(batch)
        loss = (F.cross_entropy(scores[:batch], labels) + F.cross_entropy(scores.T, labels)) / 2
        loss.backward()
        self.optimizers.step(warmup_stable_decay(self.step, config.steps, config.warmup, 0.5))
        self.step += 1
        return {"loss": loss.item(), "right": (scores[:batch].argmax(1) == labels).float().mean().item()}

    def run(self, max_seconds: float | None = None) -> list[dict[str, float]]:
        """Train to the end of the recipe, or for ``max_seconds``."""
        history: list[dict[str, float]] = []
        start = time.monotonic()
        while self.step < self.config.steps and (max_seconds is None or time.monotonic() - start < max_seconds):
            history.append(self.train_step())
            if self.step % 50 == 0:
                recent = {k: sum(h[k] for h in history[-50:]) / len(history[-50:]) for k in history[-1]}
                text = " ".join(f"{k} {v:.4g}" for k, v in recent.items())
                pace = (time.monotonic() - start) / len(history)
                log.info("reranker step %d/%d %.2f s/step %s", self.step, self.config.steps, pace, text)
            if self.step % self.config.save_every == 0:
                self.save()
        self.save()
        return history

    def save(self) -> None:
        """Write the resumable state."""
        state = {"model": self.model.state_dict(), "optimizers": self.optimizers.state_dict(), "step": self.step}
        save_state(self.run_dir / "state.pt", state)

    @torch.no_grad()
    def accuracy(self, among: int = 64) -> float:
        """Share of unseen captions whose own picture scores highest among ``among`` unseen ones."""
        right = []
        self.model.eval()
        for start in range(0, len(self.test_z) - among + 1, among):
            y, mask = self.features([lines[0] for lines in self.test_captions[start : start + among]])
            scores = self.model(self.test_z[start : start + among].float(), y, mask)
            right.append((scores.argmax(1) == torch.arange(among)).float().mean())
        self.model.train()
        return float(torch.stack(right).mean())

    def export(self, directory: Path) -> None:
        """Write the weights as a loadable checkpoint."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(json.dumps(asdict(self.config.model), indent=1) + "\n")
        metadata = {"family": "1.3", "role": "reranker", "steps": str(self.step), "seed": str(self.config.seed)}
        safetensors_io.save(self.model, directory / "model.safetensors", metadata, dtype=torch.bfloat16)


def nearly(scene: SceneSpec, rng: np.random.Generator) -> list[SceneSpec]:
    """A scene with another subject, with another colour, and with the colours of two subjects swapped; a scene without
    subjects has none. Combinations that are held out of training do not occur."""
    others: list[SceneSpec] = []
    if not scene.subjects:
        return others
    at = int(rng.integers(len(scene.subjects)))
    for field_name, values in (("kind", KINDS), ("colour", COLOURS)):
        taken = {getattr(subject, field_name) for subject in scene.subjects}
        for value in rng.permutation([v for v in values if v not in taken]):
            changed = replace(scene.subjects[at], **{field_name: str(value)})
            other = replace(scene, subjects=(*scene.subjects[:at], changed, *scene.subjects[at + 1 :]))
            if not heldout(other):
                others.append(other)
                break
    if len(scene.subjects) == 2:
        one, two = scene.subjects
        swapped = replace(scene, subjects=(replace(one, colour=two.colour), replace(two, colour=one.colour)))
        others += [] if heldout(swapped) else [swapped]
    return others
