"""What a scene of the world contains: its vocabulary, the immutable description, and the held-out combinations."""

from dataclasses import asdict, dataclass, field
from typing import Any

KINDS = ("ball", "square", "triangle", "star", "boat", "bird")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
MOTIONS = ("left", "right", "up", "down", "still", "bounce", "spin")
STRENGTHS = ("very low", "low", "fair", "high", "very high", "extremely high")
CAMERAS = ("static", "pan left", "pan right", "tilt up", "tilt down", "zoom in", "zoom out")
PLAIN = ("plain white", "plain grey", "plain pink", "plain blue", "plain cream", "plain mint", "plain dark")
PLACES = ("meadow", "sea", "desert", "mountains", "city")
BACKGROUNDS = (*PLAIN, *PLACES)
WEATHERS = ("clear", "rain", "snow")
AESTHETICS = ("terrible", "very poor", "poor", "fair", "good", "very good", "excellent")

SPEED = dict(zip(STRENGTHS, (0.12, 0.2, 0.3, 0.45, 0.65, 0.9), strict=True))
"""Speed of a moving subject in short sides of the frame per second."""

UNSPECIFIED = "unspecified"
ATTRIBUTE_VALUES: dict[str, tuple[str, ...]] = {
    "kind1": (UNSPECIFIED, *KINDS),
    "colour1": (UNSPECIFIED, *COLOURS),
    "motion1": (UNSPECIFIED, *MOTIONS),
    "kind2": (UNSPECIFIED, *KINDS),
    "colour2": (UNSPECIFIED, *COLOURS),
    "motion2": (UNSPECIFIED, *MOTIONS),
    "strength": (UNSPECIFIED, *STRENGTHS),
    "camera": (UNSPECIFIED, *CAMERAS),
    "background": (UNSPECIFIED, *BACKGROUNDS),
    "weather": (UNSPECIFIED, *WEATHERS),
    "aesthetic": (UNSPECIFIED, *AESTHETICS),
}
"""Every attribute that a caption may mention, with its values; a caption that does not mention one leaves it free."""


def _check(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} {value!r} is not in this world; choose one of: {', '.join(allowed)}")


@dataclass(frozen=True)
class Subject:
    """One thing in the scene; a wrong word raises ``ValueError`` that lists the right ones."""

    kind: str
    """One of ``KINDS``."""
    colour: str
    """One of ``COLOURS``."""
    motion: str = "still"
    """One of ``MOTIONS``; directions are those seen in the frame."""
    strength: str = "fair"
    """One of ``STRENGTHS``: speed of the motion."""

    def __post_init__(self) -> None:
        _check("subject", self.kind, KINDS)
        _check("colour", self.colour, COLOURS)
        _check("motion", self.motion, MOTIONS)
        _check("motion strength", self.strength, STRENGTHS)


@dataclass(frozen=True)
class SceneSpec:
    """What a clip shows. Of two subjects the first is on the left; no subject is an empty landscape."""

    subjects: tuple[Subject, ...] = field(default_factory=tuple)
    """None, one or two subjects."""
    camera: str = "static"
    """One of ``CAMERAS``. Pan and tilt move the background the other way (with parallax) while the subject keeps its
    motion in the frame, as if the camera followed it; zoom also scales the subject about its own centre."""
    background: str = "plain grey"
    """One of ``BACKGROUNDS``."""
    weather: str = "clear"
    """One of ``WEATHERS``."""
    aesthetic: str = "excellent"
    """One of ``AESTHETICS``: from dull, blurred and blotchy to crisp."""

    def __post_init__(self) -> None:
        if len(self.subjects) > 2:
            raise ValueError(f"a scene has at most two subjects, got {len(self.subjects)}")
        _check("camera motion", self.camera, CAMERAS)
        _check("background", self.background, BACKGROUNDS)
        _check("weather", self.weather, WEATHERS)
        _check("aesthetic score", self.aesthetic, AESTHETICS)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"subjects": [asdict(s) for s in self.subjects]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "SceneSpec":
        """Inverse of ``to_dict``."""
        return cls(**(values | {"subjects": tuple(Subject(**s) for s in values.get("subjects", ()))}))


def heldout_combination(kind: str, colour: str, motion: str) -> bool:
    """Whether colour × subject × motion is one of the fifth that training never sees. The fifth is spread evenly: each
    pair of two of them is seen in training with most values of the third."""
    return (KINDS.index(kind) + 2 * COLOURS.index(colour) + 3 * MOTIONS.index(motion)) % 5 == 1


def heldout(spec: SceneSpec) -> bool:
    """Whether any subject of the scene is a held-out combination, so that training must not use the scene."""
    return any(heldout_combination(s.kind, s.colour, s.motion) for s in spec.subjects)


def attributes(spec: SceneSpec) -> dict[str, str]:
    """All attributes of a scene, keyed as ``ATTRIBUTE_VALUES``; ``"unspecified"`` where there is no such subject."""
    values = dict.fromkeys(ATTRIBUTE_VALUES, UNSPECIFIED)
    for number, subject in enumerate(spec.subjects, start=1):
        values |= {
            f"kind{number}": subject.kind,
            f"colour{number}": subject.colour,
            f"motion{number}": subject.motion,
        }
    if spec.subjects:
        values["strength"] = spec.subjects[0].strength
    return values | {
        "camera": spec.camera,
        "background": spec.background,
        "weather": spec.weather,
        "aesthetic": spec.aesthetic,
    }
