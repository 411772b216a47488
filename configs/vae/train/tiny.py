"""The bundled autoencoder: Open-Sora 1.3's design with few channels.

The published 32 normalisation groups would leave one channel in a group at the size of the pixels, which erases the
mean of every feature map; four groups keep four channels in each.
"""

from opensora.models.vae_v13.vae import VAEv13Config
from opensora.training.vae import VAEBucket, VAETrainConfig

config = VAETrainConfig(
    model=VAEv13Config(
        z_channels=12,
        ch=16,
        ch_mult=(1, 2, 4, 6),
        num_res_blocks=1,
        norm_groups=4,
        micro_frame_size=None,
        micro_batch_size=None,
        micro_batch_size_2d=None,
        use_tiled_conv3d=False,
        normalization=None,
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
)
