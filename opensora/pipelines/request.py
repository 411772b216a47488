"""What a person asks for. Every field is checked before anything is loaded, and an error names its field."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from opensora.datasets.aspect import RESOLUTIONS_V2, aspect_ratios, closest_aspect_ratio, pixel_size
from opensora.models import zoo
from opensora.pipelines import loras, references
from opensora.pipelines.bundle import COND_TYPES, MAX_CANDIDATES, Bundle, BundleCard, find_bundle
from opensora.pipelines.errors import RequestError, shown
from opensora.pipelines.parts import Part, plan_parts
from opensora.pipelines.references import References
from opensora.pipelines.texts import part_texts
from opensora.sentences import named, say

MAX_PROMPT = 4000
"""Characters of a prompt; the networks read far fewer."""
MAX_SECONDS = 15
"""Longest clip."""
MAX_VIDEOS = 16
"""Most clips of one request."""
MAX_SEED = 2**63 - 1
MAX_STEPS = 1000
MAX_GUIDANCE = 100
MAX_LOOPS = 2 * MAX_SECONDS

CAMERA_MOTIONS = ("static", "pan left", "pan right", "tilt up", "tilt down", "zoom in", "zoom out")
"""Camera motions that the 1.3 networks were captioned with."""
DTYPES = ("bf16", "fp32")
TEXT_DTYPES = ("fp32", "bf16", "int8", "nf4")
"""Precisions of the T5 encoder; ``nf4`` has 4 bits. :mod:`opensora.models.text.precision` says what they are."""
DYNAMIC = "dynamic"
"""Motion score that a language model chooses for the prompt."""

_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # what terminals obey, halves of letters
_LENGTH = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|seconds?|f|frames?)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class GenerationRequest:
    """Everything that decides what is generated; ``None`` leaves a choice to the model."""

    prompt: str
    """What to show. ``|0| … |1| …`` gives every loop its own text."""
    model: str | Path | None = None
    """Name of a preset, or a ``Path`` to the folder of a bundle; ``None``: the first preset that can do the rest."""
    resolution: str | None = None
    """Row of the table of sizes, such as ``144p``; ``None``: the model's own."""
    aspect_ratio: str | None = None
    """Width:height; ``None``: 16:9, or the closest to the reference image."""
    length: str | int = "2s"
    """Seconds (``"2s"``) or frames (``"49f"`` or a number), from one frame to 15 seconds."""
    motion_score: int | str | None = None
    """From 1 (very low) to 7 (extremely high); ``dynamic``: what the prompt suggests to a language model."""
    aesthetic_score: float | None = None
    """From 0 (terrible) to 10; 6.5 and more is excellent."""
    camera_motion: str | None = None
    """One of :data:`CAMERA_MOTIONS`."""
    steps: int | None = None
    """Denoising steps."""
    guidance: float | None = None
    """Text guidance scale; 1 is none."""
    image_guidance: float | None = None
    """Image guidance scale with a reference image; 1 is none."""
    negative_prompt: str = ""
    """What to move away from."""
    seed: int | None = None
    """Seed of the first clip; the others count on from it. ``None``: random, and reported."""
    num_videos: int = 1
    """Clips to make."""
    candidate: int | None = None
    """Which of the pictures that some models make first is kept, from 1; ``None``: the one that fits the text best."""
    loops: int = 1
    """Parts of a clip; each continues the one before. Clips longer than the network's own need no setting here."""
    reference_image: str | Path | Image.Image | np.ndarray | None = None
    """Image file, image or uint8 array (H, W, 3) that the clip starts from."""
    last_image: str | Path | Image.Image | np.ndarray | None = None
    """Image that the clip ends with; with a reference image it goes from one to the other."""
    reference_video: str | Path | np.ndarray | None = None
    """Clip, a file or uint8 (T, H, W, 3), that the result continues from its end or, with ``v2v_tail``, leads to."""
    cond_type: str | None = None
    """One of :data:`COND_TYPES`, with a reference; ``None``: an image is the first frame, a clip is continued."""
    picture_model: str | Path | None = None
    """Weights that paint the prompt before it is set in motion, such as ``flux.1-dev``; a ``Path`` is the folder of a
    bundle."""
    loras: tuple[tuple[str | Path, float], ...] = ()
    """Files or folders of LoRA weights for the denoiser, with strengths; they add up."""
    dtype: str | None = None
    """``bf16`` or ``fp32``; ``None``: what suits the device."""
    text_dtype: str | None = None
    """Precision of the T5 encoder, one of :data:`TEXT_DTYPES`; ``None``: ``fp32``."""
    device: str | None = None
    """Such as ``cpu`` or ``cuda``; ``None``: the best of this machine."""
    offload: bool | None = None
    """Whether networks are on a GPU only while they are needed there; ``None``: where its memory is short."""

    @property
    def mode(self) -> str:
        """``i2v`` with a reference, ``t2i`` for one frame, else ``t2v``."""
        if self.is_given():
            return "i2v"
        return "t2i" if parse_length(self.length, fps=24) == 1 else "t2v"

    def is_given(self) -> bool:
        """Whether there is an image or a clip to begin or end with."""
        return any(x is not None for x in (self.reference_image, self.last_image, self.reference_video))

    def references(self) -> References:
        """What a validated request is given, cut to the clip's size."""
        return references.read(self.reference_image, self.last_image, self.reference_video)

    def validated(self) -> "GenerationRequest":
        """The same request with everything checked and every choice but the seed made.

        References are read and cut to the size of the clip. Checking twice changes nothing.

        Raises:
            RequestError: a field cannot be used.
        """
        self._check_text()
        self._check_numbers()
        self._check_choices()
        bundle = self.bundle()
        resolution = self.resolution or bundle.default_resolution()
        card = bundle.card
        self._check_given(card)
        given = self.references()
        cond_type = given.cond_type(self.cond_type, card.cond_types, card.name)
        given = given.needed(cond_type, card.continues)
        ratio = _ratio(self.aspect_ratio, resolution, given.shape(), card.size_multiple)
        height, width = pixel_size(resolution, ratio, card.size_multiple)
        given = given.fit(width, height)
        done = dataclasses.replace(
            self,
            prompt=self.prompt.strip(),
            motion_score=int(self.motion_score) if isinstance(self.motion_score, np.integer) else self.motion_score,
            aesthetic_score=None if self.aesthetic_score is None else float(self.aesthetic_score),
            model=self.model if isinstance(self.model, Path) else card.name,
            resolution=resolution,
            aspect_ratio=ratio,
            steps=card.default_steps if self.steps is None else int(self.steps),
            guidance=card.default_guidance if self.guidance is None else float(self.guidance),
            image_guidance=card.default_image_guidance if self.image_guidance is None else float(self.image_guidance),
            negative_prompt=self.negative_prompt.strip(),
            seed=None if self.seed is None else int(self.seed),
            num_videos=int(self.num_videos),
            candidate=None if self.candidate is None else int(self.candidate),
            loops=int(self.loops),
            reference_image=given.first,
            last_image=given.last,
            reference_video=given.video,
            cond_type=cond_type,
            loras=loras.checked(self.loras),
        )
        done._check_parts(bundle)
        return done

    def bundle(self) -> Bundle:
        """The weights that this request is for.

        Raises:
            RequestError: no weights can do it.
        """
        try:
            return find_bundle(self.model, self.mode, self.resolution)
        except zoo.PresetError as error:
            preset = zoo.PRESETS.get(self.model) if isinstance(self.model, str) else None
            unfit = self.model is None or preset is not None
            field = "resolution" if unfit else "model"
            raise RequestError(field, _sentence(error)) from None
        except ValueError as error:
            raise RequestError("model", _sentence(error)) from None

    def parts(self, bundle: Bundle) -> list[Part]:
        """The clip's parts in time, one for each run of the denoiser.

        Raises:
            RequestError: the clip is too long.
        """
        frames = parse_length(self.length, bundle.card.fps)
        own = max(bundle.card.frames)
        if self.loops > 1 and frames > own:
            raise RequestError("loops", say("loops.long", loops=self.loops, own=own, frames=frames))
        if not bundle.card.continues and (self.loops > 1 or frames > own):
            raise RequestError(
                "loops" if self.loops > 1 else "length",
                say("parts.none", model=bundle.card.title or bundle.card.name, own=own),
            )
        parts = plan_parts(frames, self.loops, bundle.card.frames)
        longest = MAX_SECONDS * bundle.card.fps + 1
        total = sum(part.kept for part in parts)
        if total > longest:
            counts = {"total": total, "most": longest, "seconds": MAX_SECONDS}
            loops = say("length.loops", loops=self.loops, frames=frames, **counts)
            raise RequestError("length", loops if self.loops > 1 else say("length.total", **counts))
        return parts

    def size(self) -> tuple[int, int]:
        """Height and width in pixels of a validated request."""
        assert self.resolution is not None and self.aspect_ratio is not None, "call validated() first"
        multiple = self.bundle().card.size_multiple if self.resolution in RESOLUTIONS_V2 else 16
        return pixel_size(self.resolution, self.aspect_ratio, multiple)

    def _check_text(self) -> None:
        for name in ("prompt", "negative_prompt"):
            text = getattr(self, name)
            if not isinstance(text, str):
                raise RequestError(name, say("text.kind", field=named(name), got=type(text).__name__))
            if len(text) > MAX_PROMPT:
                raise RequestError(name, say("text.long", field=named(name), count=len(text), most=MAX_PROMPT))
            if _NO_TEXT.search(text):
                raise RequestError(name, say("text.odd", field=named(name)))
        if not self.prompt.strip():
            raise RequestError("prompt", say("prompt.none"))

    def _check_numbers(self) -> None:
        if not (isinstance(self.motion_score, str) and self.motion_score == DYNAMIC):
            _check_number("motion_score", self.motion_score, 1, 7, whole=True, optional=True)
        _check_number("aesthetic_score", self.aesthetic_score, 0, 10, optional=True)
        _check_number("steps", self.steps, 1, MAX_STEPS, whole=True, optional=True)
        _check_number("guidance", self.guidance, 0, MAX_GUIDANCE, optional=True)
        _check_number("image_guidance", self.image_guidance, 0, MAX_GUIDANCE, optional=True)
        _check_number("seed", self.seed, 0, MAX_SEED, whole=True, optional=True)
        _check_number("num_videos", self.num_videos, 1, MAX_VIDEOS, whole=True)
        _check_number("candidate", self.candidate, 1, MAX_CANDIDATES, whole=True, optional=True)
        _check_number("loops", self.loops, 1, MAX_LOOPS, whole=True)
        frames = parse_length(self.length, fps=24)
        if frames == 1 and self.is_given():
            raise RequestError("length", say("length.still"))
        if frames == 1 and self.loops > 1:
            raise RequestError("loops", say("loops.still"))

    def _check_choices(self) -> None:
        if self.offload is not None and not isinstance(self.offload, bool):
            raise RequestError("offload", say("offload", got=shown(self.offload)))
        _check_choice("camera_motion", self.camera_motion, CAMERA_MOTIONS)
        _check_choice("cond_type", self.cond_type, COND_TYPES)
        _check_choice("dtype", self.dtype, DTYPES)
        _check_choice("text_dtype", self.text_dtype, TEXT_DTYPES)
        if self.offload and self.text_dtype in TEXT_DTYPES[2:]:
            raise RequestError("offload", say("offload.quantised", dtype=self.text_dtype))
        for name, kinds in (("model", (str, Path)), ("resolution", str), ("aspect_ratio", str), ("device", str)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kinds):
                raise RequestError(name, say("text.kind", field=named(name), got=type(value).__name__))

    def _check_given(self, card: BundleCard) -> None:
        if self.cond_type is None or self.is_given():
            return
        what = say("given.image")
        if self.cond_type.startswith("v2v"):
            what = say("given.video", count=references.frames_of_clip(self.cond_type, card.continues))
        raise RequestError("cond_type", say("given.none", kind=self.cond_type, what=what))

    def _check_parts(self, bundle: Bundle) -> None:
        parts = self.parts(bundle)
        last = parts[-1]
        tail = self.cond_type is not None and ("tail" in self.cond_type or self.cond_type == "i2v_loop")
        if tail and last.kept != last.frames - last.condition:
            lengths = ", ".join(f"{n}f" for n in bundle.card.frames)
            raise RequestError("length", say("length.tail", kind=self.cond_type, lengths=lengths))
        given = len(self.reference_video) if isinstance(self.reference_video, np.ndarray) else 0
        part = last if tail else parts[0]
        if given and part.frames <= given + part.condition:
            raise RequestError("length", say("length.taken", kind=self.cond_type, given=given, frames=part.frames))
        captions = ("aesthetic_score", "camera_motion")
        untold: dict[str, tuple[str, ...]] = {"2.0": captions, "flux": (*captions, "motion_score")}
        for name in untold.get(bundle.card.family, ()):
            if getattr(self, name) is not None:
                model = bundle.card.title or bundle.card.name
                raise RequestError(name, say("untold", model=model, field=named(name)))
        if bundle.card.family == "flux" and self.negative_prompt:
            raise RequestError("negative_prompt", say("distilled", model=bundle.card.title or bundle.card.name))
        offered = bundle.card.candidates_of(self.mode)
        if self.candidate is not None and self.candidate > (offered if offered > 1 else 0):
            told = {"model": bundle.card.title or bundle.card.name, "count": offered, "got": self.candidate}
            raise RequestError("candidate", say("candidate.none" if offered == 1 else "candidate.few", **told))
        if self.picture_model is not None:
            self._check_picture(bundle)
        self.texts(bundle)
        self.negative_texts(bundle)

    def _check_picture(self, bundle: Bundle) -> None:
        if not isinstance(self.picture_model, str | Path):
            raise RequestError("picture_model", say("picture.kind"))
        try:
            find_bundle(self.picture_model, "t2i", self.resolution)
        except ValueError as error:
            raise RequestError("picture_model", _sentence(error)) from None
        if self.mode != "t2v" or "i2v" not in bundle.card.modes:
            raise RequestError("picture_model", say("picture.when", model=bundle.card.name, mode=self.mode))

    def texts(self, bundle: Bundle) -> list[str]:
        """What the text encoder reads for every part of the clip.

        Raises:
            RequestError: the prompt's loops do not fit the parts, or nothing is left of it.
        """
        card, parts = bundle.card, self.parts(bundle)
        motion = None if isinstance(self.motion_score, str) else self.motion_score
        aesthetic = self.aesthetic_score
        try:
            return part_texts(
                self.prompt,
                len(parts),
                clean=card.clean_text,
                family=card.family,
                fps=card.fps if parts[0].kept > 1 else None,
                motion_score=card.default_motion_score if motion is None else motion,
                aesthetic_score=card.default_aesthetic_score if aesthetic is None else aesthetic,
                camera_motion=self.camera_motion,
            )
        except ValueError as error:
            raise RequestError("prompt", str(error)) from None

    def negative_texts(self, bundle: Bundle) -> list[str] | None:
        """What every part moves away from; ``None`` for the null text."""
        if not self.negative_prompt:
            return None
        try:
            return part_texts(self.negative_prompt, len(self.parts(bundle)), clean=bundle.card.clean_text)
        except ValueError as error:
            raise RequestError("negative_prompt", str(error)) from None


def require_weights(bundle: Bundle) -> None:
    """Refuse weights that are not on this machine, before anything is counted or waits.

    Raises:
        RequestError: says how to get them.
    """
    if bundle.preset is None:
        return
    try:
        zoo.require_installed(bundle.preset)
    except zoo.WeightsMissingError as error:
        raise RequestError("model", str(error)) from None


def parse_length(length: str | int, fps: int) -> int:
    """Frames of a length such as ``"2s"``, ``"49f"`` or 49.

    Raises:
        RequestError: it is no length, or not between one frame and 15 seconds.
    """
    longest = MAX_SECONDS * fps + 1
    match = _LENGTH.fullmatch(length) if isinstance(length, str) else None
    if match is not None:
        number = min(float(match[1]), 2.0 * longest)  # hundreds of digits make an infinite number
        seconds = match[2].lower().startswith("s")
        if not seconds and number != int(number):
            raise RequestError("length", say("length.whole", got=shown(length)))
        frames = max(1, round(number * fps)) if seconds and number > 0 else int(number)
    elif isinstance(length, int | np.integer) and not isinstance(length, bool):
        frames = int(length)
    else:
        raise RequestError("length", say("length.form", got=shown(length)))
    if not 1 <= frames <= longest:
        raise RequestError("length", say("length.range", got=shown(length), seconds=MAX_SECONDS, frames=longest))
    return frames


def _check_number(
    name: str, value: Any, low: float, high: float, *, whole: bool = False, optional: bool = False
) -> None:
    if value is None and optional:
        return
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    fits = isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high  # never true of NaN
    if not fits:
        told = {"field": named(name), "got": shown(value), "low": low, "high": high}
        raise RequestError(name, say("number.whole", **told) if whole else say("number.range", **told))


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value is not None and not (isinstance(value, str) and value in choices):
        raise RequestError(name, say("choice", field=named(name), got=shown(value), choices=", ".join(choices)))


def _ratio(ratio: str | None, resolution: str, image: Image.Image | None, multiple: int) -> str:
    offered = aspect_ratios(resolution)
    if ratio is None:
        return "16:9" if image is None else closest_aspect_ratio(image.width, image.height, resolution, multiple)
    if ratio not in offered:
        raise RequestError("aspect_ratio", say("ratio", got=shown(ratio), choices=", ".join(offered)))
    return ratio


def _sentence(error: Exception) -> str:
    """The message of an error, beginning with a capital."""
    text = str(error)
    return text if text[:1].isupper() else text[:1].upper() + text[1:]
