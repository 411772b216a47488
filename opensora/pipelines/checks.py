"""What must hold between the stages of a generation, whatever the networks."""

from collections.abc import Callable

import torch
from torch import Tensor

from opensora.pipelines.preview import Preview
from opensora.pipelines.reporter import Reporter
from opensora.pipelines.result import GenerationError
from opensora.sentences import say, stage_named

FLAT = 1e-4
"""Spread of latents below which there is nothing to see."""


def watch(reporter: Reporter, preview: Preview | None) -> Callable[[int, int, Tensor], None]:
    """What the sampler calls after a step with its number, how many there are, and its estimate (1, C, T, H, W) of the
    finished latents.

    It raises GenerationError for values that are no numbers, and Cancelled when the caller asked to stop.
    """

    def on_step(step: int, total: int, estimate: Tensor) -> None:
        if not bool(torch.isfinite(estimate).all()):
            raise _no_numbers("sampling", say("what.step", step=step, total=total))
        reporter.step(None if preview is None else preview.frames(estimate))

    return on_step


def check_latents(latents: Tensor, stage: str, what: str) -> None:
    """Refuse latents in which there is nothing to see.

    Raises:
        GenerationError: values that are no numbers, or all the same.
    """
    if not bool(torch.isfinite(latents).all()):
        raise _no_numbers(stage, what)
    if float(latents.std()) < FLAT:
        raise GenerationError(stage, say("failed.flat", stage=stage_named(stage), what=what))


def features_failed() -> GenerationError:
    """The error of a text encoder whose features are no numbers."""
    return GenerationError("text", say("failed.features"))


def _no_numbers(stage: str, what: str) -> GenerationError:
    return GenerationError(stage, say("failed.numbers", stage=stage_named(stage), what=what))
