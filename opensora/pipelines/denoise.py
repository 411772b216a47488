"""From texts to latents: one run of the sampler for every part of a clip.

Legend: C latent channels, T, H, W latent frames, rows and columns. Latents are normalised float32 (1, C, T, H, W).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from opensora.pipelines.build import Models
from opensora.pipelines.parts import Part
from opensora.pipelines.pixels import to_pixels
from opensora.pipelines.preview import Preview
from opensora.pipelines.reporter import Reporter
from opensora.pipelines.result import GenerationError
from opensora.sampling.conditions import prep_ref_and_mask, prep_ref_and_update_mask_in_loop

FLAT = 1e-4
"""Spread of latents below which there is nothing to see."""


@dataclass(frozen=True)
class Clip:
    """What is made, besides the seed."""

    texts: list[str]
    """Of every part."""
    negative: list[str] | None
    """Of every part."""
    parts: Sequence[Part]
    """Runs of the sampler."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    fps: int
    """Frames per second."""
    steps: int
    """Denoising steps."""
    guidance: float
    """Text guidance."""
    image_guidance: float
    """Image guidance."""
    cond_type: str | None
    """Where the reference goes."""
    reference: Tensor | None = field(repr=False, default=None)
    """Latents of the reference image (1, C, 1, H, W)."""


def encode_reference(models: Models, image: Image.Image, device: torch.device) -> Tensor:
    """Latents (1, C, 1, H, W) of a picture of the clip's size.

    Raises:
        GenerationError: the autoencoder made no numbers of it.
    """
    pixels = to_pixels(image).to(device, next(models.vae.parameters()).dtype)
    latents = models.vae.encode(pixels).float()
    _check(latents, "reference", "the encoded reference image")
    return latents


def denoise(models: Models, clip: Clip, seed: int, reporter: Reporter, preview: Preview | None) -> Tensor:
    """Latents of a whole clip (1, C, T, H, W), parts joined. Reports a step of the sampler as a step.

    Raises:
        GenerationError: the network made no numbers, or all the same.
        Cancelled: the caller asked to stop.
    """
    generator = torch.Generator().manual_seed(seed)
    joined: list[Tensor] = []
    for index, part in enumerate(clip.parts):
        before = joined[-1] if joined else None
        latents = _run(models, clip, index, part, before, generator, _watch(reporter, preview))
        joined.append(latents)
    overlap = models.config.condition_frame_length
    return torch.cat([latents[:, :, overlap if i else 0 :] for i, latents in enumerate(joined)], dim=2)


def _run(
    models: Models,
    clip: Clip,
    index: int,
    part: Part,
    before: Tensor | None,
    generator: torch.Generator,
    on_step: Callable[[int, int, Tensor], None],
) -> Tensor:
    """Latents of one part, given those of the part before."""
    config, device = models.config, torch.device(models.config.plan.device)
    size = models.vae.get_latent_size((part.frames, clip.height, clip.width))
    shape = (1, models.vae.latent_channels, *(side for side in size if side is not None))
    z = torch.randn(shape, generator=generator).to(device)
    cond, given = _given(models, clip, index, before, z)
    cond_mask = torch.zeros_like(z)
    cond_mask[:, :, given] = 1
    by_image = bool(given) and "i2v" in config.bundle.card.modes
    joins = None
    if given and not by_image:  # a network without image conditions has clean frames among its own
        joins = 1 - cond_mask[:, 0, :, 0, 0]
        z = torch.where(cond_mask.bool(), cond, z)
    told = clip.fps if part.frames > 1 else config.bundle.card.image_fps
    result = config.scheduler(clip.steps, clip.guidance).sample(
        models.stdit,
        models.text_encoder,
        z,
        z_cond=cond if by_image else None,
        z_cond_mask=cond_mask if by_image else None,
        prompts=[clip.texts[index]],
        device=device,
        additional_args={"height": clip.height, "width": clip.width, "num_frames": part.frames, "fps": told},
        progress=False,
        mask=joins,
        mask_index=given if by_image else None,
        image_cfg_scale=clip.image_guidance if by_image else None,
        neg_prompts=None if clip.negative is None else [clip.negative[index]],
        use_sdedit=by_image and config.use_sdedit,
        use_oscillation_guidance_for_image=by_image and config.use_oscillation_guidance,
        on_step=on_step,
        generator=generator,
    )
    result = torch.where(cond_mask.bool(), cond, result)  # what was given is kept
    _check(result, "sampling", "the denoiser's result")
    return result


def _given(models: Models, clip: Clip, index: int, before: Tensor | None, z: Tensor) -> tuple[Tensor, list[int]]:
    """Latents like the noise ``z``, zero but for the frames that a part is given, and which frames these are."""
    refs = [] if clip.reference is None else [[clip.reference[0]]]
    kind, overlap = clip.cond_type, models.config.condition_frame_length
    if before is None:
        return prep_ref_and_mask(kind, overlap, refs, z.shape, len(clip.parts), z.device, z.dtype)
    last = index == len(clip.parts) - 1
    return prep_ref_and_update_mask_in_loop(kind, overlap, before, refs, z.shape, last, z.device, z.dtype)


def _watch(reporter: Reporter, preview: Preview | None) -> Callable[[int, int, Tensor], None]:
    def on_step(step: int, total: int, estimate: Tensor) -> None:
        if not bool(torch.isfinite(estimate).all()):
            raise _no_numbers("sampling", f"step {step} of {total} of the denoiser")
        reporter.step(None if preview is None else preview.frames(estimate))

    return on_step


def _check(latents: Tensor, stage: str, what: str) -> None:
    if not bool(torch.isfinite(latents).all()):
        raise _no_numbers(stage, what)
    if float(latents.std()) < FLAT:
        raise GenerationError(
            stage, f"The {stage} stage failed: {what} is the same everywhere. Check the weights, or try another seed."
        )


def _no_numbers(stage: str, what: str) -> GenerationError:
    return GenerationError(
        stage,
        f"The {stage} stage failed: {what} holds values that are not numbers. Try the dtype fp32, a lower guidance, or "
        "check the weights.",
    )
