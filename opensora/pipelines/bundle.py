"""A bundle: a denoiser, an autoencoder and a text encoder that belong together, from the table of presets or a folder.

A folder holds ``bundle.json`` (the fields of :class:`BundleCard`) and the subfolders ``stdit``, ``vae`` and ``t5``. The
checkpoint that comes with the repository has this form.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opensora.checkpoint import identity
from opensora.checkpoint.layout import read_object
from opensora.checkpoint.locate import assets_folder
from opensora.config import from_dict
from opensora.datasets.aspect import RESOLUTIONS
from opensora.models import zoo
from opensora.sampling.conditions import IMAGE_FPS

CARD = "bundle.json"
COND_TYPES = ("i2v_head", "i2v_tail", "i2v_loop")
"""Where a reference image goes: first frame, last frame, or both."""
FOLDERS = {"stdit": "stdit", "vae": "vae", "text": "t5"}


@dataclass(frozen=True)
class BundleCard:
    """What ``bundle.json`` says."""

    name: str
    """Short name of the weights."""
    family: str = "1.3"
    """Generation of the networks."""
    title: str = ""
    """What a person reads; the name when empty."""
    modes: tuple[str, ...] = ("t2v", "i2v", "t2i")
    """What it can do."""
    resolutions: tuple[str, ...] = ("144p",)
    """Rows of the table of sizes; the first is its default."""
    fps: int = 24
    """Frames per second of its clips."""
    image_fps: int = 24
    """Frames per second that the denoiser is told for a single picture; 120 for the published networks."""
    frames: tuple[int, ...] = (17, 33, 49, 65, 81, 97)
    """Clip lengths that the networks know, besides 1 for an image."""
    default_steps: int = 30
    """Denoising steps where a request leaves them open."""
    default_guidance: float = 7.5
    """Text guidance where a request leaves it open."""
    default_image_guidance: float = 5.0
    """Image guidance where a request leaves it open."""
    cond_types: tuple[str, ...] = ("i2v_head",)
    """Where a reference image can go; the first is the default."""
    clean_text: bool = True
    """Whether prompts are cleaned as the published networks' captions were."""
    time_shift: float | None = None
    """Shift of sampling times for every size; ``None``: by size and length as published."""
    oscillating_guidance: bool = True
    """Whether guidance is 1 on every second step from the tenth on (text only, and text and image with an image)."""
    flaw_fix: bool = True
    """Whether the spread of guided predictions is pulled back, without a reference image."""
    sdedit: bool = True
    """Whether given frames follow the noise schedule while the others form."""
    scale_image_guidance: bool = True
    """Whether image guidance falls during sampling and grows over the frames."""

    def __post_init__(self) -> None:
        if self.family != "1.3":
            raise ValueError(f"the family is {self.family!r}; only 1.3 runs in this version.")
        offered = {"modes": zoo.MODES, "resolutions": RESOLUTIONS, "cond_types": COND_TYPES}
        for name, choices in offered.items():
            chosen = getattr(self, name)
            if not chosen or set(chosen) - set(choices):
                raise ValueError(f"got {name} {', '.join(chosen) or 'none'}; expected some of {', '.join(choices)}.")
        if not self.frames or any(n < 17 or n % 16 != 1 for n in self.frames) or max(self.frames) < 33:
            raise ValueError(f"the frames are {self.frames}; expected 16k+1 each, one of them at least 33.")
        if min(self.fps, self.image_fps, self.default_steps) < 1:
            raise ValueError(
                f"fps is {self.fps}, image_fps {self.image_fps} and default_steps {self.default_steps}; expected 1 or "
                "more."
            )


@dataclass(frozen=True)
class Bundle:
    """A card and where its networks are."""

    card: BundleCard
    """Name, sizes, lengths and defaults."""
    folder: Path | None = None
    """Folder of the bundle; ``None`` for published weights."""
    preset: zoo.Preset | None = None
    """Row of the table of presets; ``None`` for a folder given by its path."""

    @property
    def key(self) -> str:
        """Unambiguous name, for caches."""
        return self.card.name if self.folder is None else str(self.folder)

    def default_resolution(self) -> str:
        """The resolution of a request that names none."""
        return self.card.resolutions[0]

    def installed(self) -> bool:
        """Whether all files are on this machine."""
        if self.preset is not None:
            return zoo.status(self.preset).installed
        return self.folder is not None and not _missing(self.folder)

    def published(self, role: str) -> dict[str, Any]:
        """Constructor fields that the table of presets knows for a network whose own files may lack them."""
        components = () if self.preset is None else self.preset.components
        return {name: value for c in components if c.role == role for name, value in c.config.items()}

    def weights(self) -> zoo.Weights:
        """Where the networks are; never downloads.

        Raises:
            ValueError: something is missing or damaged; a sentence says what and how to get it.
        """
        if self.preset is not None:
            return zoo.weights(self.preset)
        assert self.folder is not None, "a bundle has a preset or a folder"
        if missing := _missing(self.folder):
            raise zoo.WeightsMissingError(f"The bundle {self.folder.name} lacks {', '.join(missing)}.")
        paths = {role: self.folder / name for role, name in FOLDERS.items()}
        for role, path in paths.items():
            identity.require(identity.identify(path), FOLDERS[role], role=role, family=self.card.family)
        return zoo.Weights(**paths)


def load_bundle(directory: str | Path) -> Bundle:
    """The bundle in a folder; reads its card only.

    Raises:
        ValueError: no such folder, no card, or a card that is not one.
    """
    try:
        folder = Path(directory).expanduser().resolve()
        here = (folder / CARD).is_file()
    except (OSError, RuntimeError, ValueError):  # a name that no folder can have, or ~nobody
        folder, here = Path(directory), False
    if not here:
        raise ValueError(
            f"The folder {folder.name[:60]!r} is no bundle: expected a folder with {CARD} and "
            f"{', '.join(FOLDERS.values())}."
        )
    return Bundle(_read_card(folder / CARD), folder)


def find_bundle(model: str | Path | None, mode: str = "t2v", resolution: str | None = None) -> Bundle:
    """The bundle for a request.

    Args:
        model: name of a preset; a :class:`~pathlib.Path` is the folder of a bundle (text never names a file); ``None``
            takes the first preset that can do the rest.
        mode: ``t2v``, ``i2v`` or ``t2i``.
        resolution: ``None`` for the bundle's own.

    Raises:
        ValueError: there is none; the message names those that there are.
    """
    if isinstance(model, Path):
        bundle = load_bundle(model)
        card = bundle.card
        if mode not in card.modes or (resolution is not None and resolution not in card.resolutions):
            does = f"{', '.join(card.modes)} at {', '.join(card.resolutions)}"
            raise zoo.PresetError(
                f"{card.name} does {does}, not {mode}{f' at {resolution:.60}' if resolution else ''}."
            )
        return bundle
    return of_preset(zoo.find(model, mode, resolution))


def of_preset(preset: zoo.Preset) -> Bundle:
    """The bundle of a row of the table; a bundled one's own card replaces the table's defaults."""
    folder = assets_folder() / preset.name if preset.bundled else None
    if folder is not None and (folder / CARD).is_file():
        return Bundle(_read_card(folder / CARD), folder, preset)
    defaults = preset.defaults
    card = BundleCard(
        name=preset.name,
        family=preset.family,
        title=preset.title,
        modes=preset.modes,
        resolutions=preset.resolutions,
        fps=defaults.fps,
        image_fps=defaults.fps if preset.bundled else int(IMAGE_FPS),
        frames=defaults.frames,
        default_steps=defaults.steps,
        default_guidance=defaults.guidance,
        default_image_guidance=defaults.image_guidance,
        cond_types=COND_TYPES[:1] if preset.bundled else COND_TYPES,
    )
    return Bundle(card, folder, preset)


def _read_card(path: Path) -> BundleCard:
    values = read_object(path)
    try:
        return from_dict(BundleCard, values)
    except ValueError as error:
        raise ValueError(f"{path.parent.name}/{CARD}: {error}") from error


def _missing(folder: Path) -> list[str]:
    """Files that the bundle's folder lacks."""
    return [f"{name}/config.json" for name in FOLDERS.values() if not (folder / name / "config.json").is_file()]
