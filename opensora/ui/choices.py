"""What the page offers, as (label, value) pairs, and the values that it starts with."""

import contextlib
from dataclasses import dataclass
from importlib.util import find_spec

from opensora.datasets.aspect import RESOLUTIONS_V2, aspect_ratios, pixel_size
from opensora.datasets.aspect_v2 import SMALL
from opensora.models import zoo
from opensora.models.text.prompts import MOTION_WORDS, transform_aes
from opensora.pipelines import lora_folder
from opensora.pipelines.bundle import of_preset
from opensora.pipelines.refine import configured
from opensora.pipelines.request import CAMERA_MOTIONS, DTYPES, DYNAMIC, TEXT_DTYPES
from opensora.ui.words import Words

Choice = tuple[str, str]

FRAMES: dict[str, tuple[int, ...]] = {
    "1.2": (1, 51, 102, 204),
    "1.3": (1, 17, 33, 49, 97, 193, 353),
    "flux": (1,),
    "2.0": (1, 33, 65, 97, 129),
}
"""Lengths of a clip by generation of the networks."""
FPS = 24
USUAL_LENGTH: dict[str, str] = {"1.2": "51f", "1.3": "49f", "2.0": "65f", "flux": "1f"}
"""Where the page starts."""
HIGH_COMPRESSION_FRAMES, HIGH_COMPRESSION_LENGTH = (32, 64, 96, 128), "64f"
"""The same with 2.0's autoencoder of high compression, whose clips have no single first frame."""

SMALL_FRAMES, SMALL_LENGTH = (1, 17, 33, 65), "33f"
"""The same with small networks of 2.0's design."""

AESTHETICS = (3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5)


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

    frames: tuple[int, ...]
    """Lengths of a clip."""
    length: str
    """The one that it starts with."""
    camera: bool
    """Whether camera motions can be chosen."""
    aesthetic: bool
    """Whether an aesthetic score can be chosen."""
    loops: bool
    """Whether a clip can be made in parts."""
    first_image: bool
    """Whether a first frame can be given."""
    last_image: bool
    """Whether a last frame can be given."""
    extend: bool
    """Whether a clip can be given that goes on."""
    lead: bool
    """Whether a clip can be given that the new one leads to."""
    circle: bool
    """Whether a clip can end as it begins."""
    easy: bool
    """Whether twice as much of a clip can be given."""
    picture: bool
    """Whether another model may paint the first picture."""
    candidates: int
    """Pictures of a text that are made first, of which one is kept; 1 where there is no choice."""


def offer(model: str) -> Offer:
    """What a model can be asked for."""
    preset = zoo.PRESETS[model]
    try:
        card = of_preset(preset).card
        cond_types, high, candidates = card.cond_types, card.high_compression, card.candidates_of("t2v")
    except ValueError:  # the sentence comes with the cost line and when Generate is pressed
        cond_types, high, candidates = ("i2v_head",), False, 1
    given = cond_types if "i2v" in preset.modes else ()
    captions = preset.family in ("1.2", "1.3")
    frames, length = FRAMES[preset.family], USUAL_LENGTH[preset.family]
    if high:
        frames, length = HIGH_COMPRESSION_FRAMES, HIGH_COMPRESSION_LENGTH
    elif preset.resolutions == (SMALL,):
        frames, length = SMALL_FRAMES, SMALL_LENGTH
    return Offer(
        frames=frames,
        length=length,
        camera=captions,
        aesthetic=captions,
        loops=captions,
        first_image=bool(given),
        last_image="i2v_tail" in given,
        extend="v2v_head" in given,
        lead="v2v_tail" in given,
        circle="i2v_loop" in given,
        easy="v2v_head_easy" in given,
        picture=preset.family == "2.0",
        candidates=candidates,
    )


def able(slot: str) -> str | None:
    """Title of a model that takes what a slot of :class:`Offer` gives; of those on this machine if there are any."""
    fit = [preset for name, preset in zoo.PRESETS.items() if getattr(offer(name), slot)]
    here = [preset for preset in fit if zoo.status(preset).installed]
    return min((preset.title for preset in here or fit), key=len, default=None)


def fit(slot: str, model: object) -> str:
    """Name of a model that takes what a slot gives: the given one, one of its generation, or one that is here."""
    names = [name for name in zoo.PRESETS if getattr(offer(name), slot)]
    if model in names:
        return str(model)
    family = zoo.PRESETS[model].family if isinstance(model, str) and model in zoo.PRESETS else None
    akin = [name for name in names if zoo.PRESETS[name].family == family]
    here = [name for name in names if zoo.status(zoo.PRESETS[name]).installed]
    return next(iter([*akin, *here, *names]))


def lengths(w: Words, frames: tuple[int, ...]) -> list[Choice]:
    """Lengths in seconds and frames."""
    return [(length_label(w, count), f"{count}f") for count in frames]


def length_label(w: Words, frames: int) -> str:
    """Such as ``2 s · 49 frames``."""
    if frames == 1:
        return w("length.still")
    return w("length.clip", seconds=f"{frames / FPS:.1f}".removesuffix(".0"), frames=frames)


def cameras(w: Words) -> list[Choice]:
    """Camera motions."""
    return [(w("free"), ""), *((w(f"camera.{motion}"), motion) for motion in CAMERA_MOTIONS)]


def motions(w: Words) -> list[Choice]:
    """Motion scores; that a language model chooses one is offered where one is set up."""
    scores = [(f"{n} · {w(f'score.{word}')}", str(n)) for n, word in MOTION_WORDS.items()]
    return [(w("free"), ""), *scores, *([(w("motion.dynamic"), DYNAMIC)] if configured() else [])]


def aesthetics(w: Words) -> list[Choice]:
    """Aesthetic scores."""
    scores = [(f"{score:g} · {w(f'score.{transform_aes(score)}')}", f"{score:g}") for score in AESTHETICS]
    return [(w("free"), ""), *scores]


def pictures(w: Words) -> list[Choice]:
    """Models that paint the first picture."""
    painters = [preset for preset in zoo.PRESETS.values() if preset.modes == ("t2i",)]
    painted = [(w("picture.by", model=preset.title.split(",")[0]), preset.name) for preset in painters]
    return [(w("picture.none"), ""), *painted]


def text_dtypes(w: Words) -> list[Choice]:
    """Precisions of the text encoder that this server can compute."""
    offered = TEXT_DTYPES if find_spec("bitsandbytes") else TEXT_DTYPES[:2]
    return [(w("text_dtype.usual"), ""), *((w(f"text_dtype.{name}"), name) for name in offered[1:])]


def candidates(w: Words, model: str) -> list[Choice]:
    """Which of the pictures that a model makes first is kept."""
    numbers = [(f"{n}", f"{n}") for n in range(1, offer(model).candidates + 1)]
    return [(w("candidate.usual"), ""), *(numbers if len(numbers) > 1 else [])]


def dtypes(w: Words) -> list[Choice]:
    """Precisions of the networks."""
    return [(w("dtype.usual"), ""), *((w(f"dtype.{name}"), name) for name in DTYPES)]


def offloads(w: Words) -> list[Choice]:
    """Whether networks are on a GPU only while they are needed."""
    return [(w("offload.usual"), ""), (w("offload.on"), "on"), (w("offload.off"), "off")]


def loras(model: str) -> list[Choice]:
    """LoRAs of the server that seem to be for a model."""
    family = zoo.PRESETS[model].family
    fit = (lora.name for lora in lora_folder.listed() if lora.suits(family))
    return [(name.removesuffix(".safetensors"), name) for name in fit]


def models(w: Words) -> list[Choice]:
    """Every model with whether it is bundled, here, or still to be downloaded."""
    return [(f"{preset.title} · {whereabouts(w, preset)}", preset.name) for preset in zoo.PRESETS.values()]


def whereabouts(w: Words, preset: zoo.Preset) -> str:
    """Whether a model is here, and what it needs."""
    state = zoo.status(preset)
    if preset.bundled:
        return w("model.bundled" if state.installed else "model.broken")
    gigabytes = f"{state.bytes_to_download / 1e9:.0f}"
    here = w("model.downloaded") if state.installed else w("model.absent", gigabytes=gigabytes)
    if preset.peak_gpu_bytes is None:
        return here
    return f"{here}, {w('model.gpu', gigabytes=f'{preset.peak_gpu_bytes / 1e9:.0f}')}"


def resolutions(model: str) -> list[Choice]:
    """Resolutions of a model."""
    return [(name, name) for name in zoo.PRESETS[model].resolutions]


def size(model: str, resolution: str, ratio: str) -> tuple[int, int]:
    """Height and width in pixels that a model makes."""
    return pixel_size(resolution, ratio, multiple(model, resolution))


def multiple(model: str, resolution: str) -> int:
    """What the sides of a model's frames are multiples of."""
    if resolution in RESOLUTIONS_V2:
        with contextlib.suppress(ValueError):  # the sentence comes with the cost line and when Generate is pressed
            return of_preset(zoo.PRESETS[model]).card.size_multiple
    return 16


def ratios(w: Words, model: str, resolution: str) -> list[Choice]:
    """Aspect ratios, width:height, with the pixel size that a model makes of them."""
    choices = []
    for ratio in aspect_ratios(resolution):
        height, width = size(model, resolution, ratio)
        shape = w("shape.square" if height == width else "shape.wide" if width > height else "shape.upright")
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
