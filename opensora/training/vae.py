"""Training of a small autoencoder, of Open-Sora 1.3's design or Hunyuan's, on rendered clips and random textures.

Legend: B batch, T frames, H, W pixels; pixels in [-1, 1].
"""

import json
import logging
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from opensora.checkpoint import safetensors_io
from opensora.datasets.textures import random_clip, random_image
from opensora.datasets.world.scene import random_scene, render
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D, HunyuanVAEConfig
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3, VAEv13Config
from opensora.training import vae_init, vae_init_hunyuan
from opensora.training.optim import OptimizerName, Optimizers, warmup_stable_decay
from opensora.training.state import EMA, load_state, save_state

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VAEBucket:
    """One shape of training sample."""

    frames: int
    """Frames of a clip; 1 for images."""
    height: int
    """Pixels, a multiple of 8."""
    width: int
    """Pixels, a multiple of 8."""
    batch: int
    """Clips in a step."""
    weight: float = 1.0
    """Relative frequency of this shape."""


@dataclass(frozen=True)
class VAETrainConfig:
    """Recipe of the autoencoder."""

    model: VAEv13Config | HunyuanVAEConfig
    """Network."""
    buckets: tuple[VAEBucket, ...]
    """Shapes that steps draw from."""
    steps: int
    """Updates."""
    optimizer: OptimizerName = "muon"
    """``muon`` or ``adamw``."""
    lr: float = 1.5e-3
    """Peak learning rate."""
    warmup: int = 50
    """Updates of linear warm-up."""
    decay_fraction: float = 0.4
    """Share of the run that decays the learning rate to zero."""
    kl_weight: float = 1e-4
    """Weight of the mean KL divergence per latent element."""
    edge_weight: float = 0.5
    """Weight of the absolute error of spatial differences, which keeps edges crisp."""
    motion_weight: float = 0.5
    """Weight of the absolute error of temporal differences, which prevents flicker."""
    texture_share: float = 0.25
    """Share of samples that are random textures instead of the world."""
    grad_clip: float = 1.0
    """Largest gradient norm."""
    ema_decay: float = 0.995
    """Decay of the averaged weights that are exported."""
    encoder_steps: int | None = None
    """Update at which the encoder takes its averaged weights and is frozen, so that latents can be cached while the
    decoder trains on; ``None`` trains both to the end."""
    seed: int = 0
    """Seed of data and noise."""
    bf16: bool = True
    """Compute convolutions in bfloat16 under autocast; weights stay in float32."""
    save_every: int = 100
    """Updates between two state files."""
    statistics_samples: int = 48
    """Clips from which the latent mean and scale of the exported checkpoint are measured."""
    name: str = field(default="vae")
    """Used in logs."""


def sample_clip(config: VAETrainConfig, index: int, bucket: VAEBucket) -> np.ndarray:
    """Training sample number ``index``: uint8 (T, H, W, 3), the same for the same arguments."""
    rng = np.random.default_rng((config.seed, 1, index))
    if rng.random() < config.texture_share:
        if bucket.frames == 1:
            return random_image(rng, bucket.height, bucket.width)[None]
        return random_clip(rng, bucket.frames, bucket.height, bucket.width)
    scene = random_scene(rng)
    scale = rng.choice([1.0, 1.5, 2.25, 2.25])  # 2.25 of 64 pixels are those of 144p
    height, width = round(bucket.height * scale), round(bucket.width * scale)
    clip = render(scene, height, width, bucket.frames, fps=24, seed=int(rng.integers(2**31)))
    top, left = rng.integers(height - bucket.height + 1), rng.integers(width - bucket.width + 1)
    return clip[:, top : top + bucket.height, left : left + bucket.width]


def reconstruction_loss(output: Tensor, target: Tensor, edge_weight: float, motion_weight: float) -> Tensor:
    """Absolute error plus absolute errors of spatial and temporal differences, (B, 3, T, H, W) -> scalar."""
    error = (output - target).float()
    loss = error.abs().mean()
    if edge_weight:
        loss = loss + edge_weight * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
    if motion_weight and error.shape[2] > 1:
        loss = loss + motion_weight * error.diff(dim=2).abs().mean()
    return loss


def psnr(output: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pixels in [-1, 1] (peak-to-peak 2)."""
    return float(10 * torch.log10(4.0 / F.mse_loss(output.float().clamp(-1, 1), target.float()).clamp_min(1e-12)))


class VAETrainer:
    """Trains, resumes and exports the autoencoder."""

    def __init__(self, config: VAETrainConfig, run_dir: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.run_dir, self.step = config, run_dir, 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = ready_to_train(config.model).to(self.device).train()
        self.ema = EMA(self.model, config.ema_decay)
        self.optimizers = Optimizers(self.model, config.optimizer, config.lr, weight_decay=0.0)
        self.encoder_frozen = False
        self._resume()
        if self._past_encoder_steps():
            self._freeze_encoder()

    def _past_encoder_steps(self) -> bool:
        return self.config.encoder_steps is not None and self.step >= self.config.encoder_steps

    def _freeze_encoder(self) -> None:
        average = {k.removeprefix("encoder."): v for k, v in self.ema.shadow.items() if k.startswith("encoder.")}
        self.model.encoder.load_state_dict(average)
        self.model.encoder.requires_grad_(False)
        self.encoder_frozen = True
        log.info("%s: encoder frozen at step %d", self.config.name, self.step)

    def _resume(self) -> None:
        state = load_state(self.run_dir / "state.pt")
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
            self.optimizers.load_state_dict(state["optimizers"])
            self.step = state["step"]
            log.info("%s: resumed at step %d", self.config.name, self.step)

    def save(self) -> None:
        """Write the resumable state."""
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "step": self.step,
        }
        save_state(self.run_dir / "state.pt", state)

    def batch(self, step: int) -> Tensor:
        """Batch of update ``step``, (B, 3, T, H, W) in [-1, 1]."""
        rng = np.random.default_rng((self.config.seed, 0, step))
        weights = np.array([b.weight for b in self.config.buckets])
        bucket = self.config.buckets[rng.choice(len(weights), p=weights / weights.sum())]
        clips = [sample_clip(self.config, step * 64 + i, bucket) for i in range(bucket.batch)]
        return to_pixels(np.stack(clips)).to(self.device, memory_format=torch.channels_last_3d)

    def train_step(self) -> dict[str, float]:
        """One update; returns the loss terms."""
        config = self.config
        if self._past_encoder_steps() and not self.encoder_frozen:
            self._freeze_encoder()
        x = self.batch(self.step)
        generator = torch.Generator(self.device).manual_seed(config.seed * 1_000_003 + self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16):
            posterior = self.model.posterior(x)
            z = posterior.sample(generator)
            output = self.model.decode_raw(z, num_frames=x.shape[2])
        reconstruction = reconstruction_loss(output, x, config.edge_weight, config.motion_weight)
        kl = kl_per_element(posterior.mean.float(), posterior.logvar.float())
        (reconstruction + config.kl_weight * kl).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
        self.optimizers.step(warmup_stable_decay(self.step, config.steps, config.warmup, config.decay_fraction))
        self.ema.update(self.model)
        self.step += 1
        return {"loss": reconstruction.item(), "kl": kl.item(), "psnr": psnr(output.detach(), x), "grad": norm.item()}

    def run(self, max_seconds: float | None = None) -> list[dict[str, float]]:
        """Train to the end of the recipe, or for ``max_seconds``; state is saved on the way and at the end."""
        history: list[dict[str, float]] = []
        start = time.monotonic()
        while self.step < self.config.steps and (max_seconds is None or time.monotonic() - start < max_seconds):
            history.append(self.train_step())
            if self.step % 20 == 0:
                recent = {k: sum(h[k] for h in history[-20:]) / len(history[-20:]) for k in history[-1]}
                pace = (time.monotonic() - start) / len(history)
                text = " ".join(f"{k} {v:.4g}" for k, v in recent.items())
                log.info("%s step %d/%d %.2f s/step %s", self.config.name, self.step, self.config.steps, pace, text)
            if self.step % self.config.save_every == 0:
                self.save()
        self.save()
        return history

    def export(self, directory: Path) -> None:
        """Write the averaged weights with measured latent statistics as a loadable checkpoint."""
        self.ema.copy_to(self.model)
        self.model.eval()
        config = self.measured_config()
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(json.dumps(asdict(config), indent=1) + "\n")
        family = "2.0" if isinstance(config, HunyuanVAEConfig) else "1.3"
        metadata = {"family": family, "role": "vae", "steps": str(self.step), "seed": str(self.config.seed)}
        safetensors_io.save(self.model, directory / "model.safetensors", metadata, dtype=torch.bfloat16)

    def measured_config(self) -> VAEv13Config | HunyuanVAEConfig:
        """The network's configuration with the normalisation of its latents.

        1.3 has a mean and a scale for each channel. Its scale is halfway, geometrically, between the channel's own
        standard deviation and that of all channels: with one scale for all, colours (the first channels) would drown in
        noise long after the details; with its own for each, channels that carry little would take as much of the
        denoiser's capacity as colours. Hunyuan's has one of both for all channels.
        """
        values = self.latent_samples()
        if isinstance(self.config.model, HunyuanVAEConfig):
            mean, std = float(values.mean()), float(values.std())
            return replace(self.config.model, scale_factor=1 / std, shift_factor=mean)
        means = values.mean(1)
        spread = (values - means[:, None]).square().mean(1).sqrt()
        scale = (spread * spread.square().mean().sqrt()).sqrt()
        return replace(
            self.config.model, normalization_mean=tuple(means.tolist()), normalization_std=tuple(scale.tolist())
        )

    @torch.no_grad()
    def latent_samples(self) -> Tensor:
        """Means of raw latents of clips of the world, (C, samples)."""
        bucket = max(self.config.buckets, key=lambda b: b.frames)
        moments = []
        for i in range(self.config.statistics_samples):
            clip = to_pixels(sample_clip(replace(self.config, texture_share=0.0), 10_000_000 + i, bucket)[None])
            moments.append(self.model.posterior(clip.to(self.device)).mean.float().flatten(2))
        return torch.cat(moments, dim=2).transpose(0, 1).flatten(1)


def ready_to_train(config: VAEv13Config | HunyuanVAEConfig) -> Any:
    """The network of a configuration with the weights that training starts from."""
    if isinstance(config, HunyuanVAEConfig):
        hunyuan = AutoencoderKLCausal3D(config)
        vae_init_hunyuan.prepare_for_training(hunyuan)
        return hunyuan
    model = OpenSoraVAE_V1_3(config)
    vae_init.prepare_for_training(model)
    return model


def kl_per_element(mean: Tensor, logvar: Tensor) -> Tensor:
    """Mean KL divergence of N(mean, exp(logvar)) from N(0, 1) per latent element."""
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()


def to_pixels(clips: np.ndarray) -> Tensor:
    """uint8 (B, T, H, W, 3) -> float32 (B, 3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0
