"""What the page offers, as (label, value) pairs."""

from opensora.datasets.aspect import aspect_ratios, pixel_size
from opensora.models import zoo

Choice = tuple[str, str]

LENGTHS: list[Choice] = [
    ("Still image (1 frame)", "1f"),
    ("0.7 s (17 frames)", "17f"),
    ("2 s (49 frames)", "49f"),
    ("4 s (97 frames)", "97f"),
    ("8 s (193 frames)", "193f"),
    ("15 s (353 frames)", "353f"),
]

CAMERA: list[Choice] = [
    ("As the prompt says", ""),
    ("Static", "static"),
    ("Pan left", "pan left"),
    ("Pan right", "pan right"),
    ("Tilt up", "tilt up"),
    ("Tilt down", "tilt down"),
    ("Zoom in", "zoom in"),
    ("Zoom out", "zoom out"),
]

MOTION_WORDS = {
    0: "as the prompt says",
    1: "very low",
    2: "low",
    3: "fair",
    4: "medium",
    5: "high",
    6: "very high",
    7: "extremely high",
}

EXAMPLES: list[str] = [
    "a red ball rolls to the right over a green meadow, rain",
    "a yellow star spins above the sea",
    "a blue boat moves left on the sea with waves",
    "a white bird moves up, snowy mountains, snow",
    "a purple triangle bounces in the desert",
    "raining, sea",
    "빨간 공이 초원에서 오른쪽으로 굴러간다",
]


def models() -> list[Choice]:
    """Every supported model with whether it is bundled, here, or still to be downloaded."""
    choices = []
    for preset in zoo.PRESETS.values():
        if not preset.supported:
            continue
        state = zoo.status(preset)
        if preset.bundled:
            note = "bundled, runs anywhere"
        elif state.installed:
            note = "installed, needs a GPU"
        else:
            note = f"download {state.bytes_to_download / 1e9:.0f} GB, needs a GPU"
        choices.append((f"{preset.title} — {note}", preset.name))
    return choices


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
