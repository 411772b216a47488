"""What a pipeline works with: the networks of a bundle, how they are sampled, and what is made with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from opensora.pipelines.bundle import Bundle
from opensora.pipelines.parts import Part
from opensora.pipelines.plan import ExecutionPlan


@dataclass(frozen=True)
class PipelineConfig:
    """How a mode and a resolution of a bundle are sampled."""

    bundle: Bundle
    """Weights, lengths and defaults."""
    mode: str
    """``t2v``, ``i2v`` or ``t2i``."""
    resolution: str
    """Row of the table of sizes."""
    plan: ExecutionPlan
    """Where and how it is computed."""
    num_sampling_steps: int
    """Denoising steps."""
    cfg_scale: float
    """Text guidance."""
    image_cfg_scale: float
    """Image guidance."""
    use_oscillation_guidance: bool
    """Whether text guidance oscillates, and image guidance with given frames."""
    use_flaw_fix: bool
    """Whether the spread of guided predictions is pulled back."""
    scale_image_weight: bool
    """Whether image guidance falls over the steps and grows over the frames."""
    use_sdedit: bool
    """Whether given frames follow the noise schedule."""
    condition_frame_length: int
    """Latent frames that a part of a clip starts from."""
    reranker: Any = field(default=None, repr=False)
    """What picks among pictures of a text, where the bundle has it."""


class Networks(NamedTuple):
    """Networks as they were loaded."""

    vae: Any
    """The autoencoder."""
    text_encoder: Any
    """The text encoder, or both of 2.0."""
    stdit: Any
    """The denoiser: a STDiT3, or 2.0's MMDiT."""
    weights: dict[str, str]
    """sha256 of every network's weights."""
    reranker: Any = None
    """What picks among pictures, where the bundle has it."""


class Models(NamedTuple):
    """Everything that a generation needs."""

    vae: Any
    """The autoencoder."""
    text_encoder: Any
    """The text encoder, or both of 2.0."""
    stdit: Any
    """The denoiser: a STDiT3, or 2.0's MMDiT."""
    scheduler: Any
    """The sampler with the bundle's own steps and guidance."""
    config: PipelineConfig


@dataclass(frozen=True)
class Clip:
    """What is made, besides the seed."""

    texts: list[str]
    """Of every part."""
    negative: list[str] | None
    """Of every part."""
    parts: Sequence[Part]
    """Runs of the sampler."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    fps: int
    """Frames per second."""
    steps: int
    """Denoising steps."""
    guidance: float
    """Text guidance."""
    image_guidance: float
    """Image guidance."""
    cond_type: str | None
    """Where the reference goes."""
    references: tuple[Tensor, ...] = field(repr=False, default=())
    """Latents (1, C, T, H, W) of what is given, the beginning first."""
    picture_first: bool = False
    """Whether the first frame is made by a run of its own and then given to the first part."""
    candidate: int | None = None
    """Which of several pictures that are made first is kept, from 0; ``None``: the one that fits the text best."""

    @property
    def runs(self) -> int:
        """Runs of the sampler."""
        return len(self.parts) + self.picture_first
