"""The autoencoder of the small 2.0 checkpoint: Hunyuan's design with few channels."""

from opensora.models.vae_hunyuan.config import HunyuanVAEConfig
from opensora.training.vae import VAEBucket, VAETrainConfig

config = VAETrainConfig(
    model=HunyuanVAEConfig(
        latent_channels=12,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        norm_num_groups=4,
        scale_factor=1.0,
        use_spatial_tiling=False,
    ),
    buckets=(
        VAEBucket(frames=1, height=64, width=64, batch=6, weight=1.0),
        VAEBucket(frames=17, height=40, width=40, batch=3, weight=2.0),
        VAEBucket(frames=9, height=48, width=48, batch=4, weight=1.0),
        VAEBucket(frames=17, height=64, width=64, batch=1, weight=0.5),
        VAEBucket(frames=5, height=48, width=48, batch=6, weight=1.0),
    ),
    steps=1600,
    lr=5e-5,
    warmup=30,
    encoder_steps=700,
    name="vae-v2",
)
