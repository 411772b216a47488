"""Training of the network that picks among pictures, on cached latents of pictures and their captions.

Pictures that a denoiser made are not quite like the world's, so training pictures get noise of every strength up to
``noise``. The objective is CLIP's, over the pictures of a batch and one caption of each. Beside these every picture
stands against captions of nearly its own scene: with another subject, another colour, or two subjects swapped. Without
them the place and the weather tell most pictures of a batch apart. What is in a picture is learnt from labels first:
the same linear classifiers, which are not exported, read the vectors of both sides.

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
from torch import Tensor, nn

from opensora.checkpoint import safetensors_io
from opensora.datasets.world.spec import ATTRIBUTE_VALUES, COLOURS, KINDS, SceneSpec, attributes, heldout
from opensora.models.reranker import Reranker, RerankerConfig
from opensora.models.text.t5 import T5Encoder
from opensora.training.latents import LatentBucket, caption_of, load, scene_at
from opensora.training.optim import Optimizers, warmup_stable_decay
from opensora.training.state import load_state, save_state

log = logging.getLogger(__name__)

LABELS = ("kind1", "colour1", "kind2", "colour2", "background", "weather")
"""Attributes of a scene that both sides are asked for in training."""


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
    steps: int = 2000
    """Updates."""
    batch: int = 96
    """Pictures in an update."""
    near_from: int = 1800
    """Update from which captions of nearly the same scene stand against each picture's own."""
    near_batch: int = 48
    """Pictures in an update from then on."""
    lr: float = 2e-3
    """Peak learning rate."""
    warmup: int = 60
    """Updates of linear warm-up."""
    noise: float = 0.3
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
        size = config.model.vectors * config.model.dim
        self.heads = nn.ModuleDict({name: nn.Linear(size, len(ATTRIBUTE_VALUES[name])) for name in LABELS})
        self.optimizers = Optimizers(nn.ModuleList([self.model, self.heads]), "adamw", config.lr, weight_decay=0.05)
        state = load_state(run_dir / "state.pt")
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.heads.load_state_dict(state["heads"])
            self.optimizers.load_state_dict(state["optimizers"])
            self.step = state["step"]
        self.text = T5Encoder.from_pretrained(config.text, max_length=config.max_length)
        cached = [load(bucket, Path(config.latents)) for bucket in config.buckets]
        if short := [b.name for b, c in zip(config.buckets, cached, strict=True) if len(c.captions) != b.clips]:
            raise ValueError(f"the latents of {', '.join(short)} are not whole: run scripts/diffusion/encode.py first.")
        self.places = [(b, i) for b in config.buckets for i in range(b.clips - config.held_out)]
        self.z = torch.cat([c.z[: len(c.captions) - config.held_out, :, 0] for c in cached])
        self.captions = [lines for c in cached for lines in c.captions[: len(c.captions) - config.held_out]]
        self.test_places = [(b, i) for b in config.buckets for i in range(b.clips - config.held_out, b.clips)]
        self.test_z = torch.cat([c.z[-config.held_out :, :, 0] for c in cached])
        self.test_captions = [lines for c in cached for lines in c.captions[-config.held_out :]]

    def features(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Captions -> features (B, L, E) and mask (B, L), L the tokens of the longest."""
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return self.text.t5.embed(captions)

    def near(self, places: list[tuple[LatentBucket, int]]) -> list[tuple[SceneSpec, str]]:
        """Nearly the scenes of pictures, each with a caption."""
        pairs = []
        for bucket, index in places:
            scene, _ = scene_at(bucket, index, self.config.latents_seed)
            rng = np.random.default_rng((self.config.seed, self.step, index))
            pairs += [(other, caption_of(other, rng, "1.3", moves=True)) for other in nearly(scene, rng)]
        return pairs

    def labelled(self, vectors: Tensor, scenes: list[SceneSpec]) -> Tensor:
        """Mean error of the classifiers on vectors (B, K, D) of these scenes."""
        values = [attributes(scene) for scene in scenes]
        flat = vectors.flatten(1) * vectors.shape[2] ** 0.5
        losses = []
        for name, head in self.heads.items():
            labels = torch.tensor([ATTRIBUTE_VALUES[name].index(value[name]) for value in values])
            losses.append(F.cross_entropy(head(flat).float(), labels))
        return torch.stack(losses).mean()

    def train_step(self) -> dict[str, float]:
        """One update; the losses, and the share of pictures whose own caption scores highest of all captions."""
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
        places = [self.places[i] for i in chosen.tolist()]
        near = self.near(places) if hard else []
        scenes = [scene_at(bucket, index, config.latents_seed)[0] for bucket, index in places]
        y, mask = self.features(own + [line for _, line in near])
        with torch.autocast("cpu", torch.bfloat16):
            seen, read = self.model.picture(z), self.model.text(y, mask)
            scores = self.model.scores(read, seen).float()
            labelled = self.labelled(seen, scenes) + self.labelled(read, scenes + [other for other, _ in near])
        labels = torch.arange(batch)
        contrast = (F.cross_entropy(scores[:batch], labels) + F.cross_entropy(scores.T, labels)) / 2
        loss = contrast + labelled
        loss.backward()
        self.optimizers.step(warmup_stable_decay(self.step, config.steps, config.warmup, 0.5))
        self.step += 1
        right = (scores.argmax(0) == labels).float().mean()
        return {"loss": loss.item(), "labels": labelled.item(), "right": right.item()}

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
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "step": self.step,
        }
        save_state(self.run_dir / "state.pt", state)

    @torch.no_grad()
    def accuracy(self) -> float:
        """Share of unseen pictures whose own caption scores higher than every caption of nearly the same scene."""
        self.model.eval()
        right = []
        for place, z, lines in zip(self.test_places, self.test_z, self.test_captions, strict=True):
            y, mask = self.features([lines[0], *(line for _, line in self.near([place]))])
            right.append(self.model(z[None].float(), y, mask)[:, 0].argmax() == 0)
        self.model.train()
        return float(torch.stack(right).float().mean())

    def export(self, directory: Path) -> None:
        """Write the weights as a loadable checkpoint."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(json.dumps(asdict(self.config.model), indent=1) + "\n")
        metadata = {"family": "1.3", "role": "reranker", "steps": str(self.step), "seed": str(self.config.seed)}
        safetensors_io.save(self.model, directory / "model.safetensors", metadata, dtype=torch.bfloat16)


def nearly(scene: SceneSpec, rng: np.random.Generator) -> list[SceneSpec]:
    """The scene with another subject and with another colour, for each of its subjects, and with the subjects of two,
    their colours, or both swapped; a scene without subjects has none. Combinations that are held out of training, and
    what swapping does not change, do not occur."""
    others: list[SceneSpec] = []
    for at, subject in enumerate(scene.subjects):
        for name, values in (("kind", KINDS), ("colour", COLOURS)):
            for value in rng.permutation([v for v in values if v != getattr(subject, name)]):
                subjects = list(scene.subjects)
                subjects[at] = replace(subject, **{name: str(value)})
                others.append(replace(scene, subjects=tuple(subjects)))
                if not heldout(others[-1]):
                    break
    if len(scene.subjects) == 2:
        one, two = scene.subjects
        kinds = replace(one, kind=two.kind), replace(two, kind=one.kind)
        colours = replace(one, colour=two.colour), replace(two, colour=one.colour)
        places = replace(two, motion=one.motion), replace(one, motion=two.motion)
        others += [replace(scene, subjects=swapped) for swapped in (kinds, colours, places)]
    return [other for other in others if other != scene and not heldout(other)]
