"""Training of a small MMDiT on cached latents: rectified flow, with given frames as the published training gives them.

Legend: B clips, C latent channels, T latent frames, H, W latent rows and columns, p patch size, N video tokens.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from opensora.models.mmdit.mmdit import MMDiT, MMDiTConfig
from opensora.models.text.conditioner import HFEmbedder
from opensora.sampling.given_frames import TEXT_ONLY, clip_latents, prepare_condition
from opensora.sampling.schedule import add_noise, training_times
from opensora.sampling.tokens import pack, prepare_ids, unpack
from opensora.training.emphasis import loss_weights
from opensora.training.latent_trainer import LatentTrainer, Stage, TrainConfig
from opensora.training.latents import LatentBucket

CONDITIONS: tuple[tuple[str, float], ...] = (
    (TEXT_ONLY, 0.35),
    ("i2v_head", 0.35),
    ("i2v_tail", 0.08),
    ("i2v_loop", 0.1),
    ("v2v_head", 0.08),
    ("v2v_tail", 0.04),
)


@dataclass(frozen=True, kw_only=True)
class MMDiTTrainConfig(TrainConfig):
    """Recipe of the denoiser of 2.0's design."""

    wording = "2.0"

    model: MMDiTConfig
    """Network."""
    clip: str
    """Folder of the frozen CLIP text encoder."""
    text_tokens: int = 64
    """Tokens to which T5's texts are padded; padding is attended to, as the published network was trained."""
    clip_tokens: int = 77
    """Tokens that CLIP reads."""
    conditions: tuple[tuple[str, float], ...] = CONDITIONS
    """What clips are given, with relative frequencies; a clip too short for a condition gets text alone."""
    drop_text: float = 0.1
    """Share of clips whose text is empty, which text guidance needs."""


class MMDiTTrainer(LatentTrainer[MMDiTTrainConfig]):
    """Trains, resumes and exports a MMDiT."""

    family = "2.0"

    def __init__(self, config: MMDiTTrainConfig, run_dir: Path) -> None:
        super().__init__(config, run_dir)
        self.patch = config.model.patch_size**2
        self.t5 = HFEmbedder(config.text, config.text_tokens, hf_module="T5EncoderModel").to(self.device)
        self.clip = HFEmbedder(config.clip, config.clip_tokens, hf_module="CLIPTextModel").to(self.device)

    def fresh(self) -> MMDiT:
        return MMDiT(self.config.model)

    def empty(self) -> MMDiT:
        return MMDiT(self.config.model)

    def measure(
        self,
        stage: Stage,
        bucket: LatentBucket,
        z: Tensor,
        captions: list[str],
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> Tensor:
        texts = ["" if rng.random() < self.config.drop_text else caption for caption in captions]
        cond = self.given(z, rng)
        shift = stage.shift_of(bucket)
        shifts = None if shift is None else torch.tensor(shift)
        times = training_times(len(z), shifts, self.config.sample_method, generator, self.device)
        weights = None
        if self.config.emphasis:
            weights = loss_weights(z, times, self.config.emphasis, stage.emphasis_fades)
        return self.loss(z, texts, cond, times, weights, generator)

    def given(self, z: Tensor, rng: np.random.Generator) -> Tensor:
        """Mask and latents (B, 1 + C, T, H, W) of the frames that each clip of a batch is given."""
        names, shares = zip(*self.config.conditions, strict=True)
        weights = np.array(shares) / sum(shares)
        rows = []
        for sample in z.split(1):
            name = names[rng.choice(len(names), p=weights)]
            count = clip_latents(name, causal=True) if name != TEXT_ONLY else 0
            if count * (2 if name == "i2v_loop" else 1) >= z.shape[2]:
                name = TEXT_ONLY
            references = [[sample[0], sample[0]]] if name == "i2v_loop" else [[sample[0]]]
            masks, latents = prepare_condition(sample, name, () if name == TEXT_ONLY else references)
            rows.append(torch.cat((masks, latents), dim=1))
        return torch.cat(rows)

    def loss(
        self,
        z: Tensor,
        texts: list[str],
        cond: Tensor,
        times: Tensor,
        weights: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """Mean error of the velocity ``noise - data`` of latents (B, C, T, H, W) at ``times`` (B,), with ``weights`` of
        the positions."""
        patch = self.config.model.patch_size
        noise = torch.randn(z.shape, generator=generator, device=self.device)
        inputs = prepare_ids(add_noise(z, noise, times), self.t5(texts).float(), self.clip(texts).float(), patch)
        out = self.model(**inputs, timesteps=times, cond=pack(cond, patch))
        velocity = unpack(out, (z.shape[2], z.shape[3], z.shape[4]), patch)
        error = (velocity - (noise - z)).square()
        return error.mean() if weights is None else (error * weights).mean()
