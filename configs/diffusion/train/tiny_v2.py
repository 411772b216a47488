"""The small denoiser of 2.0's design: an MMDiT on the world's clips at 128 pixels' area.

A clip has 33 frames, or 65 where it is given half a clip to continue or to lead to.
"""

from opensora.models.mmdit.config import MMDiTConfig
from opensora.training.latent_trainer import Stage
from opensora.training.latents import LatentBucket
from opensora.training.mmdit import MMDiTTrainConfig

config = MMDiTTrainConfig(
    model=MMDiTConfig(
        in_channels=48,
        vec_in_dim=128,
        context_in_dim=192,
        hidden_size=192,
        num_heads=4,
        depth=3,
        depth_single_blocks=6,
        axes_dim=(16, 16, 16),
    ),
    vae="assets/tiny-v2/vae",
    text="assets/tiny/t5",
    clip="assets/tiny-v2/clip",
    latents="runs/tiny-v2/latents",
    buckets=(
        LatentBucket(1, 96, 176, 4096, of=33),
        LatentBucket(33, 96, 176, 2048),
        LatentBucket(65, 96, 176, 256),
        LatentBucket(1, 176, 96, 256, of=33),
        LatentBucket(33, 176, 96, 128),
        LatentBucket(1, 128, 128, 256, of=33),
        LatentBucket(33, 128, 128, 128),
    ),
    stages=(
        Stage(steps=1500, mixture=(("1of33x96x176", 1.0), ("33x96x176", 1.0)), tokens=3600, shift=3.0),
        Stage(
            steps=2500,
            mixture=(
                ("1of33x96x176", 0.3),
                ("33x96x176", 1.0),
                ("65x96x176", 0.2),
                ("1of33x176x96", 0.05),
                ("33x176x96", 0.1),
                ("1of33x128x128", 0.05),
                ("33x128x128", 0.1),
            ),
            tokens=3600,
            shift=3.0,
        ),
    ),
    emphasis=4.0,
)
