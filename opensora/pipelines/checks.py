"""What must hold between the stages of a generation, whatever the networks."""

from collections.abc import Callable

import torch
from torch import Tensor

from opensora.pipelines.preview import Preview
from opensora.pipelines.reporter import Reporter
from opensora.pipelines.result import GenerationError

FLAT = 1e-4
"""Spread of latents below which there is nothing to see."""


def watch(reporter: Reporter, preview: Preview | None) -> Callable[[int, int, Tensor], None]:
    """What the sampler calls after a step with its number, how many there are, and its estimate (1, C, T, H, W) of the
    finished latents.

    It raises GenerationError for values that are no numbers, and Cancelled when the caller asked to stop.
    """

    def on_step(step: int, total: int, estimate: Tensor) -> None:
        if not bool(torch.isfinite(estimate).all()):
            raise _no_numbers("sampling", f"step {step} of {total} of the denoiser")
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
        raise GenerationError(
            stage, f"The {stage} stage failed: {what} is the same everywhere. Check the weights, or try another seed."
        )


def features_failed() -> GenerationError:
    """The error of a text encoder whose features are no numbers."""
    return GenerationError(
        "text", "The text stage failed: the text encoder's features are not numbers. Check its weights."
    )


def _no_numbers(stage: str, what: str) -> GenerationError:
    return GenerationError(
        stage,
        f"The {stage} stage failed: {what} holds values that are not numbers. Try the dtype fp32, a lower guidance, or "
        "check the weights.",
    )
