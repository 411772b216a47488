"""The recipes of a small 2.0 checkpoint at a size that trains in seconds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opensora.datasets.world.scene import random_scene
from opensora.models.mmdit.mmdit import MMDiT, MMDiTConfig
from opensora.models.text.conditioner import HFEmbedder
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D, HunyuanVAEConfig
from opensora.training.clip import ClipTrainConfig, ClipTrainer
from opensora.training.latent_trainer import Stage
from opensora.training.latents import MOTION_SCORES, LatentBucket, clip_and_captions, fill
from opensora.training.mmdit import MMDiTTrainConfig, MMDiTTrainer
from opensora.training.text import TextTrainConfig, TextTrainer
from opensora.training.vae import VAEBucket, VAETrainConfig, VAETrainer, psnr, sample_clip, to_pixels

VAE = VAETrainConfig(
    model=HunyuanVAEConfig(
        latent_channels=4, block_out_channels=(16, 20, 24, 48), layers_per_block=1, norm_num_groups=4, scale_factor=1.0
    ),
    buckets=(VAEBucket(1, 32, 32, 4), VAEBucket(5, 32, 32, 2)),
    steps=6,
    lr=5e-5,
    warmup=2,
    statistics_samples=4,
)
WORDS = {"vocab_size": 560, "tokenizer_captions": 200, "layers": 1, "heads": 2, "batch": 12, "warmup": 5}
CLIP = ClipTrainConfig(d_model=32, d_ff=64, steps=40, lr=3e-3, **WORDS)
T5 = TextTrainConfig(d_model=48, d_ff=96, steps=2, **WORDS)
BUCKETS = (LatentBucket(9, 32, 32, 32), LatentBucket(1, 32, 32, 32, of=9))


def mean_loss(history: list[dict[str, float]]) -> float:
    return float(np.mean([entry["loss"] for entry in history]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports of an autoencoder and both text encoders, and latents."""
    root = tmp_path_factory.mktemp("recipes-v2")
    vae = VAETrainer(VAE, root / "run-vae")
    vae.run()
    vae.export(root / "vae")
    clip = ClipTrainer(CLIP, root / "run-clip")
    history = clip.run()
    assert mean_loss(history[-10:]) < 0.9 * mean_loss(history[:10])
    clip.export(root / "clip")
    text = TextTrainer(T5, root / "run-t5")
    text.run()
    text.export(root / "t5")
    for bucket in BUCKETS:
        fill(AutoencoderKLCausal3D.from_pretrained(root / "vae"), bucket, root / "latents", seed=0, wording="2.0")
    return root


def recipe(folder: Path, steps: int = 40) -> MMDiTTrainConfig:
    return MMDiTTrainConfig(
        model=MMDiTConfig(
            in_channels=16,
            vec_in_dim=32,
            context_in_dim=48,
            hidden_size=48,
            num_heads=2,
            depth=1,
            depth_single_blocks=1,
            axes_dim=(8, 8, 8),
        ),
        vae=str(folder / "vae"),
        text=str(folder / "t5"),
        clip=str(folder / "clip"),
        latents=str(folder / "latents"),
        buckets=BUCKETS,
        stages=(Stage(steps=steps, mixture=(("9x32x32", 1.0), ("1of9x32x32", 0.5)), tokens=48, shift=3.0),),
        text_tokens=40,
        emphasis=2.0,
        warmup=5,
    )


def test_the_loss_falls_and_a_resumed_run_is_the_same_run(folder: Path) -> None:
    history = MMDiTTrainer(recipe(folder), folder / "run-whole").run()
    assert mean_loss(history[-10:]) < 0.9 * mean_loss(history[:10])
    first = MMDiTTrainer(recipe(folder), folder / "run-parts")
    for _ in range(15):
        first.train_step()
    first.save()
    second = MMDiTTrainer(recipe(folder), folder / "run-parts")
    assert second.step == 15
    assert [second.train_step()["loss"] for _ in range(3)] == [entry["loss"] for entry in history[15:18]]
    second.export(folder / "stdit")
    assert MMDiT.from_pretrained(folder / "stdit").config == recipe(folder).model


def test_clips_are_given_what_the_published_conditions_give(folder: Path) -> None:
    trainer = MMDiTTrainer(recipe(folder), folder / "run-conditions")
    z = torch.randn(400, 4, 3, 4, 4)
    cond = trainer.given(z, np.random.default_rng(0))
    masks, latents = cond[:, :1], cond[:, 1:]
    assert torch.equal(latents, z * masks)
    kinds = {tuple(row.tolist()) for row in masks[:, 0, :, 0, 0]}
    assert kinds == {(0, 0, 0), (1, 0, 0), (0, 0, 1), (1, 0, 1)}  # clips of nine latent frames are not given
    alone = replace(recipe(folder), conditions=(("i2v_loop", 1.0),))
    loop = MMDiTTrainer(alone, folder / "run-conditions").given(z[:1], np.random.default_rng(0))
    assert loop[0, 0, :, 0, 0].tolist() == [1, 0, 1]


def test_a_hunyuan_autoencoder_starts_from_a_network_that_carries_colours(folder: Path) -> None:
    pixels = torch.cat([to_pixels(sample_clip(VAE, 9_000_000 + i, VAE.buckets[1])[None]) for i in range(4)])
    trainer = VAETrainer(VAE, folder / "run-start")
    with torch.no_grad():
        out = trainer.model.decode_raw(trainer.model.posterior(pixels).mean, num_frames=5)
    assert psnr(out, pixels) > 16
    trained = AutoencoderKLCausal3D.from_pretrained(folder / "vae")
    latents = trained.encode(pixels).detach()
    assert 0.3 < float(latents.std()) < 3 and abs(float(latents.mean())) < 1


def test_the_pooled_output_of_clip_knows_a_caption(folder: Path) -> None:
    pooled = HFEmbedder(folder / "clip", 77)(["a red ball rolls to the right", "빨간 공"])
    assert pooled.shape == (2, 32) and not torch.allclose(pooled[0], pooled[1])
    with pytest.raises(ValueError, match="no masked tokens"):
        ClipTrainConfig(mask_weight=0.1)


def test_captions_say_scores_as_2_0_does() -> None:
    _, lines = clip_and_captions(LatentBucket(5, 32, 32, 32), 3, seed=0, captions=40, wording="2.0")
    assert all("24 FPS." in line and "motion strength" not in line for line in lines)
    scores = {line.rsplit(" 24 FPS.", 1)[1] for line in lines}
    assert len(scores) == 2 and "" in scores and all(s == "" or s.endswith(" motion score.") for s in scores)
    _, pictures = clip_and_captions(BUCKETS[1], 3, seed=0, captions=10, wording="2.0")
    assert sum("FPS" in line for line in pictures) in (0, 10)
    assert sorted(MOTION_SCORES.values()) == list(MOTION_SCORES.values())
    assert random_scene(np.random.default_rng(0)).subjects[0].strength in MOTION_SCORES
