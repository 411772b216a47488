"""The three recipes of the bundled checkpoint at a size that trains in seconds: losses fall, runs resume exactly, and
what they export loads strictly."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opensora.datasets.world.scene import random_scene
from opensora.datasets.world.spec import heldout
from opensora.models.reranker import Reranker, RerankerConfig
from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config
from opensora.models.text.t5 import T5Encoder
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3, VAEv13Config
from opensora.training.diffusion import DiffusionTrainConfig, DiffusionTrainer, Stage, draw_condition, stage_at
from opensora.training.latents import LatentBucket, clip_and_captions, fill, load, scene_of
from opensora.training.reranker import RerankerTrainConfig, RerankerTrainer, nearly
from opensora.training.text import TextTrainConfig, TextTrainer
from opensora.training.vae import VAEBucket, VAETrainConfig, VAETrainer, reconstruction_loss, sample_clip, to_pixels

VAE = VAETrainConfig(
    model=VAEv13Config(
        z_channels=4,
        ch=16,
        ch_mult=(1, 2, 3, 4),
        num_res_blocks=1,
        norm_groups=4,
        micro_frame_size=None,
        micro_batch_size=None,
        micro_batch_size_2d=None,
        use_tiled_conv3d=False,
        normalization=None,
    ),
    buckets=(VAEBucket(1, 32, 32, 4), VAEBucket(5, 32, 32, 2)),
    steps=40,
    lr=5e-5,
    warmup=5,
    encoder_steps=30,
    statistics_samples=4,
)
TEXT = TextTrainConfig(
    vocab_size=500, tokenizer_captions=300, d_model=48, d_ff=96, layers=1, heads=2, steps=40, batch=12, warmup=5
)


def mean_loss(history: list[dict[str, float]]) -> float:
    return float(np.mean([entry["loss"] for entry in history]))


@torch.no_grad()
def reconstruction(trainer: VAETrainer) -> float:
    """Loss on pictures never trained on."""
    pixels = to_pixels(np.concatenate([sample_clip(VAE, 9_000_000 + i, VAE.buckets[1]) for i in range(6)])[:, None])
    output = trainer.model.decode_raw(trainer.model.posterior(pixels).mean, num_frames=1)
    return float(reconstruction_loss(output, pixels, VAE.edge_weight, VAE.motion_weight))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports of a trained autoencoder and text encoder."""
    root = tmp_path_factory.mktemp("recipes")
    vae = VAETrainer(VAE, root / "run-vae")
    before = reconstruction(vae)
    vae.run()
    vae.export(root / "vae")
    text = TextTrainer(TEXT, root / "run-text")
    text_losses = text.run()
    text.export(root / "t5")
    (root / "losses.json").write_text(json.dumps({"vae": [before, reconstruction(vae)], "text": text_losses}))
    return root


def diffusion_recipe(folder: Path, steps: int = 60) -> DiffusionTrainConfig:
    bucket = LatentBucket(5, 32, 32, 32)
    picture = LatentBucket(1, 32, 32, 32)
    vae = OpenSoraVAE_V1_3.from_pretrained(folder / "vae").eval()
    for entry in (bucket, picture):
        fill(vae, entry, folder / "latents", seed=0)
    return DiffusionTrainConfig(
        model=STDiT3Config(
            in_channels=4,
            hidden_size=48,
            depth=1,
            num_heads=2,
            caption_channels=48,
            model_max_length=64,
            kernel_size=(8, 8, -1),
        ),
        vae=str(folder / "vae"),
        text=str(folder / "t5"),
        latents=str(folder / "latents"),
        buckets=(bucket, picture),
        stages=(
            Stage(steps=steps // 2, mixture=((bucket.name, 1.0), (picture.name, 0.5)), tokens=64, shift=1.0),
            Stage(steps=steps - steps // 2, mixture=((bucket.name, 1.0),), tokens=64),
        ),
        warmup=5,
    )


def test_the_losses_of_autoencoder_and_text_encoder_fall(folder: Path) -> None:
    losses = json.loads((folder / "losses.json").read_text())
    assert losses["vae"][1] < losses["vae"][0]
    assert mean_loss(losses["text"][-10:]) < 0.9 * mean_loss(losses["text"][:10])


def test_the_denoisers_loss_falls_and_a_resumed_run_is_the_same_run(folder: Path) -> None:
    recipe = diffusion_recipe(folder)
    whole = DiffusionTrainer(recipe, folder / "run-whole")
    history = whole.run()
    assert mean_loss(history[-15:]) < 0.9 * mean_loss(history[:15])
    first = DiffusionTrainer(recipe, folder / "run-parts")
    for _ in range(20):
        first.train_step()
    first.save()
    second = DiffusionTrainer(recipe, folder / "run-parts")
    assert second.step == 20
    rest = second.run()
    assert [entry["loss"] for entry in rest] == [entry["loss"] for entry in history[20:]]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_exports_load_strictly_and_say_what_they_are(folder: Path) -> None:
    recipe = replace(diffusion_recipe(folder), stages=(Stage(steps=2, mixture=(("5x32x32", 1.0),), tokens=16),))
    trainer = DiffusionTrainer(recipe, folder / "run-export")
    trainer.run()
    trainer.export(folder / "stdit")
    stdit = STDiT3.from_pretrained(folder / "stdit")
    assert stdit.config == recipe.model
    going_on = DiffusionTrainer(replace(recipe, start_from=str(folder / "stdit")), folder / "run-on")
    assert going_on.step == 0
    assert all(torch.equal(v, stdit.state_dict()[k]) for k, v in going_on.model.state_dict().items())
    other = replace(recipe.model, depth=2)
    with pytest.raises(ValueError, match="another network"):
        DiffusionTrainer(replace(recipe, start_from=str(folder / "stdit"), model=other), folder / "run-other")
    vae = OpenSoraVAE_V1_3.from_pretrained(folder / "vae")
    text = T5Encoder.from_pretrained(folder / "t5", max_length=64)
    assert text.encode(["빨간 공", "a red ball"])["y"].shape == (2, 1, 64, 48)
    clip = to_pixels(sample_clip(VAE, 5, VAEBucket(17, 32, 32, 1))[None])
    latents = vae.encode(clip)
    assert latents.shape == (1, 4, 5, 4, 4)
    assert 0.3 < float(latents.std()) < 3.0


def test_the_frozen_encoder_does_not_change_while_the_decoder_trains_on(tmp_path: Path) -> None:
    recipe = replace(VAE, steps=6, encoder_steps=3)
    trainer = VAETrainer(recipe, tmp_path)
    for _ in range(4):
        trainer.train_step()
    before = {k: v.clone() for k, v in trainer.model.encoder.state_dict().items()}
    decoder = trainer.model.decoder.conv_out.weight.clone()
    trainer.run()
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.encoder.state_dict().items())
    assert not torch.equal(trainer.model.decoder.conv_out.weight, decoder)


def test_training_starts_from_a_network_that_carries_colours(tmp_path: Path) -> None:
    trainer = VAETrainer(VAE, tmp_path)
    colours = torch.tensor([[0.8, -0.6, -0.6], [-0.5, 0.4, 0.9], [0.9, 0.9, 0.9]])
    clip = colours[:, :, None, None, None].expand(3, 3, 1, 32, 32).contiguous(memory_format=torch.channels_last_3d)
    with torch.no_grad():
        out = trainer.model.decode_raw(trainer.model.posterior(clip).mean, num_frames=1)
    inside = out[..., 12:-12, 12:-12].mean((2, 3, 4))
    assert float((inside - colours).abs().max()) < 0.25


def test_latents_are_cached_once_and_never_show_a_held_out_combination(folder: Path) -> None:
    recipe = diffusion_recipe(folder)
    before = {p: p.stat().st_mtime_ns for p in (folder / "latents").rglob("*.safetensors")}
    diffusion_recipe(folder)
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "latents").rglob("*.safetensors")}
    cached = load(recipe.buckets[0], folder / "latents")
    assert cached.z.shape[0] == len(cached.captions) == 32
    with pytest.raises(ValueError, match="encode"):
        load(LatentBucket(9, 32, 32, 32), folder / "latents")


def test_a_run_says_at_once_which_latents_a_later_stage_lacks(folder: Path, tmp_path: Path) -> None:
    recipe = diffusion_recipe(folder)
    late = Stage(steps=1, mixture=(("9x32x32", 1.0),), tokens=16)
    recipe = replace(recipe, buckets=(*recipe.buckets, LatentBucket(9, 32, 32, 32)), stages=(*recipe.stages, late))
    trainer = DiffusionTrainer(recipe, tmp_path)
    with pytest.raises(ValueError, match="no latents of bucket 9x32x32 are cached"):
        trainer.run()
    assert trainer.step == 0


def test_stages_follow_each_other_and_conditions_are_mixed(folder: Path) -> None:
    recipe = diffusion_recipe(folder)
    assert stage_at(recipe, 29) is recipe.stages[0] and stage_at(recipe, 30) is recipe.stages[1]
    rng = np.random.default_rng(0)
    drawn = [draw_condition(recipe, recipe.stages[0], rng, 5) for _ in range(400)]
    assert {c.frames for c in drawn} >= {None, (0,), (0, 1)}
    assert {c.drop for c in drawn} == {"keep", "cond", "null"}
    assert all(draw_condition(recipe, recipe.stages[0], rng, 1).frames is None for _ in range(20))
    given = replace(recipe.stages[0], text_share=0.0, head_share=1.0)
    assert all(draw_condition(recipe, given, rng, 5).frames == (0,) for _ in range(20))


def test_a_picture_may_be_the_beginning_of_a_clip() -> None:
    clip, captions = clip_and_captions(LatentBucket(9, 48, 80, 32), 3, seed=0, captions=2)
    assert clip.shape == (9, 48, 80, 3) and len(captions) == 2
    bucket = LatentBucket(1, 48, 80, 32, of=9)
    assert bucket.name == "1of9x48x80"
    picture, _ = clip_and_captions(bucket, 3, seed=0, captions=2)
    assert picture.shape == (1, 48, 80, 3)


def test_a_bucket_may_hold_scenes_of_two_subjects_only() -> None:
    bucket = LatentBucket(1, 48, 80, 32, of=9, subjects=2)
    assert bucket.name == "1of9x48x80-2"
    rng = np.random.default_rng(0)
    assert {len(scene_of(bucket, rng).subjects) for _ in range(20)} == {2}
    drawn = LatentBucket(1, 48, 80, 32, of=9)
    assert len({len(scene_of(drawn, rng).subjects) for _ in range(60)}) > 1


def test_pictures_may_have_a_time_shift_of_their_own() -> None:
    stage = Stage(steps=1, mixture=(), tokens=1, shift=5.0, picture_shift=2.0)
    picture, clip = LatentBucket(1, 32, 32, 32), LatentBucket(5, 32, 32, 32)
    assert (stage.shift_of(picture), stage.shift_of(clip)) == (2.0, 5.0)
    assert replace(stage, picture_shift=None).shift_of(picture) == 5.0


def test_a_near_scene_differs_in_one_word_or_has_its_subjects_swapped_and_is_never_a_held_out_one() -> None:
    rng = np.random.default_rng(0)
    for count, most in ((0, 0), (1, 2), (2, 7)):
        for _ in range(20):
            scene = random_scene(rng, count=count)
            others = nearly(scene, rng)
            assert len(others) <= most and not any(heldout(other) for other in others)
            for other in others:
                assert replace(other, subjects=scene.subjects) == scene != other
                assert [s.motion for s in other.subjects] == [s.motion for s in scene.subjects]
                pairs = list(zip(scene.subjects, other.subjects, strict=True))
                if sum((a.kind != b.kind) + (a.colour != b.colour) for a, b in pairs) > 1:
                    for name in ("kind", "colour"):
                        before, after = ({getattr(s, name) for s in x.subjects} for x in (scene, other))
                        assert before == after


def test_the_reranker_learns_which_caption_belongs_to_a_picture_and_resumes(folder: Path) -> None:
    diffusion_recipe(folder)  # fills the cache
    recipe = RerankerTrainConfig(
        model=RerankerConfig(in_channels=4, caption_channels=48, width=24, depth=1, vectors=4, dim=16),
        text=str(folder / "t5"),
        max_length=64,
        latents=str(folder / "latents"),
        buckets=(LatentBucket(1, 32, 32, 32),),
        held_out=8,
        steps=60,
        batch=12,
        near_from=45,
        near_batch=6,
        warmup=5,
        noise=0.2,
    )
    whole = RerankerTrainer(recipe, folder / "run-reranker")
    assert (len(whole.captions), len(whole.test_captions)) == (24, 8)
    history = whole.run()
    assert mean_loss(history[35:45]) < 0.9 * mean_loss(history[:10])
    assert 0.0 <= whole.accuracy() <= 1.0
    first = RerankerTrainer(recipe, folder / "run-reranker-parts")
    for _ in range(20):
        first.train_step()
    first.save()
    rest = RerankerTrainer(recipe, folder / "run-reranker-parts").run()
    assert [entry["loss"] for entry in rest] == [entry["loss"] for entry in history[20:]]
    whole.export(folder / "reranker")
    exported = Reranker.from_pretrained(folder / "reranker").requires_grad_(False)
    y, mask = whole.features([lines[0] for lines in whole.test_captions])
    z = whole.test_z.float()
    assert torch.allclose(exported(z, y, mask), whole.model.requires_grad_(False)(z, y, mask), atol=0.1)
