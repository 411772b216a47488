"""Open-Sora 2.0 at 768px with the published settings: FLUX.1 paints the prompt, and the picture is set in motion."""

from opensora.pipelines.request import GenerationRequest

config = GenerationRequest(
    prompt="raining, sea",
    model="opensora-2.0",
    picture_model="flux.1-dev",
    resolution="768px",
    aspect_ratio="16:9",
    length="129f",
    motion_score=4,
    steps=50,
    guidance=7.5,
    image_guidance=3.0,
    dtype="bf16",
)
