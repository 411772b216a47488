"""256px.py for several processes, which share the tokens of a clip: sequence parallelism, as 256px.py itself has it."""

from opensora.pipelines.request import GenerationRequest

config = GenerationRequest(
    prompt="raining, sea",
    model="opensora-2.0",
    resolution="256px",
    aspect_ratio="16:9",
    length="129f",
    motion_score=4,
    steps=50,
    guidance=7.5,
    image_guidance=3.0,
    dtype="bf16",
)
