"""Training of a small STDiT3 on cached latents with the published rectified-flow loss.

Legend: B clips, C latent channels, T latent frames, H, W latent rows and columns, L text tokens.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config
from opensora.models.text.t5 import T5Encoder
from opensora.sampling.rectified_flow import RFLOW
from opensora.sampling.schedule import NUM_TIMESTEPS, training_times
from opensora.training.emphasis import loss_weights
from opensora.training.latent_trainer import LatentTrainer, Stage, TrainConfig, stage_at
from opensora.training.latents import LatentBucket

__all__ = ["DiffusionTrainConfig", "DiffusionTrainer", "Stage", "draw_condition", "stage_at"]


@dataclass(frozen=True, kw_only=True)
class DiffusionTrainConfig(TrainConfig):
    """Recipe of the denoiser."""

    model: STDiT3Config
    """Network."""
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
    start_from: str | None = None
    """Folder of an exported denoiser whose weights a new run begins with; ``None`` begins with random ones."""


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


class DiffusionTrainer(LatentTrainer[DiffusionTrainConfig]):
    """Trains, resumes and exports a STDiT3 of 1.3."""

    family = "1.3"

    def __init__(self, config: DiffusionTrainConfig, run_dir: Path) -> None:
        super().__init__(config, run_dir)
        self.text = T5Encoder.from_pretrained(config.text, max_length=config.model.model_max_length)
        self.scheduler = RFLOW(use_timestep_transform=True, sample_method=config.sample_method)

    def fresh(self) -> STDiT3:
        if self.config.start_from is None:
            return STDiT3(self.config.model)
        model = STDiT3.from_pretrained(self.config.start_from)
        if model.config != self.config.model:
            raise ValueError(f"{self.config.start_from} holds another network than the recipe's; change its model.")
        return model

    def empty(self) -> STDiT3:
        return STDiT3(self.config.model)

    def measure(
        self,
        stage: Stage,
        bucket: LatentBucket,
        z: Tensor,
        captions: list[str],
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> Tensor:
        condition = draw_condition(self.config, stage, rng, z.shape[2])
        return self.loss(bucket, z, captions, condition, generator, stage.shift_of(bucket), stage.emphasis_fades)

    def loss(
        self,
        bucket: LatentBucket,
        z: Tensor,
        captions: list[str],
        condition: Condition,
        generator: torch.Generator,
        shift: float | None = None,
        emphasis_fades: bool = True,
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
            position_weights=loss_weights(z, times, emphasis, emphasis_fades) if emphasis else None,
            mask_index=None if condition.frames is None else list(condition.frames),
            drop=condition.drop,
            y_null=self.model.y_embedder.y_embedding[None, None, :length].expand(batch, 1, -1, -1),
            x_cond_weight=self.config.given_frame_weight,
            generator=generator,
        )
        return losses.mean()
