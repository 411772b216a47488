"""Open-Sora 1.3 goes on from the end of a clip, published settings; give the clip with --ref."""

from opensora.pipelines.request import GenerationRequest

config = GenerationRequest(
    prompt="waves break against the rocks",
    model="opensora-1.3-i2v",
    resolution="360p",
    length="97f",
    steps=30,
    guidance=7.5,
    image_guidance=5.0,
    cond_type="v2v_head",
    dtype="bf16",
)
