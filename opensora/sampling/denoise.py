"""The denoising loops of Open-Sora 2.0: guided by text and image, and distilled.

Legend: B samples, C latent channels, T, H, W latent frames, rows and columns, N tokens of a video, p patch size.
The network is any callable with MMDiT's arguments, which predicts ``noise - data``: a step from t to s adds
``(s - t)`` times that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from opensora.sampling.compat import Compat
from opensora.sampling.given_frames import TEXT_ONLY, References, prepare_condition, write_back
from opensora.sampling.guidance import StepGuidance, image_weights, oscillating
from opensora.sampling.schedule import frame_shift, sampling_times
from opensora.sampling.tokens import Encoder, pack, prepare, unpack

Network = Callable[..., Tensor]
OnStep = Callable[[int, int, Tensor], None]
Method = Literal["i2v", "distilled"]

FIRST_OSCILLATION = 10
"""First step, from 0, on which guidance may oscillate."""


@dataclass(frozen=True)
class SamplingOption:
    """How a video is sampled; the defaults are those of the published 256px and 768px configurations."""

    num_steps: int = 50
    """Euler steps."""
    guidance: float = 7.5
    """Text guidance. A distilled network is told it."""
    guidance_img: float | None = 3.0
    """Image guidance; None where nothing is given, for a clip without a reference."""
    text_osci: bool = True
    """Text guidance is 1 on every odd step from step 10 on."""
    image_osci: bool = True
    """Image guidance is 1 on every odd step from step 10 on."""
    scale_temporal_osci: bool = True
    """Image guidance grows over the frames of a video that begins or ends with an image, and falls over the steps."""
    shift: bool = True
    """Shift times by the size and the length of the video."""
    flow_shift: float | None = None
    """Shift of every video, instead of the one by size and length."""
    method: Method = "i2v"
    """``i2v`` guides by text and image, also where no image is given; ``distilled`` runs a distilled network."""
    skip_cancelled_rows: bool = True
    """Do not compute guidance rows that are the same as another one, or whose weight is zero."""
    compat: Compat = "right"
    """``published`` reproduces defects of the public code; see docs/differences.md."""

    def __post_init__(self) -> None:
        for name, kind in (("method", Method), ("compat", Compat)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(get_args(kind))}.")
        if self.num_steps < 1:
            raise ValueError(f"num_steps is {self.num_steps}; expected at least 1.")
        if self.flow_shift is not None and not self.flow_shift > 0:
            raise ValueError(f"flow_shift is {self.flow_shift}; expected a positive number, or None.")

    def times(self, tokens_per_frame: int, latent_frames: int) -> Tensor:
        """Times (steps + 1,) from 1 to 0, float32."""
        if not self.shift:
            return sampling_times(self.num_steps)
        shift = frame_shift(tokens_per_frame, latent_frames) if self.flow_shift is None else self.flow_shift
        return sampling_times(self.num_steps, torch.tensor(shift, dtype=torch.float64))

    def step_guidance(self, step: int, cond_type: str, latent_frames: int) -> StepGuidance:
        """Guidance of step ``step`` (from 0)."""
        text = oscillating(self.guidance, step, FIRST_OSCILLATION) if self.text_osci else self.guidance
        image = self.guidance_img
        if image is None or (cond_type == TEXT_ONLY and self.skip_cancelled_rows):
            return StepGuidance(text, None)  # without a given frame the image row and the null row are the same
        if self.image_osci:
            image = oscillating(image, step, FIRST_OSCILLATION)
        if self.scale_temporal_osci and cond_type.startswith("i2v") and image > 1.0:
            return StepGuidance(text, image_weights(image, 1.0, step, self.num_steps + 1, latent_frames))
        return StepGuidance(text, image)


@torch.inference_mode()
def sample_video(
    model: Network,
    t5: Encoder,
    clip: Encoder,
    z: Tensor,
    prompts: Sequence[str],
    option: SamplingOption,
    *,
    negatives: Sequence[str] | None = None,
    cond_type: str = TEXT_ONLY,
    references: References = (),
    causal: bool = True,
    patch_size: int = 2,
    seq_align: int = 1,
    on_step: OnStep | None = None,
) -> Tensor:
    """Latents of a video, from noise.

    Args:
        model: the network.
        t5: see :func:`opensora.sampling.tokens.prepare`.
        clip: as ``t5``.
        z: noise (B, C, T, H, W) in float32 (the steps are taken in its dtype).
        prompts: B texts.
        option: how to sample.
        negatives: B texts to guide away from; empty ones when ``None``. A distilled network takes none.
        cond_type: what is given, see :mod:`opensora.sampling.given_frames`.
        references: latents of the given frames of every sample.
        causal: whether the autoencoder is causal.
        patch_size: latent rows and columns of one token.
        seq_align: the tokens of text and video together are made a multiple of it.
        on_step: called after each step with its number from 1, the number of steps and the estimate of the data
            (B, C, T, H, W); what it raises stops the run.

    Returns:
        (B, C, T, H, W), with given first and last frames as they were given.

    Raises:
        ValueError: arguments that do not belong together, or a missing or too short reference.
    """
    if len(prompts) != len(z) or (negatives is not None and len(negatives) != len(z)):
        raise ValueError(
            f"{len(prompts)} prompts and {len(prompts if negatives is None else negatives)} negative prompts for a "
            f"batch of {len(z)}; give one of each for every sample."
        )
    if option.method == "distilled":
        if cond_type != TEXT_ONLY or any(references) or negatives is not None:
            raise ValueError("a distilled network takes neither given frames nor negative prompts; leave them out.")
        inputs = prepare(t5, clip, z, prompts, seq_align, patch_size)
        return denoise_distilled(model, z, inputs, option, patch_size, on_step)
    masks, latents = prepare_condition(z, cond_type, references, causal, option.compat)
    inputs = prepare(t5, clip, z, [*prompts, *(negatives or [""] * len(z))], seq_align, patch_size)
    inputs["cond"] = pack(torch.cat((masks, latents), dim=1), patch_size)
    x = denoise_guided(model, z, inputs, option, cond_type, patch_size, on_step)
    return write_back(x, cond_type, references, option.compat)


def denoise_guided(
    model: Network,
    z: Tensor,
    inputs: Mapping[str, Tensor],
    option: SamplingOption,
    cond_type: str = TEXT_ONLY,
    patch_size: int = 2,
    on_step: OnStep | None = None,
) -> Tensor:
    """Denoise ``z`` (B, C, T, H, W), guided by text and image.

    Args:
        model: the network.
        z: noise.
        inputs: ``img_ids``, ``txt``, ``txt_ids`` and ``y_vec`` of B prompts and then B negative prompts, as
            :func:`opensora.sampling.tokens.prepare` returns them, and ``cond`` (B, N, (C + 1) * p * p).
        option: how to sample.
        cond_type: what is given.
        patch_size: latent rows and columns of one token.
        on_step: see :func:`sample_video`.

    Raises:
        ValueError: frames are given without image guidance.
    """
    if option.guidance_img is None and option.compat == "published":
        raise TypeError("guidance_img is None, which the public code compares with a number.")
    if option.guidance_img is None and cond_type != TEXT_ONLY:
        raise ValueError(f"guidance_img is None with {cond_type}; give a number, such as 3.")
    samples = len(z)
    halves = {"full": slice(0, samples), "image": slice(samples, None), "null": slice(samples, None)}
    cond = {"full": inputs["cond"], "image": inputs["cond"], "null": torch.zeros_like(inputs["cond"])}

    def velocity(x: Tensor, step: int, t: Tensor) -> Tensor:
        guidance = option.step_guidance(step, cond_type, z.shape[2])
        every = ("full", "image", "null") if guidance.image is not None else ("full", "null")
        names = guidance.rows() if option.skip_cancelled_rows else every
        args = {key: torch.cat([inputs[key][halves[name]] for name in names]) for key in _TOLD}
        tokens = pack(x, patch_size).repeat(len(names), 1, 1)
        out = model(img=tokens, timesteps=t.expand(len(tokens)), cond=torch.cat([cond[name] for name in names]), **args)
        rows = unpack(out.to(x.dtype), (x.shape[2], x.shape[3], x.shape[4]), patch_size).chunk(len(names))
        return guidance.combine(dict(zip(names, rows, strict=True)))

    return _euler(velocity, z, _times(option, inputs, z), option.compat, on_step)


def denoise_distilled(
    model: Network,
    z: Tensor,
    inputs: Mapping[str, Tensor],
    option: SamplingOption,
    patch_size: int = 2,
    on_step: OnStep | None = None,
) -> Tensor:
    """Denoise ``z`` (B, C, T, H, W) with a network that is told the guidance; the arguments are those of
    :func:`denoise_guided`, of B prompts."""
    told = {key: inputs[key] for key in _TOLD} | {"guidance": z.new_full((len(z),), option.guidance)}

    def velocity(x: Tensor, step: int, t: Tensor) -> Tensor:
        out = model(img=pack(x, patch_size), timesteps=t.expand(len(x)), **told)
        return unpack(out.to(x.dtype), (x.shape[2], x.shape[3], x.shape[4]), patch_size)

    return _euler(velocity, z, _times(option, inputs, z), option.compat, on_step)


_TOLD = ("img_ids", "txt", "txt_ids", "y_vec")


def _times(option: SamplingOption, inputs: Mapping[str, Tensor], z: Tensor) -> Tensor:
    return option.times(inputs["img_ids"].shape[1] // z.shape[2], z.shape[2])


def _euler(
    velocity: Callable[[Tensor, int, Tensor], Tensor], z: Tensor, times: Tensor, compat: Compat, on_step: OnStep | None
) -> Tensor:
    """Follow ``velocity(x, step, t)`` from ``z`` at the first of ``times`` to the last."""
    steps = len(times) - 1
    for step, (now, after) in enumerate(zip(times.tolist(), times[1:].tolist(), strict=False)):
        t = torch.tensor([now], device=z.device, dtype=z.dtype if compat == "published" else torch.float32)
        v = velocity(z, step, t)
        estimate = z - now * v
        z = z + (after - now) * v
        if on_step is not None:
            on_step(step + 1, steps, estimate)
    return z
