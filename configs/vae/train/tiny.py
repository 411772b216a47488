"""The bundled autoencoder: Open-Sora 1.3's design with the fewest channels its normalisation allows."""

from opensora.models.vae_v13.vae import VAEv13Config

from opensora.training.vae import VAEBucket, VAETrainConfig

config = VAETrainConfig(
    model=VAEv13Config(z_channels=12, ch=32, ch_mult=(1, 2, 3, 3), num_res_blocks=1, micro_frame_size=None),
    buckets=(
        VAEBucket(frames=1, height=96, width=96, batch=8, weight=2.0),
        VAEBucket(frames=17, height=64, width=64, batch=1, weight=2.0),
        VAEBucket(frames=9, height=64, width=64, batch=2, weight=1.0),
        VAEBucket(frames=5, height=80, width=80, batch=2, weight=1.0),
        VAEBucket(frames=17, height=64, width=96, batch=1, weight=1.0),
    ),
    steps=4000,
    encoder_steps=2000,
)
