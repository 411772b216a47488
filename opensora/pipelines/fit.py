"""Make it fit: the settings nearest to a request with which this machine can serve it now."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opensora.models import zoo
from opensora.pipelines.bundle import Bundle, of_preset
from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import GenerationRequest, parse_length
from opensora.pipelines.verdict import Limits, Preflight, preflight
from opensora.sentences import joined, named, say

OTHER_MODEL, OTHER_DTYPE, PER_HALF_VIDEOS, PER_HALF_STEPS = 10.0, 0.5, 0.6, 0.9
"""How far away another setting is, where half as many frames or pixels are 1 away."""
LEAST_STEPS = 6
"""Fewer denoising steps are not proposed."""
MOST_TRIED = 400
"""Settings that are tried."""
Choice = tuple[float, dict[str, Any]]
"""How far away other settings are, and these settings."""
READ = ("reference_image", "last_image", "reference_video")
"""Fields whose files are read once for all that is tried."""


@dataclass(frozen=True)
class Fit:
    """Settings that fit."""

    request: GenerationRequest
    """The request with them, everything else as it was."""
    changes: dict[str, Any]
    """New value of every field that changed; empty where nothing had to."""
    sentences: list[str]
    """The changes for people."""
    preflight: Preflight
    """What the new request takes."""


def fit(request: GenerationRequest, limits: Limits | None = None) -> Fit:
    """The nearest settings that are not red: fewer clips, a shorter one, a smaller one, fewer steps where time is
    short, bf16, and as the last resort another model that is here.

    Raises:
        RequestError: a setting cannot be used at all, or nothing fits; says why.
    """
    whole = request.validated()
    first = preflight(whole, limits)
    if first.colour != "red":
        return Fit(request, {}, [], first)
    read = {name: getattr(whole, name) for name in READ}
    for changes in itertools.islice(_nearest_first(whole, limits or Limits()), MOST_TRIED):
        try:
            found = preflight(dataclasses.replace(request, **read, **changes), limits)
        except RequestError:  # a length that does not go with a last image, a model that takes no clip
            continue
        if found.colour != "red":
            sentences = [_words(name, whole, value) for name, value in changes.items()]
            return Fit(dataclasses.replace(request, **changes), changes, sentences, found)
    raise RequestError("request", say("fit.none", reasons=joined(first.reasons)))


def _nearest_first(request: GenerationRequest, limits: Limits) -> Iterator[dict[str, Any]]:
    """Changes of a validated request, the nearest first."""
    bundle = request.bundle()
    found = list(_of_model(request, bundle, limits)) if bundle.installed() else []
    for preset in zoo.PRESETS.values():
        other = of_preset(preset)
        if other.key != bundle.key and other.installed() and request.mode in other.card.modes:
            model = {"model": preset.name, "resolution": other.default_resolution(), "cond_type": None}
            found += [(OTHER_MODEL + away, model | changes) for away, changes in _of_model(request, other, limits)]
    yield from (changes for _, changes in sorted(found, key=lambda pair: pair[0]) if changes)


def _of_model(request: GenerationRequest, bundle: Bundle, limits: Limits) -> Iterator[Choice]:
    """Changes with a bundle, and how far away they are."""
    choices: tuple[list[Choice], ...] = (
        _lengths(request, bundle),
        _resolutions(request, bundle),
        _videos(request),
        _steps(request, bundle) if limits.seconds is not None else [(0.0, {})],
        [(0.0, {}), (OTHER_DTYPE, {"dtype": "bf16"})] if request.dtype == "fp32" else [(0.0, {})],
    )
    for combination in itertools.product(*choices):
        changes = {name: value for _, part in combination for name, value in part.items()}
        yield sum(away for away, _ in combination), changes


def _lengths(request: GenerationRequest, bundle: Bundle) -> list[Choice]:
    frames = parse_length(request.length, bundle.card.fps)
    shorter = [n for n in bundle.card.frames if n < frames] if frames > 1 else []
    own = max(bundle.card.frames)
    longer = range(own, frames, own) if bundle.card.continues and request.loops == 1 else ()
    return [(0.0, {}), *((math.log2(frames / n), {"length": f"{n}f"}) for n in sorted({*shorter, *longer}))]


def _resolutions(request: GenerationRequest, bundle: Bundle) -> list[Choice]:
    assert request.resolution is not None, "call validated() first"
    found: list[Choice] = [(0.0, {})]
    here = math.prod(request.size())
    for resolution in bundle.card.resolutions:
        pixels = math.prod(dataclasses.replace(request, resolution=resolution).size())
        if pixels < here:
            found.append((math.log2(here / pixels), {"resolution": resolution}))
    return found


def _videos(request: GenerationRequest) -> list[Choice]:
    counts = sorted({n for n in (1, request.num_videos // 2, request.num_videos - 1) if 0 < n < request.num_videos})
    return [(0.0, {}), *((PER_HALF_VIDEOS * math.log2(request.num_videos / n), {"num_videos": n}) for n in counts)]


def _steps(request: GenerationRequest, bundle: Bundle) -> list[Choice]:
    steps = request.steps or bundle.card.default_steps
    fewer = {max(LEAST_STEPS, math.ceil(steps * share)) for share in (0.8, 0.65, 0.5)}
    return [(0.0, {}), *((PER_HALF_STEPS * math.log2(steps / n), {"steps": n}) for n in fewer if n < steps)]


def _words(name: str, before: GenerationRequest, value: Any) -> str:
    """A change as a sentence."""
    if value is None:
        return say("fit.left", field=named(name))
    return say("fit.change", field=named(name), now=f"{value}", before=f"{getattr(before, name)}")
