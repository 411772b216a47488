"""Open-Sora 2.0 with the autoencoder of high compression, published settings: FLUX.1 paints the prompt first."""

from opensora.pipelines.request import GenerationRequest

config = GenerationRequest(
    prompt="raining, sea",
    model="opensora-2.0-high-compression",
    picture_model="flux.1-dev",
    resolution="768px",
    aspect_ratio="16:9",
    length="128f",
    motion_score=4,
    steps=50,
    guidance=7.5,
    image_guidance=3.0,
    dtype="bf16",
)
