"""A bundle: a denoiser, an autoencoder and a text encoder that belong together, from the table of presets or a folder.

A folder holds ``bundle.json`` (the fields of :class:`BundleCard`) and the subfolders ``stdit``, ``vae`` and ``t5``. The
checkpoint that comes with the repository has this form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from opensora.checkpoint.layout import read_object
from opensora.checkpoint.locate import assets_folder
from opensora.config import from_dict
from opensora.datasets.aspect import RESOLUTIONS, RESOLUTIONS_V2
from opensora.models import zoo
from opensora.sampling.frame_rate import IMAGE_FPS

CARD = "bundle.json"
COND_TYPES = ("i2v_head", "i2v_tail", "i2v_loop", "v2v_head", "v2v_tail", "v2v_head_easy", "v2v_tail_easy")
"""Where a reference goes: an image to the first frame, the last frame, or both; a clip to the beginning or the end,
with ``easy`` twice as much of it."""
MAX_CANDIDATES = 16
"""Most pictures of a text of which one is kept."""
FOLDERS = {"stdit": "stdit", "vae": "vae", "text": "t5", "clip": "clip", "reranker": "reranker"}
"""Folder of each network in a bundle. Only 2.0 has ``clip``; ``reranker`` picks among pictures."""


@dataclass(frozen=True)
class Lengths:
    """Clip lengths that a generation's autoencoder codes without a rest."""

    unit: int
    """Frames that come together."""
    first: int
    """Frames before the first unit."""
    least: int
    """The shortest clip."""
    longest: int
    """What the longest of a bundle's lengths has to reach, so that parts can be joined."""

    def fit(self, frames: tuple[int, ...]) -> bool:
        """Whether these are such lengths."""
        good = all(n >= self.least and n % self.unit == self.first for n in frames)
        return bool(frames) and good and max(frames) >= self.longest

    def __str__(self) -> str:
        rest = f" + {self.first}" if self.first else ""
        return f"multiples of {self.unit}{rest} from {self.least} on, one of them at least {self.longest}"


LENGTHS: Mapping[str, Lengths] = MappingProxyType(
    {
        "1.2": Lengths(17, 0, 17, 34),
        "1.3": Lengths(16, 1, 17, 33),
        "2.0": Lengths(4, 1, 5, 5),
        "flux": Lengths(1, 0, 1, 1),
    }
)
"""By generation."""
HIGH_COMPRESSION_LENGTHS = Lengths(4, 0, 8, 8)
"""Of 2.0 with the autoencoder of high compression, where no frame stands alone."""
ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "1.2": ("stdit", "vae", "text"),
        "1.3": ("stdit", "vae", "text"),
        "2.0": ("stdit", "vae", "text", "clip"),
        "flux": ("stdit", "vae", "text", "clip"),
    }
)
"""Networks of each generation."""


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
    text_tokens: int = 512
    """Tokens to which 2.0's T5 pads a text; other generations' denoisers say it themselves."""
    default_motion_score: int | None = None
    """Motion score that the network is told where a request leaves it open; ``None`` tells nothing."""
    default_aesthetic_score: float | None = None
    """Aesthetic score that the network is told where a request leaves it open; ``None`` tells nothing."""
    scale_image_guidance: bool = True
    """Whether image guidance falls during sampling and grows over the frames."""
    picture_first: bool = False
    """Whether a video of text alone begins as a picture, which is then set in motion: two runs of one denoiser, for
    networks that learnt motion from given first frames."""
    picture_candidates: int = 1
    """Pictures that are made of a text alone, of which the bundle's reranker keeps the one that fits the text best; for
    single pictures and for the pictures that videos begin as."""
    high_compression: bool = False
    """Whether 2.0's autoencoder makes one latent of 4 x 32 x 32 pixels instead of 4 x 8 x 8."""

    def __post_init__(self) -> None:
        if self.family not in LENGTHS:
            raise ValueError(f"the family is {self.family!r}; expected one of {', '.join(LENGTHS)}.")
        offered = {"modes": zoo.MODES, "resolutions": RESOLUTIONS, "cond_types": COND_TYPES}
        for name, choices in offered.items():
            chosen = getattr(self, name)
            if not chosen or set(chosen) - set(choices):
                raise ValueError(f"got {name} {', '.join(chosen) or 'none'}; expected some of {', '.join(choices)}.")
        if self.high_compression and (self.family != "2.0" or set(self.resolutions) - set(RESOLUTIONS_V2)):
            raise ValueError(
                f"high_compression is on for family {self.family} at {', '.join(self.resolutions)}; it needs 2.0 and "
                f"some of {', '.join(RESOLUTIONS_V2)}."
            )
        if not self.lengths.fit(self.frames):
            raise ValueError(f"the frames are {self.frames}; expected {self.lengths}.")
        if min(self.fps, self.image_fps, self.default_steps) < 1:
            raise ValueError(
                f"fps is {self.fps}, image_fps {self.image_fps} and default_steps {self.default_steps}; expected 1 or "
                "more."
            )
        if self.picture_first and (self.family != "1.3" or not {"t2i", "i2v"} <= set(self.modes)):
            raise ValueError(
                f"picture_first is on for family {self.family} and modes {', '.join(self.modes)}; it needs family 1.3 "
                "with t2i and i2v."
            )

        if not 1 <= self.picture_candidates <= MAX_CANDIDATES or (self.picture_candidates > 1 and self.family != "1.3"):
            raise ValueError(
                f"picture_candidates is {self.picture_candidates} for family {self.family}; expected 1 to "
                f"{MAX_CANDIDATES}, and 1 for other families than 1.3."
            )

    def candidates_of(self, mode: str) -> int:
        """Pictures that a request of this mode makes first, of which one is kept; 1 where there is no choice."""
        first = mode == "t2i" or (mode == "t2v" and self.picture_first)
        return self.picture_candidates if first else 1

    @property
    def roles(self) -> tuple[str, ...]:
        """Networks that belong to it."""
        return (*ROLES[self.family], *(("reranker",) if self.picture_candidates > 1 else ()))

    @property
    def lengths(self) -> Lengths:
        """Clip lengths that the autoencoder codes without a rest."""
        return HIGH_COMPRESSION_LENGTHS if self.high_compression else LENGTHS[self.family]

    @property
    def size_multiple(self) -> int:
        """What both sides of a frame are multiples of."""
        return 32 if self.high_compression else 16

    @property
    def continues(self) -> bool:
        """Whether a clip longer than the network's own is made in parts."""
        return self.family in ("1.2", "1.3")


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
        return self.folder is not None and not self._missing()

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
        if missing := self._missing():
            raise zoo.WeightsMissingError(f"The bundle {self.folder.name} lacks {', '.join(missing)}.")
        paths = {role: self.folder / FOLDERS[role] for role in self.card.roles}
        for role, path in paths.items():
            zoo.require_place(path, FOLDERS[role], role, self.card.family)
        return zoo.Weights(**paths)

    def _missing(self) -> list[str]:
        """Files that the bundle's folder lacks."""
        assert self.folder is not None
        names = [f"{FOLDERS[role]}/config.json" for role in self.card.roles]
        return [name for name in names if not (self.folder / name).is_file()]


def load_bundle(directory: str | Path) -> Bundle:
    """The bundle in a folder; reads its card only. One that comes with the repository may share networks with another.

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
            f"{', '.join(FOLDERS[role] for role in ROLES['1.3'])} (and clip for 2.0)."
        )
    preset = zoo.PRESETS.get(folder.name) if folder.parent == assets_folder() else None
    return Bundle(_read_card(folder / CARD), folder, preset)


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
        cond_types=COND_TYPES[:1] if preset.bundled else _cond_types(preset),
        default_motion_score=4 if preset.family == "2.0" else None,
        default_aesthetic_score=6.5 if preset.family == "1.2" else None,
        clean_text=preset.family in ("1.2", "1.3"),
        high_compression=preset.high_compression,
    )
    return Bundle(card, folder, preset)


def _cond_types(preset: zoo.Preset) -> tuple[str, ...]:
    """What published networks can be given."""
    if preset.high_compression:
        return COND_TYPES[:3]
    return COND_TYPES if preset.family == "2.0" else COND_TYPES[:5]


def _read_card(path: Path) -> BundleCard:
    values = read_object(path)
    try:
        return from_dict(BundleCard, values)
    except ValueError as error:
        raise ValueError(f"{path.parent.name}/{CARD}: {error}") from error
