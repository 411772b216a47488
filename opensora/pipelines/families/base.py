"""What the pipeline asks of a generation of networks; everything else is shared."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from opensora.acceleration.offload import Places
from opensora.models.text.precision import TextSettings
from opensora.pipelines.bundle import Bundle
from opensora.pipelines.cost import Memory, Shape
from opensora.pipelines.models import Clip, Models, Networks, PipelineConfig
from opensora.pipelines.preview import Preview
from opensora.pipelines.reporter import Reporter


class Family(Protocol):
    """A generation of networks: how it is loaded, what it costs, and its stages."""

    def load(self, bundle: Bundle, places: Places, dtype: torch.dtype, text: TextSettings, optimize: bool) -> Networks:
        """The networks of a bundle, ready to run where they are to lie.

        Raises:
            ValueError: weights that are missing, damaged, or not made for each other.
        """

    def skeleton(self, bundle: Bundle) -> nn.Module:
        """The denoiser without memory, for the names and shapes of its layers."""

    def condition_frame_length(self, vae: nn.Module) -> int:
        """Latent frames that a later part of a clip starts from."""

    def scheduler(self, config: PipelineConfig, steps: int, guidance: float) -> object:
        """The sampler as users of Open-Sora know it."""

    def modules(self, models: Models) -> list[nn.Module]:
        """Networks whose layers can ask whether to stop."""

    def encode_texts(self, models: Models, texts: list[str]) -> None:
        """Let the text encoder remember every text, one at a time so that the company of others changes no bit.

        Raises:
            GenerationError: features that are no numbers.
        """

    def cut_texts(self, models: Models, texts: list[str]) -> list[tuple[int, int]]:
        """Tokens that a text has and that the network reads, of the texts whose end is not read."""

    def encode_reference(self, models: Models, frames: np.ndarray) -> Tensor:
        """Latents (1, C, T', H', W') of a given clip or picture, uint8 (T, H, W, 3), of the clip's size.

        Raises:
            GenerationError: the autoencoder made no numbers of it.
        """

    def denoise(self, models: Models, clip: Clip, seed: int, reporter: Reporter, preview: Preview | None) -> Tensor:
        """Latents (1, C, T, H, W) of a whole clip; every step of the sampler is reported as a step.

        Raises:
            GenerationError: the network made no numbers, or all the same.
            Cancelled: the caller asked to stop.
        """

    def count_pieces(self, models: Models, latents: int) -> int:
        """How many pieces :meth:`decode` yields of so many latent frames."""

    def decode(self, models: Models, latents: Tensor, frames: int) -> Iterator[np.ndarray]:
        """Pieces of the clip, uint8 (t, H, W, 3), ``frames`` frames in all."""

    def sampling_flops(self, bundle: Bundle, shape: Shape, steps: int, given: bool) -> float:
        """Operations of all denoising steps; ``given`` is whether there is a reference image."""

    def decoding_flops(self, bundle: Bundle, shape: Shape) -> float:
        """Operations of decoding every clip."""

    def memory(self, bundle: Bundle, shape: Shape, bytes_each: int, given: bool) -> Memory:
        """About how much weights and activations take."""
