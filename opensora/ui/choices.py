"""What the page offers, as (label, value) pairs, and the values that it starts with."""

from dataclasses import dataclass

from opensora.datasets.aspect import aspect_ratios, pixel_size
from opensora.models import zoo
from opensora.models.text.prompts import MOTION_WORDS, transform_aes
from opensora.pipelines.bundle import of_preset
from opensora.pipelines.request import CAMERA_MOTIONS

Choice = tuple[str, str]

FROM_PROMPT: Choice = ("As the prompt says", "")

STILL: Choice = ("Still image · 1 frame", "1f")
LENGTHS: dict[str, list[Choice]] = {
    "1.2": [
        STILL,
        ("2.1 s · 51 frames", "51f"),
        ("4.2 s · 102 frames", "102f"),
        ("8.5 s · 204 frames", "204f"),
    ],
    "1.3": [
        STILL,
        ("0.7 s · 17 frames", "17f"),
        ("1.4 s · 33 frames", "33f"),
        ("2 s · 49 frames", "49f"),
        ("4 s · 97 frames", "97f"),
        ("8 s · 193 frames", "193f"),
        ("15 s · 353 frames", "353f"),
    ],
    "flux": [STILL],
    "2.0": [
        STILL,
        ("1.4 s · 33 frames", "33f"),
        ("2.7 s · 65 frames", "65f"),
        ("4 s · 97 frames", "97f"),
        ("5.4 s · 129 frames", "129f"),
    ],
}
"""By generation of the networks, at 24 frames a second."""
USUAL_LENGTH: dict[str, str] = {"1.2": "51f", "1.3": "49f", "2.0": "65f", "flux": "1f"}
"""Where the page starts."""

CAMERA: list[Choice] = [FROM_PROMPT, *((motion.capitalize(), motion) for motion in CAMERA_MOTIONS)]
MOTION: list[Choice] = [FROM_PROMPT, *((f"{score} · {word}", str(score)) for score, word in MOTION_WORDS.items())]
AESTHETIC: list[Choice] = [
    FROM_PROMPT,
    *((f"{score:g} · {transform_aes(score)}", f"{score:g}") for score in (3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5)),
]

PICTURES: list[Choice] = [
    ("None: the video is made at once", ""),
    *((f"Painted by {preset.title.split(',')[0]}", preset.name) for preset in zoo.PRESETS.values()
      if preset.modes == ("t2i",)),
]  # fmt: skip
"""Models that paint the first picture."""

EXAMPLES: list[str] = [
    "a red ball rolls to the right over a green meadow, rain",
    "a yellow star spins above the sea",
    "a blue boat moves left on the sea with waves",
    "a white bird moves up, snowy mountains, snow",
    "a purple triangle bounces in the desert",
    "raining, sea",
    "빨간 공이 초원에서 오른쪽으로 굴러간다",
]


@dataclass(frozen=True)
class Defaults:
    """Where the sliders of a model start."""

    steps: int
    """Denoising steps."""
    guidance: float
    """Text guidance."""
    image_guidance: float
    """Image guidance."""


@dataclass(frozen=True)
class Offer:
    """What the page asks for with a model."""

    lengths: list[Choice]
    """Lengths of a clip."""
    length: str
    """The one that it starts with."""
    camera: bool
    """Whether camera motions can be chosen."""
    aesthetic: bool
    """Whether an aesthetic score can be chosen."""
    loops: bool
    """Whether a clip can be made in parts."""
    last_image: bool
    """Whether a last frame can be given."""
    video: bool
    """Whether a clip can be given."""
    picture: bool
    """Whether another model may paint the first picture."""


def offer(model: str) -> Offer:
    """What a model can be asked for."""
    preset = zoo.PRESETS[model]
    try:
        card = of_preset(preset).card
        cond_types = card.cond_types
    except ValueError:  # the sentence comes with the cost line and when Generate is pressed
        cond_types = ("i2v_head",)
    captions = preset.family in ("1.2", "1.3")
    return Offer(
        lengths=LENGTHS[preset.family],
        length=USUAL_LENGTH[preset.family],
        camera=captions,
        aesthetic=captions,
        loops=captions,
        last_image="i2v_tail" in cond_types and "i2v" in preset.modes,
        picture=preset.family == "2.0",
        video="i2v" in preset.modes and any(kind.startswith("v2v") for kind in cond_types),
    )


def models() -> list[Choice]:
    """Every model with whether it is bundled, here, or still to be downloaded."""
    return [(f"{preset.title} · {_whereabouts(preset)}", preset.name) for preset in zoo.PRESETS.values()]


def _whereabouts(preset: zoo.Preset) -> str:
    state = zoo.status(preset)
    if preset.bundled:
        return "bundled, runs on any machine" if state.installed else "bundled, but its files are missing"
    needs = "" if preset.peak_gpu_bytes is None else f", needs a {preset.peak_gpu_bytes / 1e9:.0f} GB GPU"
    if state.installed:
        return f"downloaded{needs}"
    return f"{state.bytes_to_download / 1e9:.0f} GB to download{needs}"


def resolutions(model: str) -> list[Choice]:
    """Resolutions of a model."""
    return [(name, name) for name in zoo.PRESETS[model].resolutions]


def ratios(resolution: str) -> list[Choice]:
    """Aspect ratios, width:height, with the pixel size."""
    choices = []
    for ratio in aspect_ratios(resolution):
        height, width = pixel_size(resolution, ratio)
        shape = "square" if height == width else "wide" if width > height else "upright"
        choices.append((f"{ratio} {shape} · {width} × {height}", ratio))
    return choices


def defaults(model: str) -> Defaults:
    """The model's own steps and guidance; those of its row in the table when its card cannot be read."""
    preset = zoo.PRESETS[model]
    try:
        card = of_preset(preset).card
    except ValueError:  # the sentence comes with the cost line and when Generate is pressed
        own = preset.defaults
        return Defaults(own.steps, own.guidance, own.image_guidance)
    return Defaults(card.default_steps, card.default_guidance, card.default_image_guidance)
