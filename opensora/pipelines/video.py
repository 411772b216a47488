"""From a request to finished frames: text, reference, sampling, decoding, checks."""

import dataclasses
import difflib
import hashlib
import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from opensora.distributed.group import Group
from opensora.pipelines import embedded, image_first, loras, preflight, residence
from opensora.pipelines.build import build_models
from opensora.pipelines.bundle import Bundle
from opensora.pipelines.families import family_of
from opensora.pipelines.lean import OutOfMemory, less_at_once, offloaded
from opensora.pipelines.memory import Meter
from opensora.pipelines.models import Clip, Models
from opensora.pipelines.pixels import check_picture
from opensora.pipelines.plan import choose_device
from opensora.pipelines.preview import Preview
from opensora.pipelines.refine import dynamic_motion
from opensora.pipelines.reporter import Reporter
from opensora.pipelines.request import DYNAMIC, MAX_SEED, GenerationRequest, RequestError, require_weights
from opensora.pipelines.residence import at_work
from opensora.pipelines.result import CancelFlag, GenerationResult, OnProgress
from opensora.sentences import say

log = logging.getLogger(__name__)

_RUNNING = threading.Lock()
"""Held by the generation that uses the networks; others wait."""

STAGES = ("loading", "text", "reference", "sampling", "decoding")
"""Stages of a generation, in order."""


def generate_video(
    prompt: str, *, on_progress: OnProgress | None = None, cancel: CancelFlag | None = None, **settings: Any
) -> GenerationResult:
    """Make clips of a prompt.

    Args:
        prompt: what to show.
        on_progress: called with a :class:`Progress` after every step.
        cancel: anything with ``is_set()``, such as :class:`threading.Event`; stops within a step.
        settings: fields of :class:`GenerationRequest`, such as ``aspect_ratio="9:16"``, ``length="5s"``,
            ``reference_image=image`` or ``seed=7``.

    Raises:
        RequestError: a setting cannot be used, or weights are missing; nothing was computed.
        GenerationError: a stage failed; names it.
        Cancelled: ``cancel`` was set.
    """
    known = [field.name for field in dataclasses.fields(GenerationRequest) if field.name != "prompt"]
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
            raise RequestError(name, f"There is no setting {name!r}; {hint}")
    return generate(GenerationRequest(prompt, **settings), on_progress=on_progress, cancel=cancel)


def generate(
    request: GenerationRequest,
    *,
    on_progress: OnProgress | None = None,
    cancel: CancelFlag | None = None,
    group: Group | None = None,
    lean: bool = False,
) -> GenerationResult:
    """Make the clips of a request. One generation runs at a time; others wait for it.

    With a ``group`` all its processes call this with the same request, seed included, and get the same result. ``lean``
    takes less memory and more time, see :mod:`opensora.pipelines.lean`.

    Raises: as :func:`generate_video`.
    """
    request = request.validated()
    if lean:
        request = offloaded(request)
    if request.seed is None:
        request = dataclasses.replace(request, seed=secrets.randbelow(2**31))
    if request.picture_model is not None:
        for bundle in image_first.bundles(request):
            require_weights(bundle)
        first = image_first.picture_request(request)
        picture = generate(first, on_progress=on_progress, cancel=cancel, group=group, lean=lean)
        moving = image_first.motion_request(request, picture.frames[0])
        video = generate(moving, on_progress=on_progress, cancel=cancel, group=group, lean=lean)
        return image_first.joined(picture, video)
    bundle = request.bundle()
    require_weights(bundle)
    files = loras.load(request.loras, bundle)
    request, said = _with_motion(request)
    reporter = Reporter(on_progress, cancel, group)
    processes = 1 if group is None else group.size
    cost = preflight.estimate(request, processes)
    reporter.expect({name: cost.stages[name] for name in STAGES if name in cost.stages})
    with _turn(reporter), ExitStack() as while_made:
        meter = Meter(choose_device(request.device))
        with _naming("loading"), reporter.stage("loading"):
            models = while_made.enter_context(loras.worn(_build(request, bundle, group), files))
        if lean:
            while_made.enter_context(less_at_once(models.stdit, models.vae))
        with _computing(models), reporter.interrupting(*family_of(bundle).modules(models)):
            videos = _compute(request, bundle, models, reporter)
    if not lean and (group is None or group.first):  # a second try in less memory says nothing of the next first one
        at = models.config.plan.offload
        preflight.remember(request, bundle, reporter.timings, at, meter, "loading" in cost.stages, processes)
    result = _result(request, bundle, models, videos, reporter)
    return dataclasses.replace(result, settings=result.settings | loras.record(files), notes=[*said, *result.notes])


def _with_motion(request: GenerationRequest) -> tuple[GenerationRequest, list[str]]:
    """The request with a number where the motion is to follow the text, and a sentence on it."""
    if request.motion_score != DYNAMIC:
        return request, []
    score, said = dynamic_motion(request.prompt)
    return dataclasses.replace(request, motion_score=score), [said]


def _build(request: GenerationRequest, bundle: Bundle, group: Group | None) -> Models:
    offload = preflight.offload_of(request, bundle)
    try:
        return build_models(
            request.mode,
            request.resolution,
            True,
            model=bundle,
            device=request.device,
            dtype=request.dtype,
            text_dtype=request.text_dtype or "fp32",
            offload=offload,
            group=group,
        )
    except ValueError as error:
        raise RequestError("model", str(error)) from error


def _compute(request: GenerationRequest, bundle: Bundle, models: Models, reporter: Reporter) -> list[np.ndarray]:
    """Every clip, uint8 (T, H, W, 3)."""
    clip, family = _clip(request, bundle), family_of(bundle)
    with _naming("text"), reporter.stage("text"), at_work(models, "text"):
        family.encode_texts(models, [*clip.texts, *(clip.negative or [])])
    if given := request.references().in_order():
        with _naming("reference"), reporter.stage("reference"), at_work(models, "reference"):
            encoded = tuple(family.encode_reference(models, frames) for frames in given)
            clip = dataclasses.replace(clip, references=encoded)
    preview = _preview(models, bundle)
    seeds = _seeds(request)
    steps = clip.steps * clip.runs * len(seeds)
    with _naming("sampling"), reporter.stage("sampling", steps), at_work(models, "sampling"):
        latents_of = [family.denoise(models, clip, seed, reporter, preview) for seed in seeds]
    frames = sum(part.kept for part in clip.parts)
    pieces = family.count_pieces(models, latents_of[0].shape[2])
    with _naming("decoding"), reporter.stage("decoding", pieces * len(seeds)), at_work(models, "decoding"):
        return [_decode(family.decode(models, latents, frames), reporter) for latents in latents_of]


def _clip(request: GenerationRequest, bundle: Bundle) -> Clip:
    assert request.steps is not None and request.guidance is not None and request.image_guidance is not None
    height, width = request.size()
    return Clip(
        texts=request.texts(bundle),
        negative=request.negative_texts(bundle),
        parts=request.parts(bundle),
        height=height,
        width=width,
        fps=bundle.card.fps,
        steps=request.steps,
        guidance=request.guidance,
        image_guidance=request.image_guidance,
        cond_type=request.cond_type,
        picture_first=bundle.card.picture_first and request.mode == "t2v",
        candidate=None if request.candidate is None else request.candidate - 1,
    )


def _decode(pieces: Iterator[np.ndarray], reporter: Reporter) -> np.ndarray:
    done = []
    for piece in pieces:
        done.append(piece)
        reporter.step()
    video = np.concatenate(done)
    check_picture(video)
    return video


def _result(
    request: GenerationRequest, bundle: Bundle, models: Models, videos: list[np.ndarray], reporter: Reporter
) -> GenerationResult:
    shape = preflight.shape_of(request, bundle)
    notes = preflight.parts_notes(request, shape, max(bundle.card.frames))
    notes += [
        say("text.cut", count=count, most=most)
        for count, most in family_of(bundle).cut_texts(models, request.texts(bundle))
    ]
    plan = models.config.plan
    notes += residence.notes(request.offload, torch.device(plan.device), plan.offload)
    return GenerationResult(
        videos=videos,
        fps=float(bundle.card.fps),
        seeds=_seeds(request),
        settings=settings_of(request, bundle) | ({"pictures_kept": reporter.kept} if reporter.kept else {}),
        plan=plan.to_json(),
        timings=dict(reporter.timings),
        notes=notes,
        given=embedded.by_field(request.references()),
    )


def settings_of(request: GenerationRequest, bundle: Bundle) -> dict[str, Any]:
    """Everything that a validated request asks for, as JSON values."""
    height, width = request.size()
    parts = request.parts(bundle)
    given = ("reference_image", "last_image", "reference_video")
    skipped = ("model", *given, "picture_model", "loras", "dtype", "text_dtype", "device", "offload")
    settings = {
        field.name: getattr(request, field.name)
        for field in dataclasses.fields(request)
        if field.name not in skipped and getattr(request, field.name) is not None
    }
    settings |= {
        "model": bundle.card.name,
        "mode": request.mode,
        "height": height,
        "width": width,
        "num_frames": sum(part.kept for part in parts),
        "fps": bundle.card.fps,
        "parts": [dataclasses.asdict(part) for part in parts],
        "texts": request.texts(bundle),
    }
    if bundle.card.picture_first and request.mode == "t2v":
        settings["picture_first"] = True
    if (candidates := bundle.card.candidates_of(request.mode)) > 1:
        settings["picture_candidates"] = candidates
    hashes = [hashlib.sha256(frames.tobytes()).hexdigest() for frames in request.references().in_order()]
    settings |= dict(zip(("reference_sha256", "second_reference_sha256"), hashes, strict=False))
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}


def _seeds(request: GenerationRequest) -> list[int]:
    assert request.seed is not None
    return [(int(request.seed) + i) % (MAX_SEED + 1) for i in range(request.num_videos)]


def _preview(models: Models, bundle: Bundle) -> Preview | None:
    """The map to small pictures that comes with the autoencoder; ``None`` where none does."""
    try:
        return Preview.load(bundle.weights().vae, models.vae.latent_channels)
    except ValueError as error:
        raise RequestError("model", str(error)) from error


@contextmanager
def _turn(reporter: Reporter) -> Iterator[None]:
    """Wait until no other generation uses the networks, and keep others waiting."""
    while not _RUNNING.acquire(timeout=0.2):
        reporter.check()
    try:
        yield
    finally:
        _RUNNING.release()


@contextmanager
def _computing(models: Models) -> Iterator[None]:
    """Kernels that give the same bytes every time, and no memory of gradients."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if models.config.plan.device.startswith("cuda"):
            before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            stack.callback(_restore, before)
        yield


def _restore(before: tuple[bool, bool]) -> None:
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


@contextmanager
def _naming(stage: str) -> Iterator[None]:
    """Say in which stage the memory ran out."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(stage) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "out of memory" in str(error).lower():
            raise OutOfMemory(stage) from error
        raise
