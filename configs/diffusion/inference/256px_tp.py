"""256px.py for several processes, by the public name of splitting every matrix over them.

Here processes share rows of guidance first, then tokens, then the autoencoder's tiles, whatever config they read.
"""

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
