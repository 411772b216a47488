"""What the page offers, as (label, value) pairs, and the values that it starts with."""

from dataclasses import dataclass

from opensora.datasets.aspect import aspect_ratios, pixel_size
from opensora.models import zoo
from opensora.models.text.prompts import MOTION_WORDS, transform_aes
from opensora.pipelines.bundle import of_preset
from opensora.pipelines.request import CAMERA_MOTIONS

Choice = tuple[str, str]

FROM_PROMPT: Choice = ("As the prompt says", "")

LENGTHS: list[Choice] = [
    ("Still image · 1 frame", "1f"),
    ("0.7 s · 17 frames", "17f"),
    ("1.4 s · 33 frames", "33f"),
    ("2 s · 49 frames", "49f"),
    ("4 s · 97 frames", "97f"),
    ("8 s · 193 frames", "193f"),
    ("15 s · 353 frames", "353f"),
]

CAMERA: list[Choice] = [FROM_PROMPT, *((motion.capitalize(), motion) for motion in CAMERA_MOTIONS)]
MOTION: list[Choice] = [FROM_PROMPT, *((f"{score} · {word}", str(score)) for score, word in MOTION_WORDS.items())]
AESTHETIC: list[Choice] = [
    FROM_PROMPT,
    *((f"{score:g} · {transform_aes(score)}", f"{score:g}") for score in (3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5)),
]

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


def models() -> list[Choice]:
    """Every supported model with whether it is bundled, here, or still to be downloaded."""
    return [
        (f"{preset.title} · {_whereabouts(preset)}", preset.name) for preset in zoo.PRESETS.values() if preset.supported
    ]


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
