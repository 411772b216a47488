"""What a request will cost, before anything is loaded: time, memory and downloads."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from opensora.acceleration.offload import Offload
from opensora.checkpoint.errors import gigabytes
from opensora.models import zoo
from opensora.models.text.precision import BYTES, QUANTISED, check_precision
from opensora.pipelines import image_first, loras, residence, speed
from opensora.pipelines.build import is_built
from opensora.pipelines.bundle import Bundle
from opensora.pipelines.cost import Memory, Shape
from opensora.pipelines.families import family_of
from opensora.pipelines.memory import Meter, predict, room
from opensora.pipelines.parts import CONDITION_FRAMES
from opensora.pipelines.plan import choose_device, choose_dtype, dtype_name
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.speed import Speed
from opensora.sentences import say

Counted = TypeVar("Counted", Memory, float)
LOADING_BYTES_PER_SECOND = 2e8
"""A slow disk."""


@dataclass(frozen=True)
class Cost:
    """What a request takes."""

    seconds: float
    """Likely duration, without a download."""
    seconds_range: tuple[float, float]
    """When it goes well and when it goes badly."""
    bytes_memory: int
    """The likely peak of memory: on a GPU what lies there, else what the whole process takes."""
    download_bytes: int
    """About what has to be downloaded first."""
    frames: int
    """Frames of a clip."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    seconds_of_video: float
    """Duration of a clip."""
    notes: list[str] = field(default_factory=list)
    """Sentences on what a person should know."""
    stages: dict[str, float] = field(default_factory=dict)
    """Likely seconds of every stage."""
    bytes_memory_high: int = 0
    """What the peak of memory will hardly exceed."""


@dataclass(frozen=True)
class Work:
    """How much there is to do in the stages of a request, and what their speed is known by."""

    sampling: float
    """Operations."""
    decoding: float
    """Operations."""
    loading: float
    """Bytes of weights."""
    key: str
    device: torch.device
    dtype: torch.dtype


def estimate(request: GenerationRequest, processes: int = 1) -> Cost:
    """Time, memory and downloads of a request on this machine. Loads no network; quick after the first call.

    Args:
        processes: that make the clip together; what they took is remembered apart from what one takes alone.

    Raises:
        RequestError: the request cannot be served.
    """
    request = request.validated()
    if request.picture_model is not None:
        return _two_models(request, processes)
    bundle = request.bundle()
    _require_text_dtype(request)
    loras.require_for(request.loras, bundle)
    work = count(request, bundle, processes)
    amounts = {"sampling": work.sampling, "decoding": work.decoding}
    speeds = {stage: speed.speed(stage, work.key, work.device, work.dtype, amount) for stage, amount in amounts.items()}
    shape = shape_of(request, bundle)
    offload = offload_of(request, bundle)
    memory = predict(_memory(request, bundle, shape, work.dtype), work.key, work.device, offload)
    text = request.text_dtype or "fp32"
    if not is_built(bundle, request.device, request.dtype, optimized=True, offload=offload, text_dtype=text):
        amounts["loading"], speeds["loading"] = work.loading, _loading_speed(work)
    stages = {stage: amounts[stage] / speeds[stage].likely for stage in amounts}
    best, worst = (sum(amounts[s] / getattr(speeds[s], end) for s in amounts) for end in ("high", "low"))
    download = zoo.status(bundle.preset).bytes_to_download if bundle.preset is not None else 0
    return Cost(
        seconds=sum(stages.values()),
        seconds_range=(best, worst),
        bytes_memory=memory.likely,
        bytes_memory_high=memory.high,
        download_bytes=download,
        frames=shape.frames,
        height=shape.height,
        width=shape.width,
        seconds_of_video=shape.frames / bundle.card.fps,
        notes=[
            *_notes(request, bundle, shape, work.device, memory.likely, speeds),
            *residence.notes(request.offload, work.device, offload),
        ],
        stages=stages,
    )


def _two_models(request: GenerationRequest, processes: int) -> Cost:
    """What the picture and the video take, one after the other."""
    first = image_first.picture_request(request)
    height, width = request.size()
    second = image_first.motion_request(request, np.zeros((height, width, 3), np.uint8))
    picture, video = estimate(first, processes), estimate(second, processes)
    return dataclasses.replace(
        video,
        seconds=picture.seconds + video.seconds,
        seconds_range=(
            picture.seconds_range[0] + video.seconds_range[0],
            picture.seconds_range[1] + video.seconds_range[1],
        ),
        bytes_memory=max(picture.bytes_memory, video.bytes_memory),
        bytes_memory_high=max(picture.bytes_memory_high, video.bytes_memory_high),
        download_bytes=image_first.shared_download(first, second),
        notes=list(dict.fromkeys([*picture.notes, *video.notes])),
        stages={"picture": picture.seconds, **video.stages},
    )


def count(request: GenerationRequest, bundle: Bundle, processes: int = 1) -> Work:
    """Operations of a validated request, all that are done by so many processes together.

    Raises:
        RequestError: no such device or dtype, or weights whose configuration cannot be read.
    """
    device, dtype = _place(request)
    shape, family = shape_of(request, bundle), family_of(bundle)
    steps, given = request.steps or bundle.card.default_steps, request.is_given()
    return Work(
        sampling=_readable(lambda: family.sampling_flops(bundle, shape, steps, given)),
        decoding=_readable(lambda: family.decoding_flops(bundle, shape)),
        loading=max(1.0, float(_weight_bytes(bundle))),
        key=speed.speed_key(bundle.key, str(device), dtype_name(dtype), torch.get_num_threads(), processes),
        device=device,
        dtype=dtype,
    )


def remember(
    request: GenerationRequest,
    bundle: Bundle,
    timings: Mapping[str, float],
    offload: str,
    meter: Meter,
    loaded: bool,
    processes: int = 1,
) -> None:
    """Keep what a generation took, for the next estimate.

    Args:
        timings: seconds of its stages.
        offload: which networks waited in main memory.
        meter: measured its memory.
        loaded: whether it loaded the networks.
        processes: that made it together.
    """
    work = count(request, bundle, processes)
    speed.remember("sampling", work.key, work.sampling, timings.get("sampling", 0.0))
    speed.remember("decoding", work.key, work.decoding, timings.get("decoding", 0.0))
    if loaded:
        speed.remember("loading", work.key, work.loading, timings.get("loading", 0.0))
    meter.remember(work.key, _memory(request, bundle, shape_of(request, bundle), work.dtype), offload)


def _loading_speed(work: Work) -> Speed:
    """Bytes of weights that are loaded in a second."""
    known = speed.rate("loading", work.key, work.loading)
    if known is not None:
        return known
    guessed = work.loading / (0.5 + work.loading / LOADING_BYTES_PER_SECOND)
    return Speed(guessed / 2, guessed, guessed * 2, False)


def _place(request: GenerationRequest) -> tuple[torch.device, torch.dtype]:
    """Where and in which dtype a request is computed."""
    try:
        device = choose_device(request.device)
        return device, choose_dtype(request.dtype, device)
    except ValueError as error:
        raise RequestError("device", str(error)) from None


def _require_text_dtype(request: GenerationRequest) -> None:
    """Refuse a precision of the text encoder that cannot be computed here."""
    device, _ = _place(request)
    try:
        check_precision(request.text_dtype or "fp32", device)
    except ValueError as error:
        raise RequestError("text_dtype", str(error)) from None


def shape_of(request: GenerationRequest, bundle: Bundle) -> Shape:
    """What a validated request makes."""
    height, width = request.size()
    pictures = bundle.card.candidates_of(request.mode) if request.candidate is None else 1
    return Shape(height, width, tuple(request.parts(bundle)), request.num_videos, pictures)


def _readable(count: Callable[[], Counted]) -> Counted:
    """What is counted from a bundle's configuration, or an error that says that the model cannot be used."""
    try:
        return count()
    except ValueError as error:
        raise RequestError("model", str(error)) from error


def _weight_bytes(bundle: Bundle) -> int:
    if bundle.preset is not None and not bundle.preset.bundled:
        return bundle.preset.bytes
    return 0 if bundle.folder is None else sum(f.stat().st_size for f in bundle.folder.glob("*/*.safetensors"))


def _memory(request: GenerationRequest, bundle: Bundle, shape: Shape, dtype: torch.dtype) -> Memory:
    given = request.is_given()
    counted = _readable(lambda: family_of(bundle).memory(bundle, shape, dtype.itemsize, given))
    share = BYTES[request.text_dtype or "fp32"] / BYTES["fp32"]
    return dataclasses.replace(counted, text=int(share * counted.text))


def offload_of(request: GenerationRequest, bundle: Bundle) -> Offload:
    """Which networks of a validated request lie in main memory until their stage.

    Raises:
        RequestError: as :func:`count`.
    """
    device, dtype = _place(request)
    memory = _memory(request, bundle, shape_of(request, bundle), dtype)
    if request.text_dtype in QUANTISED:  # such an encoder stays where it was loaded
        return "none"
    return residence.choose_offload(request.offload, device, memory)


def _notes(
    request: GenerationRequest,
    bundle: Bundle,
    shape: Shape,
    device: torch.device,
    memory: int,
    speeds: dict[str, Speed],
) -> list[str]:
    notes = parts_notes(request, shape, max(bundle.card.frames))
    if not bundle.installed() and bundle.preset is not None:
        notes.append(say("weights.none", how=zoo.how_to_get(bundle.preset)))
    here = room(device)
    if here is not None and memory > here.total:
        told = {"need": gigabytes(memory), "device": device.type.upper(), "total": gigabytes(here.total)}
        notes.append(say("memory.machine", **told))
    if not all(s.measured for stage, s in speeds.items() if stage != "loading"):
        notes.append(say("time.guess"))
    return notes


def parts_notes(request: GenerationRequest, shape: Shape, longest: int) -> list[str]:
    """The sentence on a clip that has to be made in parts; none on loops that were asked for."""
    if len(shape.parts) == 1 or request.loops > 1:
        return []
    told = {"longest": longest, "frames": shape.frames, "parts": len(shape.parts), "given": CONDITION_FRAMES}
    return [say("parts", **told)]
