"""Where the weights of a preset are: found, checked, downloaded, or refused with the way to get them."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from opensora.checkpoint import hub, identity
from opensora.checkpoint.errors import OfflineError, gigabytes
from opensora.checkpoint.layout import LayoutError, present
from opensora.checkpoint.locate import ASSETS, assets_folder, resolve
from opensora.models import presets
from opensora.models.presets import MODES, Component, Mode, Preset
from opensora.sentences import say

__all__ = ["MODES", "PRESETS", "Component", "Mode", "Preset"]


class Offered(Mapping[str, Preset]):
    """The table of presets without optional ones whose files are not here; looked at anew every time."""

    def __getitem__(self, name: str) -> Preset:
        preset = presets.PRESETS[name]
        if preset.optional and not status(preset).installed:
            raise KeyError(name)
        return preset

    def __iter__(self) -> Iterator[str]:
        return (name for name in presets.PRESETS if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


PRESETS: Mapping[str, Preset] = Offered()
"""Every preset that is offered, by name, in order."""


class PresetError(ValueError):
    """A preset that does not exist, or that is not for the mode or resolution asked for."""


class WeightsMissingError(PresetError):
    """The weights of a preset are not on this machine; the message says how to get them."""


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
    reranker: Path | None = None
    """What picks among pictures."""

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


def find(model: str | None = None, mode: str = "t2v", resolution: str | None = None) -> Preset:
    """The preset for a request. Of published weights only the table is asked: `weights` says whether they are here.

    Args:
        model: a preset's name; None takes the first one that can do the rest.
        mode: "t2v", "i2v" or "t2i".
        resolution: for example "144p"; None means the preset's own.
    Raises:
        PresetError: no such preset, or one that is not for this mode or resolution; names those that are, with the
            download they need.
    """
    if mode not in MODES:
        raise PresetError(say("model.mode", got=repr(mode), choices=", ".join(MODES)))
    if model is None:
        return _first(mode, resolution)
    preset = PRESETS.get(model)
    if preset is None:
        close = difflib.get_close_matches(model[:60], PRESETS, n=1, cutoff=0.5)
        told = {"got": repr(model[:60]), "choices": ", ".join(PRESETS)}
        raise PresetError(say("model.close", close=repr(close[0]), **told) if close else say("model.unknown", **told))
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
        raise WeightsMissingError(say("weights.of", model=preset.title, how=how_to_get(preset)))


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
        raise WeightsMissingError(say("weights.part", model=preset.title, how=how_to_get(preset))) from None


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
        return say("get.here", model=preset.name)
    if preset.bundled:
        return say("get.clone", missing=", ".join(state.missing))
    return say("get.download", model=preset.name, size=gigabytes(state.bytes_to_download))


def require_place(path: Path, where: str, role: str, family: str) -> None:
    """Refuse a network that says that it is for another place. Text encoders belong to no generation: a T5 of ours
    serves several, and which kind one is, its own configuration says.

    Args:
        path: its folder or file.
        where: how to call it in an error.
        role: one of :data:`opensora.models.presets.Role`.
        family: generation of the networks beside it.

    Raises:
        IdentityError: names what it is and what was wanted.
    """
    encoder = role in ("text", "clip")
    found = identity.identify(path)
    identity.require(found, where, role="text" if encoder else role, family=None if encoder else family)


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
        require_place(path, component.source, component.role, preset.family)
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
    raise PresetError(say("model.resolution", got=f"{resolution!r:.60}", choices=", ".join(offered), mode=mode))


def _misfit(preset: Preset, mode: str, resolution: str | None) -> str:
    """Why a preset cannot do what was asked, and which can."""
    asked = mode if resolution is None else say("at", mode=mode, resolution=f"{resolution:.60}")
    does = say("at", mode=", ".join(preset.modes), resolution=", ".join(preset.resolutions))
    can = {"model": preset.title, "name": preset.name, "does": does, "asked": asked, "mode": mode}
    wanted = resolution or preset.resolutions[0]
    other = next((p for p in PRESETS.values() if _fits(p, mode, wanted)), None)
    if other is None:
        offered = dict.fromkeys(r for p in PRESETS.values() if mode in p.modes for r in p.resolutions)
        return say("model.misfit", choices=", ".join(offered), **can)
    if status(other).installed:
        return say("model.misfit.here", resolution=wanted, other=other.name, **can)
    return say("model.misfit.get", resolution=wanted, other=other.name, how=how_to_get(other), **can)
