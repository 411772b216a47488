"""Which weights exist: one table of presets, and where their files are.

A preset is what a person chooses: a denoiser with the autoencoder and the text encoder it was trained with. Published
repositories could not be opened where this table was written, so it assumes little beyond their ids: single or sharded
safetensors with or without a config.json, and for T5 also PyTorch shards. Sizes are parameter counts of the public code
times four bytes (float32; two for the 2.0 denoiser), hence "about"; the hub states exact ones before a download starts.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from opensora.checkpoint import hub, identity
from opensora.checkpoint.errors import OfflineError, gigabytes
from opensora.checkpoint.layout import CHECKPOINT, CLIP, T5, Layout, LayoutError, present
from opensora.checkpoint.locate import ASSETS, assets_folder, resolve

Role = Literal["stdit", "vae", "text", "clip"]
Mode = Literal["t2v", "i2v", "t2i"]
MODES: tuple[Mode, ...] = ("t2v", "i2v", "t2i")


class PresetError(ValueError):
    """A preset that does not exist, or that is not for the mode or resolution asked for."""


class WeightsMissingError(PresetError):
    """The weights of a preset are not on this machine; the message says how to get them."""


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


class Weights(NamedTuple):
    """Where the networks of a preset are: folders, or single files."""

    stdit: Path
    """The denoiser."""
    vae: Path
    """The autoencoder."""
    text: Path
    """The T5 encoder."""
    clip: Path | None = None
    """The CLIP text encoder of 2.0."""

    def paths(self) -> dict[str, Path]:
        """Those that there are, by role."""
        return {role: path for role, path in self._asdict().items() if path is not None}


@dataclass(frozen=True)
class PresetStatus:
    """What of a preset is on this machine."""

    installed: bool
    """Whether all files are here. Their digests are checked when they are located."""
    missing: tuple[str, ...]
    """Sources of the components that are not here."""
    bytes_to_download: int
    """About how much would be transferred."""
    where: Path
    """The folder of the bundled files, or of the downloads. A path of this machine: not for a page."""


_T5_XXL = Component("text", "DeepFloyd/t5-v1_1-xxl", 4_762_310_656, layout=T5)

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
        ),
        defaults=Defaults(frames=(17, 33, 49, 65, 81, 97)),
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
            Component("text", "google/t5-v1_1-xxl", 4_762_310_656, layout=T5),
            Component("clip", "openai/clip-vit-large-patch14", 427_616_513, layout=CLIP),
        ),
        defaults=Defaults(steps=50, guidance=7.5, image_guidance=3.0, frames=tuple(range(5, 130, 4))),
        peak_gpu_bytes=60 * 10**9,
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
            Component("text", "google/t5-v1_1-xxl", 4_762_310_656, layout=T5),
            Component("clip", "openai/clip-vit-large-patch14", 427_616_513, layout=CLIP),
        ),
        defaults=Defaults(steps=50, guidance=4.0, frames=(1,)),
        peak_gpu_bytes=48 * 10**9,
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _TABLE})
"""Every preset by name, in the order in which they are offered and tried."""


def find(model: str | None = None, mode: str = "t2v", resolution: str | None = None) -> Preset:
    """The preset for a request. Only the table is asked, not the disk: `weights` says whether it is here.

    Args:
        model: a preset's name; None takes the first one that can do the rest.
        mode: "t2v", "i2v" or "t2i".
        resolution: for example "144p"; None means the preset's own.
    Raises:
        PresetError: no such preset, or one that is not for this mode or resolution; names those that are, with the
            download they need.
    """
    if mode not in MODES:
        raise PresetError(f"got the mode {mode!r}, expected one of {', '.join(MODES)}.")
    if model is None:
        return _first(mode, resolution)
    preset = PRESETS.get(model)
    if preset is None:
        close = difflib.get_close_matches(model[:60], PRESETS, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise PresetError(f"got the model {model[:60]!r}, expected one of {', '.join(PRESETS)}.{hint}")
    if not _fits(preset, mode, resolution):
        raise PresetError(_misfit(preset, mode, resolution))
    return preset


def status(preset: Preset) -> PresetStatus:
    """What of a preset is here. Looks at file names only: cheap, and no network."""
    missing = tuple(component for component in preset.components if not _present(component))
    where = assets_folder() / preset.name if preset.bundled else hub.cache_dir()
    to_download = sum(component.bytes for component in missing if not component.bundled)
    return PresetStatus(not missing, tuple(component.source for component in missing), to_download, where)


def require_installed(preset: Preset) -> None:
    """Refuse a preset of which something is not here. As cheap as `status`.

    Raises:
        WeightsMissingError: says how to get it.
    """
    if not status(preset).installed:
        raise WeightsMissingError(f"The weights of {preset.title} are not on this machine. {how_to_get(preset)}")


def weights(preset: Preset, on_progress: hub.OnProgress | None = None) -> Weights:
    """Where the networks of an installed preset are; never downloads.

    Files from the hub that were not verified yet are hashed first, which takes about a minute for 25 GB.

    Raises:
        WeightsMissingError: something is not here; says how to get it.
        HubError, IdentityError: something is damaged, or is not what its place says.
    """
    require_installed(preset)
    try:
        return _located(preset, offline=True, on_progress=on_progress)
    except OfflineError:
        raise WeightsMissingError(f"The weights of {preset.title} are incomplete. {how_to_get(preset)}") from None


def fetch(preset: Preset, *, endpoint: str | None = None, on_progress: hub.OnProgress | None = None) -> Weights:
    """Download what is missing of a preset and verify it; returns where its networks are.

    Raises:
        HubError, LayoutError: the download failed; a sentence says why.
    """
    return _located(preset, offline=None, endpoint=endpoint, on_progress=on_progress)


def how_to_get(preset: Preset) -> str:
    """One sentence on getting what is missing of a preset: its command and size."""
    state = status(preset)
    if state.installed:
        return f"{preset.name} is here."
    if preset.bundled:
        return f"They come with a clone of the repository; missing from this one: {', '.join(state.missing)}."
    size = gigabytes(state.bytes_to_download)
    return f"Get them with `python -m opensora models --download {preset.name}` (about {size})."


def _located(
    preset: Preset,
    *,
    offline: bool | None,
    endpoint: str | None = None,
    on_progress: hub.OnProgress | None = None,
) -> Weights:
    """Resolve every component and refuse one that says it is something else."""
    found: dict[str, Path] = {}
    for component in preset.components:
        path = resolve(
            component.source,
            layout=component.layout,
            revision=component.revision,
            offline=offline,
            endpoint=endpoint,
            on_progress=on_progress,
        )
        if component.layout.weights and path.is_dir():  # the repository holds other networks beside it
            path = path / component.layout.weights[0]
        identity.require(identity.identify(path), component.source, role=component.role, family=preset.family)
        found[component.role] = path
    return Weights(**found)


def _present(component: Component) -> bool:
    if not component.bundled:
        return hub.snapshot(component.source, component.layout, revision=component.revision) is not None
    try:
        present(assets_folder() / component.source.removeprefix(ASSETS), component.layout, component.source)
    except (LayoutError, OSError):
        return False
    return True


def _fits(preset: Preset, mode: str, resolution: str | None) -> bool:
    return mode in preset.modes and (resolution is None or resolution in preset.resolutions)


def _first(mode: str, resolution: str | None) -> Preset:
    """The first preset that can do it."""
    for preset in PRESETS.values():
        if _fits(preset, mode, resolution):
            return preset
    offered = dict.fromkeys(r for p in PRESETS.values() if mode in p.modes for r in p.resolutions)
    raise PresetError(f"got the resolution {resolution!r:.60}, expected one of {', '.join(offered)} for {mode}.")


def _misfit(preset: Preset, mode: str, resolution: str | None) -> str:
    """Why a preset cannot do what was asked, and which can."""
    asked = mode if resolution is None else f"{mode} at {resolution:.60}"
    does = f"{', '.join(preset.modes)} at {', '.join(preset.resolutions)}"
    can = f"{preset.title} ({preset.name}) does {does}, not {asked}."
    wanted = resolution or preset.resolutions[0]
    other = next((p for p in PRESETS.values() if _fits(p, mode, wanted)), None)
    if other is None:
        offered = dict.fromkeys(r for p in PRESETS.values() if mode in p.modes for r in p.resolutions)
        return f"{can} No weights do; for {mode} there are {', '.join(offered)}."
    needs = f"{can} {mode} at {wanted} needs the weights {other.name}"
    return (
        f"{needs}, which are here: choose that model." if status(other).installed else f"{needs}. {how_to_get(other)}"
    )
