"""Open-Sora 1.3, text to video at 720p with the published settings."""

from opensora.pipelines.request import GenerationRequest

config = GenerationRequest(
    prompt="a lighthouse on a cliff at dusk, waves break against the rocks",
    model="opensora-1.3-t2v-720p",
    resolution="720p",
    aspect_ratio="16:9",
    length="97f",
    steps=30,
    guidance=7.5,
    dtype="bf16",
)
