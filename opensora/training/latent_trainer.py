"""What the denoisers' trainers share: stages over cached latents, updates, resumable state, several processes.

Legend: B clips, C latent channels, T latent frames, H, W latent rows and columns.
"""

import json
import logging
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from opensora.checkpoint import safetensors_io
from opensora.distributed.workers import Workers
from opensora.training.latents import CaptionedLatents, LatentBucket, Wording, load
from opensora.training.optim import OptimizerName, Optimizers, warmup_stable_decay
from opensora.training.state import EMA, load_state, save_state

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """A part of the run with its own mixture of shapes."""

    steps: int
    """Updates of this stage."""
    mixture: tuple[tuple[str, float], ...]
    """Bucket names with their relative frequencies."""
    tokens: int
    """Tokens of a batch in each process: the number of clips is this divided by the tokens of one clip."""
    shift: float | None = None
    """Shift of the training times for every size, as ``shift * t / (1 + (shift - 1) * t)``; ``None`` shifts by size and
    length as published, which for pictures much smaller than 512 x 512 leaves little of the noisy end, where colour,
    place and direction are decided."""
    picture_shift: float | None = None
    """As ``shift``, for pictures; ``None`` for the same."""
    text_share: float | None = None
    """Share of video batches without an image condition; ``None`` for the recipe's."""
    head_share: float | None = None
    """Share of video batches that are given the first latent frame; ``None`` for the recipe's."""
    emphasis_fades: bool = True
    """Whether the loss's emphasis on what stands out ends near the noisy end."""

    def shift_of(self, bucket: LatentBucket) -> float | None:
        """Shift of the training times for clips of a bucket."""
        return self.picture_shift if bucket.frames == 1 and self.picture_shift is not None else self.shift


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What the recipes of denoisers have in common."""

    wording: ClassVar[Wording] = "1.3"
    """Generation whose way of saying scores the captions follow."""

    vae: str
    """Folder of the frozen autoencoder."""
    text: str
    """Folder of the frozen T5."""
    latents: str
    """Folder of the latent cache."""
    buckets: tuple[LatentBucket, ...]
    """Shapes that are cached."""
    stages: tuple[Stage, ...]
    """Parts of the run, in order."""
    optimizer: OptimizerName = "muon"
    """``muon`` or ``adamw``."""
    lr: float = 2e-3
    """Peak learning rate."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    warmup: int = 100
    """Updates of linear warm-up."""
    decay_fraction: float = 0.35
    """Share of the run that decays the learning rate to zero."""
    ema_decay: float = 0.998
    """Decay of the averaged weights that are exported."""
    emphasis: float = 0.0
    """Extra weight, in the loss, of positions that stand out from their background (``opensora.training.emphasis``)."""
    sample_method: str = "logit-normal"
    """Distribution of training timesteps."""
    grad_clip: float = 1.0
    """Largest gradient norm."""
    seed: int = 0
    """Seed of weights, data order, noise and timesteps."""
    bf16: bool = True
    """Compute matrix products in bfloat16 under autocast; weights stay in float32."""
    save_every: int = 200
    """Updates between two state files."""
    fps: float = 24.0
    """Frames per second of the clips."""

    @property
    def steps(self) -> int:
        """Updates of the whole run."""
        return sum(stage.steps for stage in self.stages)


def stage_at(config: TrainConfig, step: int) -> Stage:
    """The stage that update ``step`` belongs to."""
    for stage in config.stages:
        if step < stage.steps:
            return stage
        step -= stage.steps
    return config.stages[-1]


Recipe = TypeVar("Recipe", bound=TrainConfig)


class LatentTrainer(ABC, Generic[Recipe]):
    """Trains, resumes and exports a denoiser; under ``torchrun`` every process has its own clips."""

    family: str
    """Generation of the network, as its exported file says."""
    patch = 4
    """Latent positions of one token."""

    def __init__(self, config: Recipe, run_dir: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.run_dir, self.step = config, run_dir, 0
        self.workers = Workers.start()
        self.device = self.workers.device()
        self.model = self.fresh().to(self.device).train()
        self.ema = EMA(self.model, config.ema_decay)
        self.optimizers = Optimizers(self.model, config.optimizer, config.lr, config.weight_decay)
        self.cache: dict[str, CaptionedLatents] = {}
        state = load_state(run_dir / "state.pt")
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimizers.load_state_dict(state["optimizers"])
            self.step = state["step"]
            log.info("diffusion: resumed at step %d", self.step)

    @abstractmethod
    def fresh(self) -> Any:
        """The network of a run that is not resumed."""

    @abstractmethod
    def empty(self) -> nn.Module:
        """The network that the averaged weights are exported with."""

    @abstractmethod
    def measure(
        self,
        stage: Stage,
        bucket: LatentBucket,
        z: Tensor,
        captions: list[str],
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> Tensor:
        """Loss of a batch of latents (B, C, T, H, W). Conditions come from ``rng``, times and noise from
        ``generator``."""

    def bucket(self, name: str) -> LatentBucket:
        """Bucket of that name.

        Raises:
            ValueError: the recipe has no such bucket.
        """
        for bucket in self.config.buckets:
            if bucket.name == name:
                return bucket
        raise ValueError(f"unknown bucket {name!r}; the recipe has {[b.name for b in self.config.buckets]}.")

    def latents(self, name: str) -> CaptionedLatents:
        """Cached clips of a bucket; read again when the cache has grown since, looked for every 100 updates."""
        if name not in self.cache or (
            self.step % 100 == 0 and len(self.cache[name].captions) < self.bucket(name).clips
        ):
            self.cache[name] = load(self.bucket(name), Path(self.config.latents))
        return self.cache[name]

    def batch(
        self, stage: Stage, shared: np.random.Generator, rng: np.random.Generator
    ) -> tuple[LatentBucket, Tensor, list[str]]:
        """A bucket of the stage's mixture, latents (B, C, T, H, W) and one caption of each clip."""
        weights = np.array([w for _, w in stage.mixture])
        name = stage.mixture[shared.choice(len(weights), p=weights / weights.sum())][0]
        cached = self.latents(name)
        _, _, t, h, w = cached.z.shape
        count = max(1, round(stage.tokens / (t * h * w / self.patch)))
        chosen = rng.integers(len(cached.captions), size=count)
        captions = [cached.captions[i][rng.integers(len(cached.captions[i]))] for i in chosen]
        return self.bucket(name), cached.z[torch.from_numpy(chosen)].to(self.device).float(), captions

    def train_step(self) -> dict[str, float]:
        """One update; returns the loss."""
        shared = np.random.default_rng((self.config.seed, self.step))  # all processes take clips of one shape
        own = np.random.default_rng((self.config.seed, self.step, self.workers.rank))
        stage = stage_at(self.config, self.step)
        bucket, z, captions = self.batch(stage, shared, own)
        seed = (self.config.seed * 1_000_003 + self.step) * 64 + self.workers.rank
        generator = torch.Generator(self.device).manual_seed(seed)
        torch.manual_seed(seed)  # caption dropout inside the network
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            loss = self.measure(stage, bucket, z, captions, own, generator)
        loss.backward()
        self.workers.average_gradients(self.model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimizers.step(
            warmup_stable_decay(self.step, self.config.steps, self.config.warmup, self.config.decay_fraction)
        )
        self.ema.update(self.model)
        self.step += 1
        return {"loss": loss.item(), "grad": norm.item()}

    def run(self, max_seconds: float | None = None) -> list[dict[str, float]]:
        """Train to the end of the recipe, or for ``max_seconds``; state is saved on the way and at the end.

        Raises:
            ValueError: latents of a shape that some stage needs are not cached.
        """
        for stage in self.config.stages:  # what is missing is said now, not when its stage begins
            for name, _ in stage.mixture:
                self.latents(name)
        history: list[dict[str, float]] = []
        start = time.monotonic()
        while self.step < self.config.steps:
            if not self.workers.agree(max_seconds is None or time.monotonic() - start < max_seconds):
                break
            history.append(self.train_step())
            if self.step % 50 == 0 and self.workers.first:
                recent = {k: sum(h[k] for h in history[-50:]) / len(history[-50:]) for k in history[-1]}
                pace = (time.monotonic() - start) / len(history)
                text = " ".join(f"{k} {v:.4g}" for k, v in recent.items())
                log.info("diffusion step %d/%d %.2f s/step %s", self.step, self.config.steps, pace, text)
            if self.step % self.config.save_every == 0:
                self.save()
        self.save()
        return history

    def save(self) -> None:
        """Write the resumable state."""
        if not self.workers.first:
            return
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "step": self.step,
        }
        save_state(self.run_dir / "state.pt", state)

    def export(self, directory: Path) -> None:
        """Write the averaged weights as a loadable checkpoint."""
        if not self.workers.first:
            return
        model = self.empty()
        self.ema.copy_to(model)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(json.dumps(asdict(self.model.config), indent=1) + "\n")
        metadata = {"family": self.family, "role": "stdit", "steps": str(self.step), "seed": str(self.config.seed)}
        safetensors_io.save(model, directory / "model.safetensors", metadata, dtype=torch.bfloat16)
