"""The bundled denoiser: Open-Sora 1.3's STDiT3, small, in stages of growing resolution and length.

The window is larger than every grid at 144p, so that its temporal blocks attend over the whole clip.
"""

from opensora.models.stdit.stdit3 import STDiT3Config
from opensora.training.diffusion import DiffusionTrainConfig, Stage
from opensora.training.latents import LatentBucket

FINAL = (
    ("1x144x256", 0.25),
    ("17x144x256", 0.4),
    ("49x144x256", 1.0),
    ("1x256x144", 0.06),
    ("17x256x144", 0.06),
    ("1x192x192", 0.06),
    ("17x192x192", 0.06),
    ("97x144x256", 0.08),
)
"""Mostly the clip that the page makes by default."""

config = DiffusionTrainConfig(
    model=STDiT3Config(
        in_channels=12,
        hidden_size=192,
        depth=4,
        num_heads=4,
        caption_channels=192,
        model_max_length=80,
        kernel_size=(16, 16, -1),
        use_spatial_rope=True,
        class_dropout_prob=0.1,
    ),
    vae="assets/tiny/vae",
    text="assets/tiny/t5",
    latents="runs/tiny/latents",
    buckets=(
        LatentBucket(1, 144, 256, 5120),
        LatentBucket(17, 64, 112, 2048),
        LatentBucket(17, 144, 256, 1024),
        LatentBucket(49, 144, 256, 1024),
        LatentBucket(1, 256, 144, 256),
        LatentBucket(17, 256, 144, 64),
        LatentBucket(1, 192, 192, 256),
        LatentBucket(17, 192, 192, 64),
        LatentBucket(97, 144, 256, 32),
        LatentBucket(1, 144, 256, 10240, of=49),
        LatentBucket(49, 64, 112, 2048),
        LatentBucket(1, 256, 144, 256, of=49),
        LatentBucket(49, 256, 144, 64),
        LatentBucket(1, 192, 192, 256, of=49),
        LatentBucket(49, 192, 192, 64),
        LatentBucket(1, 144, 256, 4096, of=49, subjects=2),
    ),
    stages=(
        Stage(steps=1400, mixture=(("1x144x256", 1.0), ("17x64x112", 1.0)), tokens=4320, shift=1.0),
        Stage(steps=500, mixture=(("1x144x256", 0.7), ("17x64x112", 0.4), ("17x144x256", 1.0)), tokens=3600, shift=3.0),
        Stage(steps=500, mixture=FINAL, tokens=3744, shift=3.0),
        Stage(
            steps=1500,
            mixture=(("1x144x256", 1.0), ("17x144x256", 1.0), ("49x144x256", 0.4)),
            tokens=3744,
            shift=3.0,
        ),
        Stage(
            steps=1850,
            mixture=(
                ("1x144x256", 0.6),
                ("17x144x256", 0.5),
                ("49x144x256", 1.0),
                ("1x256x144", 0.04),
                ("17x256x144", 0.04),
                ("1x192x192", 0.04),
                ("17x192x192", 0.04),
                ("97x144x256", 0.06),
            ),
            tokens=3744,
            shift=3.0,
        ),
        Stage(
            steps=650,
            mixture=(("1of49x144x256", 0.35), ("49x64x112", 1.0), ("49x144x256", 0.3)),
            tokens=3744,
            shift=3.0,
            text_share=0.15,
            head_share=0.75,
        ),
        Stage(
            steps=1150,
            mixture=(("1of49x144x256", 0.1), ("49x64x112", 1.0), ("49x144x256", 0.4)),
            tokens=3744,
            shift=12.0,
            text_share=0.05,
            head_share=0.9,
            emphasis_fades=False,
        ),
        Stage(
            steps=650,
            mixture=(
                ("1of49x144x256", 0.4),
                ("49x64x112", 0.3),
                ("49x144x256", 1.0),
                ("17x144x256", 0.1),
                ("1of49x256x144", 0.04),
                ("49x256x144", 0.06),
                ("1of49x192x192", 0.04),
                ("49x192x192", 0.06),
                ("97x144x256", 0.06),
            ),
            tokens=3744,
            shift=5.0,
            text_share=0.15,
            head_share=0.7,
        ),
        Stage(
            steps=2400,
            mixture=(
                ("1of49x144x256", 0.4),
                ("1of49x144x256-2", 0.22),
                ("1of49x256x144", 0.02),
                ("1of49x192x192", 0.02),
                ("49x144x256", 0.3),
                ("17x144x256", 0.03),
                ("49x256x144", 0.02),
                ("49x192x192", 0.02),
                ("97x144x256", 0.02),
            ),
            tokens=3744,
            shift=5.0,
            picture_shift=2.0,
            text_share=0.1,
            head_share=0.75,
        ),
    ),
    decay_fraction=0.2,
    emphasis=4.0,
    text_share=0.65,
    head_share=0.25,
)
