"""Open-Sora 1.2, text to video with the published settings; with --ref it goes on from an image or a clip."""

from opensora.pipelines.request import GenerationRequest

config = GenerationRequest(
    prompt="a lighthouse on a cliff at dusk, waves break against the rocks",
    model="opensora-1.2",
    resolution="240p",
    aspect_ratio="16:9",
    length="51f",
    aesthetic_score=6.5,
    steps=30,
    guidance=7.0,
    dtype="bf16",
)
