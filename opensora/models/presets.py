"""Which weights exist: one table of presets.

A preset is what a person chooses: a denoiser with the autoencoder and the text encoders it was trained with. Published
repositories could not be opened where this table was written, so it assumes little beyond their ids: single or sharded
safetensors with or without a config.json, and for T5 pickles where those are allowed. Sizes are parameter counts of the
public code times four bytes (float32; two for the large denoisers), hence "about"; the hub states exact ones before a
download starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from opensora.checkpoint.layout import CHECKPOINT, CLIP, T5, Layout
from opensora.checkpoint.locate import ASSETS

Role = Literal["stdit", "vae", "text", "clip", "reranker"]
Mode = Literal["t2v", "i2v", "t2i"]
MODES: tuple[Mode, ...] = ("t2v", "i2v", "t2i")


@dataclass(frozen=True)
class Component:
    """One network of a preset."""

    role: Role
    """What it is for."""
    source: str
    """"assets/…" for bundled weights, or a hub id."""
    parameters: int
    """Numbers in the state dict, buffers included; 0 for bundled weights, which are already here."""
    bytes_each: int = 4
    """Assumed bytes per parameter in the published file."""
    layout: Layout = CHECKPOINT
    """Which files it consists of."""
    revision: str = "main"
    """Branch, tag or commit of the repository."""
    config: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """Constructor fields with which it was published; the constructors' defaults are the same (tested)."""

    @property
    def bytes(self) -> int:
        """About how large its files are."""
        return self.parameters * self.bytes_each

    @property
    def bundled(self) -> bool:
        """Whether it comes with the repository."""
        return self.source.startswith(ASSETS)


@dataclass(frozen=True)
class Defaults:
    """What a request means where it leaves something open."""

    steps: int = 30
    """Denoising steps."""
    guidance: float = 7.5
    """Text guidance scale."""
    image_guidance: float = 5.0
    """Image guidance scale of i2v at the first step; it falls during sampling."""
    fps: int = 24
    """Frames per second."""
    frames: tuple[int, ...] = (49, 65, 81, 97, 113)
    """Lengths of the clips it was published for, besides 1 for an image."""


@dataclass(frozen=True)
class Preset:
    """A choice of weights that belong together."""

    name: str
    """What a person types."""
    title: str
    """What a person reads."""
    family: str
    """Generation of the networks: "1.2", "1.3" or "2.0", or "flux"."""
    modes: tuple[Mode, ...]
    """What it can do."""
    resolutions: tuple[str, ...]
    """Rows of the table of sizes it was trained for; the first is its default."""
    components: tuple[Component, ...]
    """Its networks."""
    high_compression: bool = False
    """Whether the autoencoder makes one latent of 4 x 32 x 32 pixels."""
    optional: bool = False
    """Whether it is offered only where all its files are: bundled weights that a clone may lack."""
    defaults: Defaults = Defaults()
    """Settings it was published with."""
    peak_gpu_bytes: int | None = None
    """Published peak of GPU memory, or a tenth more than all weights where none is published; None: runs on any
    machine."""

    @property
    def bundled(self) -> bool:
        """Whether everything it needs comes with the repository."""
        return all(component.bundled for component in self.components)

    @property
    def bytes(self) -> int:
        """About how much there is to download when nothing of it is here."""
        return sum(component.bytes for component in self.components if not component.bundled)


_T5_XXL = Component("text", "DeepFloyd/t5-v1_1-xxl", 4_762_310_656, layout=T5)

_TEXT_20 = (
    Component("text", "google/t5-v1_1-xxl", 4_762_310_656, layout=T5),
    Component("clip", "openai/clip-vit-large-patch14", 427_616_513, layout=CLIP),
)

_VAE_13 = Component(
    "vae",
    "hpcai-tech/OpenSora-VAE-v1.3",
    259_163_811,
    config=MappingProxyType(
        {
            "z_channels": 16,
            "micro_batch_size": 1,
            "micro_frame_size": 17,
            "use_tiled_conv3d": True,
            "tile_size": 4,
            "normalization": "video",
            "temporal_overlap": True,
        }
    ),
)


def _stdit_13(source: str) -> Component:
    """The XL/2 denoiser of 1.3; t2v and i2v have the same tensors."""
    config = {"in_channels": 16, "qk_norm": True, "kernel_size": (8, 8, -1), "use_spatial_rope": True}
    return Component("stdit", source, 1_209_188_492, config=MappingProxyType(config))


def _published_13(name: str, title: str, source: str, modes: tuple[Mode, ...], resolutions: tuple[str, ...]) -> Preset:
    peak = 33 if "720p" in resolutions else 25
    components = (_stdit_13(source), _VAE_13, _T5_XXL)
    return Preset(name, title, "1.3", modes, resolutions, components, peak_gpu_bytes=peak * 10**9)


_TABLE = (
    Preset(
        "tiny",
        "Tiny 144p",
        "1.3",
        ("t2v", "i2v", "t2i"),
        ("144p",),
        (
            Component("stdit", "assets/tiny/stdit", 0),
            Component("vae", "assets/tiny/vae", 0),
            Component("text", "assets/tiny/t5", 0, layout=T5),
            Component("reranker", "assets/tiny/reranker", 0),
        ),
        defaults=Defaults(frames=(17, 33, 49, 65, 81, 97)),
    ),
    Preset(
        "tiny-v2",
        "Tiny 2.0 128px",
        "2.0",
        ("t2v", "i2v", "t2i"),
        ("128px",),
        (
            Component("stdit", "assets/tiny-v2/stdit", 0),
            Component("vae", "assets/tiny-v2/vae", 0),
            Component("text", "assets/tiny/t5", 0, layout=T5),
            Component("clip", "assets/tiny-v2/clip", 0, layout=CLIP),
        ),
        defaults=Defaults(image_guidance=3.0, frames=(*range(5, 34, 4), 65)),
        optional=True,
    ),
    _published_13(
        "opensora-1.3-t2v-360p", "Open-Sora 1.3 360p", "hpcai-tech/OpenSora-STDiT-v4-360p", ("t2v", "t2i"), ("360p",)
    ),
    _published_13(
        "opensora-1.3-t2v-720p", "Open-Sora 1.3 720p", "hpcai-tech/OpenSora-STDiT-v4", ("t2v", "t2i"), ("720p",)
    ),
    _published_13(
        "opensora-1.3-i2v",
        "Open-Sora 1.3 image to video",
        "hpcai-tech/OpenSora-STDiT-v4-i2v",
        ("i2v",),
        ("360p", "720p"),
    ),
    Preset(
        "opensora-1.2",
        "Open-Sora 1.2",
        "1.2",
        ("t2v", "i2v", "t2i"),
        ("144p", "240p", "360p", "480p", "720p"),
        (
            Component("stdit", "hpcai-tech/OpenSora-STDiT-v3", 1_208_872_772),
            Component("vae", "hpcai-tech/OpenSora-VAE-v1.2", 393_341_015),
            _T5_XXL,
        ),
        defaults=Defaults(guidance=7.0, frames=(51, 102, 204, 408)),
        peak_gpu_bytes=25 * 10**9,
    ),
    Preset(
        "opensora-2.0",
        "Open-Sora 2.0",
        "2.0",
        ("t2v", "i2v", "t2i"),
        ("256px", "768px"),
        (
            Component(
                "stdit",
                "hpcai-tech/Open-Sora-v2",
                11_891_390_528,
                bytes_each=2,
                layout=Layout(weights=("Open_Sora_v2.safetensors",)),
            ),
            Component(
                "vae", "hpcai-tech/Open-Sora-v2", 246_478_803, layout=Layout(weights=("hunyuan_vae.safetensors",))
            ),
            *_TEXT_20,
        ),
        defaults=Defaults(steps=50, guidance=7.5, image_guidance=3.0, frames=tuple(range(5, 130, 4))),
        peak_gpu_bytes=60 * 10**9,
    ),
    Preset(
        "opensora-2.0-high-compression",
        "Open-Sora 2.0 high compression",
        "2.0",
        ("t2v", "i2v", "t2i"),
        ("768px",),
        (
            Component(
                "stdit",
                "hpcai-tech/Open-Sora-v2-Video-DC-AE",
                11_891_971_200,
                bytes_each=2,
                layout=Layout(weights=("Open_Sora_v2_Video_DC_AE.safetensors",)),
            ),
            Component(
                "vae",
                "hpcai-tech/Open-Sora-v2-Video-DC-AE",
                459_462_147,
                layout=Layout(weights=("F32T4C128_AE.safetensors",)),
            ),
            *_TEXT_20,
        ),
        high_compression=True,
        defaults=Defaults(steps=50, guidance=7.5, image_guidance=3.0, frames=tuple(range(8, 129, 4))),
        peak_gpu_bytes=51 * 10**9,
    ),
    Preset(
        "flux.1-dev",
        "FLUX.1 dev, pictures",
        "flux",
        ("t2i",),
        ("768px", "256px"),
        (
            Component(
                "stdit",
                "black-forest-labs/FLUX.1-dev",
                11_901_408_320,
                bytes_each=2,
                layout=Layout(weights=("flux1-dev.safetensors",)),
            ),
            Component("vae", "black-forest-labs/FLUX.1-dev", 83_819_683, layout=Layout(weights=("ae.safetensors",))),
            *_TEXT_20,
        ),
        defaults=Defaults(steps=50, guidance=4.0, frames=(1,)),
        peak_gpu_bytes=48 * 10**9,
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _TABLE})
"""Every preset by name, in the order in which they are offered and tried; :data:`opensora.models.zoo.PRESETS` are those
that are offered."""
