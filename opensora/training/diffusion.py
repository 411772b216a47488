"""Training of a small STDiT3 on cached latents with the published rectified-flow loss.

Legend: B clips, C latent channels, T latent frames, H, W latent rows and columns, L text tokens.
"""

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from opensora.checkpoint import safetensors_io
from opensora.distributed.workers import Workers
from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config
from opensora.models.text.t5 import T5Encoder
from opensora.sampling.rectified_flow import RFLOW
from opensora.sampling.schedule import NUM_TIMESTEPS, training_times
from opensora.training.emphasis import loss_weights
from opensora.training.latents import CaptionedLatents, LatentBucket, load
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
    text_share: float | None = None
    """Share of video batches without an image condition; ``None`` for the recipe's."""
    head_share: float | None = None
    """Share of video batches that are given the first latent frame; ``None`` for the recipe's."""


@dataclass(frozen=True)
class DiffusionTrainConfig:
    """Recipe of the denoiser."""

    model: STDiT3Config
    """Network."""
    vae: str
    """Folder of the frozen autoencoder."""
    text: str
    """Folder of the frozen text encoder."""
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
    text_share: float = 0.5
    """Share of video batches without an image condition; the others are given the first frame or frames."""
    head_share: float = 0.35
    """Share of video batches that are given the first latent frame; the rest are given two or more."""
    drop_text_given_image: float = 0.1
    """Share of image-conditioned batches whose text is dropped (image guidance needs it)."""
    drop_all_given_image: float = 0.05
    """Share of image-conditioned batches whose text and image are dropped."""
    given_frame_weight: float = 0.0
    """Weight of given frames in the loss; they are put back after sampling, so that they need not be predicted."""
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
    start_from: str | None = None
    """Folder of an exported denoiser whose weights a new run begins with; ``None`` begins with random ones."""

    @property
    def steps(self) -> int:
        """Updates of the whole run."""
        return sum(stage.steps for stage in self.stages)


def stage_at(config: DiffusionTrainConfig, step: int) -> Stage:
    """The stage that update ``step`` belongs to."""
    for stage in config.stages:
        if step < stage.steps:
            return stage
        step -= stage.steps
    return config.stages[-1]


@dataclass(frozen=True)
class Condition:
    """What a batch is told besides its text."""

    frames: tuple[int, ...] | None
    """Latent frames given as image condition; ``None`` for text only."""
    drop: str
    """``keep``, ``text`` (image dropped), ``cond`` (text dropped) or ``null`` (both), the published names."""


def draw_condition(
    config: DiffusionTrainConfig, stage: Stage, rng: np.random.Generator, latent_frames: int
) -> Condition:
    """Condition of one batch; images have none."""
    text = config.text_share if stage.text_share is None else stage.text_share
    head = config.head_share if stage.head_share is None else stage.head_share
    kind = rng.random()
    if latent_frames == 1 or kind < text:
        return Condition(None, "keep")
    one = latent_frames < 3 or kind < text + head
    given = 1 if one else int(rng.integers(2, min(6, latent_frames)))
    drop = rng.random()
    if drop < config.drop_text_given_image:
        return Condition(tuple(range(given)), "cond")
    if drop < config.drop_text_given_image + config.drop_all_given_image:
        return Condition(tuple(range(given)), "null")
    return Condition(tuple(range(given)), "keep")


class DiffusionTrainer:
    """Trains, resumes and exports the denoiser; under ``torchrun`` every process has its own clips."""

    def __init__(self, config: DiffusionTrainConfig, run_dir: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.run_dir, self.step = config, run_dir, 0
        self.workers = Workers.start()
        self.device = self.workers.device()
        self.model = self._fresh().to(self.device).train()
        self.text = T5Encoder.from_pretrained(config.text, max_length=config.model.model_max_length)
        self.scheduler = RFLOW(use_timestep_transform=True, sample_method=config.sample_method)
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

    def _fresh(self) -> STDiT3:
        """The network of a run that is not resumed."""
        if self.config.start_from is None:
            return STDiT3(self.config.model)
        model = STDiT3.from_pretrained(self.config.start_from)
        if model.config != self.config.model:
            raise ValueError(f"{self.config.start_from} holds another network than the recipe's; change its model.")
        return model

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
        count = max(1, round(stage.tokens / (t * h * w / 4)))
        chosen = rng.integers(len(cached.captions), size=count)
        captions = [cached.captions[i][rng.integers(len(cached.captions[i]))] for i in chosen]
        return self.bucket(name), cached.z[torch.from_numpy(chosen)].to(self.device).float(), captions

    def train_step(self) -> dict[str, float]:
        """One update; returns the loss."""
        shared = np.random.default_rng((self.config.seed, self.step))  # all processes take clips of one shape
        own = np.random.default_rng((self.config.seed, self.step, self.workers.rank))
        stage = stage_at(self.config, self.step)
        bucket, z, captions = self.batch(stage, shared, own)
        condition = draw_condition(self.config, stage, own, z.shape[2])
        seed = (self.config.seed * 1_000_003 + self.step) * 64 + self.workers.rank
        generator = torch.Generator(self.device).manual_seed(seed)
        torch.manual_seed(seed)  # caption dropout inside the network
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            loss = self.loss(bucket, z, captions, condition, generator, stage.shift)
        loss.backward()
        self.workers.average_gradients(self.model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimizers.step(
            warmup_stable_decay(self.step, self.config.steps, self.config.warmup, self.config.decay_fraction)
        )
        self.ema.update(self.model)
        self.step += 1
        return {"loss": loss.item(), "grad": norm.item()}

    def loss(
        self,
        bucket: LatentBucket,
        z: Tensor,
        captions: list[str],
        condition: Condition,
        generator: torch.Generator,
        shift: float | None = None,
    ) -> Tensor:
        """Mean velocity error of a batch of latents (B, C, T, H, W)."""
        text = self.text.encode(captions)
        length = int(text["mask"].sum(1).max())
        y, mask = text["y"][:, :, :length].to(self.device), text["mask"][:, :length].to(self.device)
        batch = len(captions)
        size = {"height": bucket.height, "width": bucket.width, "fps": self.config.fps, "num_frames": bucket.frames}
        if shift is None:
            times = self.scheduler.training.times(batch, size, generator, self.device)
        else:
            times = training_times(batch, torch.tensor(shift), self.config.sample_method, generator, self.device)
        emphasis = self.config.emphasis
        losses = self.scheduler.training_losses(
            self.model,
            z,
            {"y": y, "mask": mask, **{k: torch.full((batch,), float(v), device=self.device) for k, v in size.items()}},
            t=times * NUM_TIMESTEPS,
            position_weights=loss_weights(z, times, emphasis) if emphasis else None,
            mask_index=None if condition.frames is None else list(condition.frames),
            drop=condition.drop,
            y_null=self.model.y_embedder.y_embedding[None, None, :length].expand(batch, 1, -1, -1),
            x_cond_weight=self.config.given_frame_weight,
            generator=generator,
        )
        return losses.mean()

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
        model = STDiT3(self.config.model)
        self.ema.copy_to(model)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(json.dumps(asdict(self.config.model), indent=1) + "\n")
        metadata = {"family": "1.3", "role": "stdit", "steps": str(self.step), "seed": str(self.config.seed)}
        safetensors_io.save(model, directory / "model.safetensors", metadata, dtype=torch.bfloat16)
