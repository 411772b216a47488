"""The bundled denoiser: Open-Sora 1.3's STDiT3, small, in stages of growing resolution and length.

The window is larger than every grid at 144p, so that its temporal blocks attend over the whole clip.
"""

from opensora.models.stdit.stdit3 import STDiT3Config
from opensora.training.diffusion import DiffusionTrainConfig, Stage
from opensora.training.latents import LatentBucket

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
        LatentBucket(1, 64, 112, 6400),
        LatentBucket(17, 64, 112, 3200),
        LatentBucket(1, 144, 256, 1600),
        LatentBucket(17, 144, 256, 640),
        LatentBucket(49, 144, 256, 640),
    ),
    stages=(
        Stage(steps=1500, mixture=(("1x64x112", 1.0), ("17x64x112", 1.0)), tokens=4096),
        Stage(steps=2500, mixture=(("1x64x112", 0.3), ("17x64x112", 1.0)), tokens=6144),
        Stage(
            steps=1000,
            mixture=(("1x144x256", 0.2), ("17x144x256", 0.5), ("49x144x256", 1.0), ("17x64x112", 0.3)),
            tokens=8192,
        ),
    ),
)
