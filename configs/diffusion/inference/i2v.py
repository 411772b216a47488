"""Open-Sora 1.3, image to video with the published settings; give the image with --image."""

from opensora.pipelines.request import GenerationRequest

config = GenerationRequest(
    prompt="waves break against the rocks",
    model="opensora-1.3-i2v",
    resolution="360p",
    length="97f",
    steps=30,
    guidance=7.5,
    image_guidance=5.0,
    cond_type="i2v_head",
    dtype="bf16",
)
