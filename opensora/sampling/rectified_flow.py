"""The rectified-flow scheduler of the 1.x family: ``RFLOW.sample`` and its training loss.

Legend: B prompts, C latent channels, T latent frames, H, W rows and columns, L text tokens, E text width.
The network is any callable with STDiT3's arguments. It was trained to predict ``data - noise`` at ``1000 * t``; here a
step from t to s adds ``(t - s)`` times that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import torch
from torch import Tensor
from tqdm.auto import tqdm

from opensora.sampling.compat import Compat
from opensora.sampling.guidance import StepGuidance, image_weights, oscillating, rescale_to_conditional
from opensora.sampling.losses import TrainingLoss
from opensora.sampling.schedule import NUM_TIMESTEPS, Family, add_noise, sampling_times, shift_ratio

OnStep = Callable[[int, int, Tensor], None]


class TextEncoder(Protocol):
    """What sampling needs of a text encoder."""

    def encode(self, prompts: list[str]) -> Mapping[str, Tensor]:
        """Prompts -> ``y`` (B, 1, L, E) and ``mask`` (B, L)."""
        ...

    def null(self, n: int) -> Tensor:
        """The null text (n, 1, L, E)."""
        ...


@dataclass(frozen=True)
class Text:
    """Text of the rows of a guidance batch."""

    y: Mapping[str, Tensor]
    """Features (B, 1, L, E) of every row."""
    mask: Mapping[str, Tensor]
    """Token masks (B, L) of every row."""
    null: Tensor
    """The null text (B, 1, L, E), which given frames attend to."""


@dataclass(frozen=True)
class Given:
    """What of the video is given."""

    cond: Tensor
    """Latents of given frames, zero elsewhere (B, C, T, H, W)."""
    cond_mask: Tensor
    """1 where ``cond`` is given."""
    index: list[int]
    """Given frames."""


class RFLOW:
    """Scheduler of Open-Sora 1.3 and 1.2; the defaults are those of 1.3's text-to-video configuration without
    refinements.

    Args:
        num_sampling_steps: Euler steps.
        cfg_scale: text guidance.
        use_timestep_transform: shift times by frame size and length.
        transform_scale: extra shift of videos.
        scale_temporal: whether length counts in the shift.
        fixed_shift: shift of all sizes, instead of the one by frame size and length.
        use_discrete_timesteps: round times to whole units of 1/1000 before the shift.
        use_oscillation_guidance: text guidance is 1 on odd steps from ``force_num`` on.
        use_flaw_fix: pull the spread of guided predictions back.
        force_num: first step that may oscillate.
        scale_image_weight: image guidance falls over the steps and varies over frames.
        initial_image_scale: where image guidance falls to.
        sample_method: distribution of training times, ``uniform`` or ``logit-normal``.
        compat: ``published`` reproduces defects of the public code.
        skip_cancelled_rows: do not compute guidance rows whose weight is zero.
        family: networks of ``1.2`` were trained with another shift by length; its published guidance is 7.
    """

    def __init__(
        self,
        num_sampling_steps: int = 30,
        cfg_scale: float = 7.5,
        use_timestep_transform: bool = True,
        transform_scale: float = 1.0,
        scale_temporal: bool = True,
        use_discrete_timesteps: bool = False,
        use_oscillation_guidance: bool = False,
        use_flaw_fix: bool = False,
        force_num: int = 10,
        scale_image_weight: bool = False,
        initial_image_scale: float = 1.0,
        sample_method: str = "uniform",
        compat: Compat = "right",
        skip_cancelled_rows: bool = True,
        fixed_shift: float | None = None,
        family: Family = "1.3",
    ) -> None:
        if compat not in ("right", "published"):
            raise ValueError(f"compat is {compat!r}; choose right or published.")
        if fixed_shift is not None and not fixed_shift > 0:
            raise ValueError(f"fixed_shift is {fixed_shift}; expected a positive number, or None.")
        if family not in get_args(Family):
            raise ValueError(f"family is {family!r}; choose one of {', '.join(get_args(Family))}.")
        self.fixed_shift = fixed_shift
        self.family: Family = family
        self.num_sampling_steps, self.cfg_scale = num_sampling_steps, cfg_scale
        self.use_timestep_transform, self.use_discrete_timesteps = use_timestep_transform, use_discrete_timesteps
        self.transform_scale, self.scale_temporal = transform_scale, scale_temporal
        self.use_oscillation_guidance, self.use_flaw_fix, self.force_num = (
            use_oscillation_guidance,
            use_flaw_fix,
            force_num,
        )
        self.scale_image_weight, self.initial_image_scale = scale_image_weight, initial_image_scale
        self.compat: Compat = compat
        self.skip_cancelled_rows = skip_cancelled_rows
        self.training = TrainingLoss(
            use_timestep_transform, transform_scale, scale_temporal, sample_method, compat, family
        )
        self.training_losses = self.training.losses

    def ratio(self, additional_args: Mapping[str, Any] | None) -> Tensor | None:
        """Shift for the size in ``additional_args`` (height, width, num_frames); ``None`` without a transform."""
        if not self.use_timestep_transform:
            return None
        if self.fixed_shift is not None:
            return torch.tensor(self.fixed_shift)
        if not additional_args or not {"height", "width", "num_frames"} <= set(additional_args):
            raise ValueError("the timestep transform needs height, width and num_frames in additional_args.")
        height, width, frames = (_scalar(additional_args[k]) for k in ("height", "width", "num_frames"))
        given = additional_args["height"]
        dtype = given.dtype if self.compat == "published" and isinstance(given, Tensor) else torch.float32
        ignored = self.compat == "published" and self.family == "1.2"  # whose sampler never reads it
        scale = 1.0 if ignored else self.transform_scale
        options = (self.scale_temporal, self.compat, dtype, self.family)
        return shift_ratio(height, width, int(frames), scale, *options)

    def times(self, additional_args: Mapping[str, Any] | None) -> Tensor:
        """Times (steps + 1,) from 1 to 0."""
        times = sampling_times(self.num_sampling_steps, self.ratio(additional_args), self.use_discrete_timesteps)
        return times if self.compat == "published" else times.clamp(max=1.0)

    def step_guidance(
        self, step: int, text: float, image: float | None, frames: int, osc_text: bool, osc_image: bool
    ) -> StepGuidance:
        """Guidance of step ``step`` (from 0)."""
        text_now = oscillating(text, step, self.force_num) if osc_text else text
        if image is None:
            return StepGuidance(text_now, None)
        image_now: float | Tensor = oscillating(image, step, self.force_num) if osc_image else image
        if self.scale_image_weight and image_now != 1.0:
            image_now = image_weights(image, self.initial_image_scale, step, self.num_sampling_steps, frames)
        return StepGuidance(text_now, image_now)

    @torch.inference_mode()
    def sample(
        self,
        model: Callable[..., Tensor],
        text_encoder: TextEncoder,
        z: Tensor,
        z_cond: Tensor | None = None,
        z_cond_mask: Tensor | None = None,
        prompts: Sequence[str] = (),
        device: torch.device | str | None = None,
        additional_args: Mapping[str, Any] | None = None,
        progress: bool = True,
        mask: Tensor | None = None,
        mask_index: Sequence[int] | None = None,
        guidance_scale: float | None = None,
        image_cfg_scale: float | None = None,
        neg_prompts: Sequence[str] | None = None,
        use_sdedit: bool = False,
        use_oscillation_guidance_for_text: bool | None = None,
        use_oscillation_guidance_for_image: bool | None = None,
        *,
        on_step: OnStep | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Denoise ``z`` to latents of the same shape.

        Args:
            model: the network.
            text_encoder: encodes the prompts and gives the null text.
            z: noise (B, C, T, H, W) in float32 (the steps are taken in its dtype).
            z_cond: latents whose given frames count; with ``mask_index``.
            z_cond_mask: 1 where ``z_cond`` is given, like z.
            prompts: B texts.
            device: device of the run; that of z when ``None``.
            additional_args: height, width and num_frames in pixels and frames, fps; ``ar`` is accepted and unused.
            progress: draw a progress bar.
            mask: (B, T) in [0, 1]: frames of z with 0 are given and kept; a value m < 1 joins in at time m.
            mask_index: given latent frames; empty or ``None`` for text only.
            guidance_scale: text guidance instead of ``cfg_scale``.
            image_cfg_scale: image guidance; required with ``mask_index``.
            neg_prompts: B texts instead of the null text.
            use_sdedit: noise given frames of ``z_cond`` into z before every step.
            use_oscillation_guidance_for_text: instead of ``use_oscillation_guidance``.
            use_oscillation_guidance_for_image: image guidance oscillates too.
            on_step: called after each step with its number from 1, the number of steps and the estimate of the data
                (B, C, T, H, W); what it raises stops the run.
            generator: source of the noise that ``mask`` and ``use_sdedit`` draw.

        Raises:
            ValueError: arguments that do not belong together.
        """
        place = torch.device(device) if device is not None else z.device
        z = z.to(place)
        given = self._given(z, z_cond, z_cond_mask, mask_index, image_cfg_scale, mask)
        text = self._text(text_encoder, list(prompts), neg_prompts, place)
        scale = self.cfg_scale if guidance_scale is None else guidance_scale
        osc_text = _first(use_oscillation_guidance_for_text, self.use_oscillation_guidance)
        osc_image = bool(use_oscillation_guidance_for_image)
        times = self.times(additional_args)
        size = {k: torch.tensor([_scalar(v)], device=place) for k, v in (additional_args or {}).items() if k in SIZES}
        noised = None if mask is None else mask.to(place) == 1
        steps = range(len(times) - 1)
        for i in tqdm(steps, disable=not progress, leave=False):
            now, after = float(times[i]), float(times[i + 1])
            guidance = self.step_guidance(i, scale, image_cfg_scale if given else None, z.shape[2], osc_text, osc_image)
            kept, x_mask = z, None
            if mask is not None and noised is not None:
                z, noised = self._join(z, mask.to(place), noised, now, generator)
                x_mask = noised
            if given is not None and use_sdedit:
                z = self._noise_given(z, given, now, generator)
            velocity = self._velocity(model, z, now, text, given, guidance, x_mask, size)
            estimate = z + now * velocity
            z = z + (now - after) * velocity
            if x_mask is not None:
                z = torch.where(x_mask[:, None, :, None, None], z, kept)
            if on_step is not None:
                on_step(i + 1, len(steps), estimate)
        return z

    def _given(
        self,
        z: Tensor,
        z_cond: Tensor | None,
        z_cond_mask: Tensor | None,
        mask_index: Sequence[int] | None,
        image_cfg_scale: float | None,
        mask: Tensor | None,
    ) -> Given | None:
        if not mask_index:
            return None
        if z_cond is None or z_cond_mask is None or image_cfg_scale is None:
            raise ValueError("mask_index needs z_cond, z_cond_mask and image_cfg_scale; give all of them.")
        if mask is not None:
            raise ValueError("mask and mask_index are two ways to give frames; use one of them.")
        return Given(z_cond.to(z) * z_cond_mask.to(z), z_cond_mask.to(z), list(mask_index))

    def _text(
        self,
        encoder: TextEncoder,
        prompts: list[str],
        neg_prompts: Sequence[str] | None,
        device: torch.device,
    ) -> Text:
        encoded = encoder.encode(prompts)
        y, tokens = encoded["y"].to(device), encoded["mask"].to(device)
        null = encoder.null(len(prompts)).to(y)
        other, other_tokens = null, tokens
        if neg_prompts is not None:
            negative = encoder.encode(list(neg_prompts))
            other, other_tokens = negative["y"].to(y), negative["mask"].to(device)
        return Text(
            {"full": y, "image": other, "null": other},
            {"full": tokens, "image": other_tokens, "null": other_tokens},
            null,
        )

    def _join(
        self, z: Tensor, mask: Tensor, noised: Tensor, now: float, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Noise frames whose time has come to join; returns z and which frames (B, T) move."""
        moving = mask * NUM_TIMESTEPS >= now * NUM_TIMESTEPS
        if self.compat == "right" and not bool((moving & ~noised).any()):
            return z, moving
        noisy = add_noise(z, _randn_like(z, generator), torch.tensor([now], device=z.device))
        return torch.where((moving & ~noised)[:, None, :, None, None], noisy, z), moving

    def _noise_given(self, z: Tensor, given: Given, now: float, generator: torch.Generator | None) -> Tensor:
        noisy = add_noise(given.cond, _randn_like(z, generator), torch.tensor([now], device=z.device))
        z = z.clone()
        z[:, :, given.index] = noisy[:, :, given.index]
        return z

    def _velocity(
        self,
        model: Callable[..., Tensor],
        z: Tensor,
        now: float,
        text: Text,
        given: Given | None,
        guidance: StepGuidance,
        x_mask: Tensor | None,
        size: Mapping[str, Tensor],
    ) -> Tensor:
        """Guided velocity (B, C, T, H, W) from one call with the rows that count."""
        every = ("full", "null") if given is None else ("full", "image", "null")
        names = guidance.rows() if self.skip_cancelled_rows else every
        rows = len(names)
        args: dict[str, Any] = {"mask": torch.cat([text.mask[name] for name in names]), **size}
        if x_mask is not None:
            args["x_mask"] = x_mask.repeat(rows, 1)
        if given is not None:
            zero = torch.zeros_like(given.cond)
            args["cond"] = torch.cat([zero if name == "null" else given.cond for name in names])
            args["cond_mask"] = torch.cat([given.cond_mask] * rows)
            args["mask_index"] = given.index
            args["y_null"] = torch.cat([text.null] * rows)
        timestep = torch.full((rows * z.shape[0],), now * NUM_TIMESTEPS, device=z.device)
        out = model(torch.cat([z] * rows), timestep, torch.cat([text.y[name] for name in names]), **args)
        velocity = dict(zip(names, out[:, : z.shape[1]].to(z.dtype).chunk(rows), strict=True))
        guided = guidance.combine(velocity)
        if self.use_flaw_fix and len(names) > 1 and (given is None or self.compat == "right"):
            guided = rescale_to_conditional(guided, velocity["full"])
        return guided


SIZES = ("height", "width", "fps")


def _scalar(value: Any) -> float:
    return float(value.flatten()[0]) if isinstance(value, Tensor) else float(value)


def _first(value: bool | None, otherwise: bool) -> bool:
    return otherwise if value is None else value


def _randn_like(z: Tensor, generator: torch.Generator | None) -> Tensor:
    device = z.device if generator is None else generator.device
    return torch.randn(z.shape, generator=generator, device=device, dtype=torch.float32).to(z)
