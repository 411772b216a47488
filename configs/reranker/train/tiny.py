"""The bundled reranker, on the pictures that the bundled denoiser was trained on."""

from opensora.training.latents import LatentBucket
from opensora.training.reranker import RerankerTrainConfig

config = RerankerTrainConfig(
    text="assets/tiny/t5",
    latents="runs/tiny/latents",
    buckets=(
        LatentBucket(1, 144, 256, 10240, of=49),
        LatentBucket(1, 144, 256, 8192, of=49, subjects=2),
        LatentBucket(1, 144, 256, 5120),
    ),
)
