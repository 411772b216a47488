"""The bundled checkpoint at 144p: runs on any machine."""

from opensora.pipelines.request import GenerationRequest

config = GenerationRequest(
    prompt="a red ball rolls to the right over a green meadow, rain",
    model="tiny",
    resolution="144p",
    aspect_ratio="16:9",
    length="49f",
)
