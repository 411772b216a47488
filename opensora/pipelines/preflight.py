"""What a request will cost, before anything is loaded: time, memory and downloads."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch

from opensora.acceleration.offload import Offload
from opensora.checkpoint.errors import gigabytes
from opensora.models import zoo
from opensora.pipelines import image_first, loras, residence
from opensora.pipelines.build import is_built
from opensora.pipelines.bundle import Bundle
from opensora.pipelines.cost import Memory, Shape
from opensora.pipelines.families import family_of
from opensora.pipelines.parts import CONDITION_FRAMES
from opensora.pipelines.plan import choose_device, choose_dtype, dtype_name
from opensora.pipelines.request import GenerationRequest, RequestError
from opensora.pipelines.speed import Speed, speed, speed_key

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
    """About the peak of memory."""
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


@dataclass(frozen=True)
class Work:
    """Operations of the stages of a request, and what their speed is known by."""

    sampling: float
    decoding: float
    key: str
    device: torch.device
    dtype: torch.dtype


def estimate(request: GenerationRequest) -> Cost:
    """Time, memory and downloads of a request on this machine. Loads no network; quick after the first call.

    Raises:
        RequestError: the request cannot be served.
    """
    request = request.validated()
    if request.picture_model is not None:
        return _two_models(request)
    bundle = request.bundle()
    loras.require_for(request.loras, bundle)
    work = count(request, bundle)
    speeds = {stage: speed(stage, work.key, work.device, work.dtype) for stage in ("sampling", "decoding")}
    amounts = {"sampling": work.sampling, "decoding": work.decoding}
    stages = {stage: amounts[stage] / speeds[stage].likely for stage in amounts}
    best, worst = (sum(amounts[s] / getattr(speeds[s], end) for s in amounts) for end in ("high", "low"))
    shape = shape_of(request, bundle)
    offload = offload_of(request, bundle)
    memory = _memory(request, bundle, shape, work.dtype).peak(offload)
    if not is_built(bundle, request.device, request.dtype, optimized=True, offload=offload):
        stages["loading"] = 0.5 + _weight_bytes(bundle) / LOADING_BYTES_PER_SECOND
    extra = stages.get("loading", 0.0)
    download = zoo.status(bundle.preset).bytes_to_download if bundle.preset is not None else 0
    return Cost(
        seconds=sum(stages.values()),
        seconds_range=(best + extra / 2, worst + extra),
        bytes_memory=memory,
        download_bytes=download,
        frames=shape.frames,
        height=shape.height,
        width=shape.width,
        seconds_of_video=shape.frames / bundle.card.fps,
        notes=[
            *_notes(request, bundle, shape, work.device, memory, speeds),
            *residence.notes(request.offload, work.device, offload),
        ],
        stages=stages,
    )


def _two_models(request: GenerationRequest) -> Cost:
    """What the picture and the video take, one after the other."""
    first = image_first.picture_request(request)
    height, width = request.size()
    second = image_first.motion_request(request, np.zeros((height, width, 3), np.uint8))
    picture, video = estimate(first), estimate(second)
    return dataclasses.replace(
        video,
        seconds=picture.seconds + video.seconds,
        seconds_range=(
            picture.seconds_range[0] + video.seconds_range[0],
            picture.seconds_range[1] + video.seconds_range[1],
        ),
        bytes_memory=max(picture.bytes_memory, video.bytes_memory),
        download_bytes=image_first.shared_download(first, second),
        notes=list(dict.fromkeys([*picture.notes, *video.notes])),
        stages={"picture": picture.seconds, **video.stages},
    )


def count(request: GenerationRequest, bundle: Bundle) -> Work:
    """Operations of a validated request.

    Raises:
        RequestError: no such device or dtype, or weights whose configuration cannot be read.
    """
    device, dtype = _place(request)
    shape, family = shape_of(request, bundle), family_of(bundle)
    steps, given = request.steps or bundle.card.default_steps, request.is_given()
    return Work(
        sampling=_readable(lambda: family.sampling_flops(bundle, shape, steps, given)),
        decoding=_readable(lambda: family.decoding_flops(bundle, shape)),
        key=speed_key(bundle.key, str(device), dtype_name(dtype), torch.get_num_threads()),
        device=device,
        dtype=dtype,
    )


def _place(request: GenerationRequest) -> tuple[torch.device, torch.dtype]:
    """Where and in which dtype a request is computed."""
    try:
        device = choose_device(request.device)
        return device, choose_dtype(request.dtype, device)
    except ValueError as error:
        raise RequestError("device", str(error)) from None


def shape_of(request: GenerationRequest, bundle: Bundle) -> Shape:
    """What a validated request makes."""
    height, width = request.size()
    return Shape(height, width, tuple(request.parts(bundle)), request.num_videos)


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
    return _readable(lambda: family_of(bundle).memory(bundle, shape, dtype.itemsize, given))


def offload_of(request: GenerationRequest, bundle: Bundle) -> Offload:
    """Which networks of a validated request lie in main memory until their stage.

    Raises:
        RequestError: as :func:`count`.
    """
    device, dtype = _place(request)
    memory = _memory(request, bundle, shape_of(request, bundle), dtype)
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
        notes.append(f"The weights are not on this machine. {zoo.how_to_get(bundle.preset)}")
    available = _memory_of(device)
    if available is not None and memory > available:
        notes.append(
            f"It needs about {gigabytes(memory)} of memory; this machine's {device.type.upper()} has "
            f"{gigabytes(available)}. Choose a smaller resolution or a shorter clip."
        )
    if not all(s.measured for s in speeds.values()):
        notes.append("The time is a guess until the first clip has been made on this machine.")
    return notes


def parts_notes(request: GenerationRequest, shape: Shape, longest: int) -> list[str]:
    """The sentence on a clip that has to be made in parts; none on loops that were asked for."""
    if len(shape.parts) == 1 or request.loops > 1:
        return []
    return [
        f"The network makes at most {longest} frames at once: the {shape.frames} frames are made in "
        f"{len(shape.parts)} parts, each continuing the last {CONDITION_FRAMES} frames of the one before."
    ]


def _memory_of(device: torch.device) -> int | None:
    """Bytes of memory of a device; ``None`` where it is not known."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    return int(psutil.virtual_memory().total)
