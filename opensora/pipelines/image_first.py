"""A picture first, then a video: one model paints the prompt, another one sets the picture in motion."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from opensora.models import zoo
from opensora.pipelines.bundle import Bundle
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import GenerationResult


def picture_request(request: GenerationRequest) -> GenerationRequest:
    """The request of the picture, of the video's size, seed and steps; its prompt says no motion and no rate.

    Raises:
        RequestError: no such model, or one that makes no pictures of this size.
    """
    picture = GenerationRequest(
        prompt=request.prompt,
        model=request.picture_model,
        resolution=request.resolution,
        aspect_ratio=request.aspect_ratio,
        length=1,
        steps=request.steps,
        seed=request.seed,
        dtype=request.dtype,
        text_dtype=request.text_dtype,
        device=request.device,
        offload=request.offload,
    )
    try:
        return picture.validated()
    except RequestError as error:
        raise RequestError("picture_model", str(error)) from None


def bundles(request: GenerationRequest) -> list[Bundle]:
    """All weights that a validated request needs, in the order in which they are used.

    Raises:
        RequestError: no weights can do it.
    """
    first = [] if request.picture_model is None else [picture_request(request).bundle()]
    return [*first, request.bundle()]


def motion_request(request: GenerationRequest, picture: np.ndarray) -> GenerationRequest:
    """The request that sets a picture, uint8 (H, W, 3), in motion."""
    return dataclasses.replace(request, picture_model=None, reference_image=picture).validated()


def joined(picture: GenerationResult, video: GenerationResult) -> GenerationResult:
    """The video's result, which also tells of its picture and holds it."""
    told: dict[str, Any] = {
        "picture_model": picture.settings["model"],
        "picture_sha256": hashlib.sha256(picture.frames.tobytes()).hexdigest(),
        "picture_steps": picture.settings["steps"],
    }
    return dataclasses.replace(
        video,
        settings=video.settings | told,
        plan=video.plan | {"picture": picture.plan},
        given={},  # the picture is made again from the text
        timings={"picture": sum(picture.timings.values()), **video.timings},
        picture=picture.frames[0],
    )


def shared_download(first: GenerationRequest, second: GenerationRequest) -> int:
    """About how many bytes two requests have to download together; what they share counts once."""
    missing: dict[tuple[str, str], int] = {}
    for request in (first, second):
        preset = request.bundle().preset
        if preset is not None:
            gone = zoo.status(preset).missing
            missing |= {(c.source, c.role): c.bytes for c in preset.components if c.source in gone}
    return sum(missing.values())
