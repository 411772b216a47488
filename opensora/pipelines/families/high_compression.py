"""Open-Sora 2.0 with the DC-AE: one latent, and one token, of 4 x 32 x 32 pixels.

At 768px a clip has a quarter of the tokens. Nothing about this autoencoder is causal: clips have multiples of 4 frames,
of which a given first image takes four, as the published pipeline makes them.
"""

from typing import Any

from opensora.models.dc_ae.dc_ae import DCAE
from opensora.models.mmdit.config import HIGH_COMPRESSION
from opensora.pipelines.cost import Shape
from opensora.pipelines.families.v2 import V2


class HighCompression(V2):
    """The networks of high compression as the pipeline sees them."""

    published = HIGH_COMPRESSION
    vae_type = DCAE

    def widest(self, vae: Any, shape: Shape) -> int:
        rows, columns = (min(side, vae.spatial_tile_size) for side in (shape.height, shape.width))
        numbers: int = vae.width_list[0] * rows * columns * min(shape.frames, vae.temporal_tile_size)
        return numbers
