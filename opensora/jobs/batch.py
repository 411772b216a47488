"""Requests of a batch: one clip several times, with other seeds or other settings."""

import dataclasses
import itertools
import secrets
from collections.abc import Sequence
from typing import Any

from opensora.pipelines.errors import RequestError
from opensora.pipelines.request import MAX_SEED, GenerationRequest
from opensora.sentences import say

MOST = 64
"""Jobs of a batch."""


def grid(
    request: GenerationRequest,
    *,
    seeds: int = 1,
    guidance: Sequence[float] = (),
    steps: Sequence[int] = (),
    motion: Sequence[int] = (),
) -> list[GenerationRequest]:
    """Requests of a small grid: every combination, seeds innermost.

    All combinations have the same seeds, so that only the settings differ between clips of one seed: the request's own
    seed and those that follow it, or a random one and those that follow it.

    Args:
        request: what all have in common.
        seeds: how many seeds.
        guidance, steps, motion: values of ``guidance``, ``steps`` and ``motion_score``; none: the request's own.

    Raises:
        RequestError: no seed, or more than :data:`MOST` jobs.
    """
    values: dict[str, Sequence[Any]] = {"guidance": guidance, "steps": steps, "motion_score": motion}
    axes = {name: list(chosen) for name, chosen in values.items() if chosen}
    count = seeds
    for chosen in axes.values():
        count *= len(chosen)
    if not 1 <= count <= MOST:
        raise RequestError("batch", say("batch.many", count=count, most=MOST))
    points: list[dict[str, Any]] = [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
    first = secrets.randbelow(2**31) if request.seed is None else int(request.seed)
    return [
        dataclasses.replace(request, **point, seed=(first + index) % (MAX_SEED + 1))
        for point in points
        for index in range(seeds)
    ]
