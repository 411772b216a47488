"""FLUX.1: pictures of 2.0's kind of network, distilled, so that one row is computed with the guidance told to it."""

from typing import Any

from opensora.models.autoencoder_2d.autoencoder import AutoEncoder
from opensora.models.mmdit.config import FLUX
from opensora.pipelines.bundle import Bundle
from opensora.pipelines.cost import Shape
from opensora.pipelines.families.v2 import V2, forward_flops, latent_size
from opensora.pipelines.models import PipelineConfig
from opensora.sampling.denoise import SamplingOption


class Flux(V2):
    """FLUX.1 as the pipeline sees it."""

    published = FLUX
    vae_type = AutoEncoder

    def scheduler(self, config: PipelineConfig, steps: int, guidance: float) -> SamplingOption:
        shift = config.bundle.card.time_shift
        return SamplingOption(
            num_steps=steps, guidance=guidance, guidance_img=None, method="distilled", flow_shift=shift
        )

    def sampling_flops(self, bundle: Bundle, shape: Shape, steps: int, given: bool) -> float:
        config, vae = self.configs(bundle)
        return steps * forward_flops(config, latent_size(vae, shape), bundle.card.text_tokens) * shape.videos

    def widest(self, vae: Any, shape: Shape) -> int:
        numbers: int = vae.ch * shape.height * shape.width
        return numbers
