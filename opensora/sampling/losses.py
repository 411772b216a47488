"""The training loss of the 1.x family: the squared error of the velocity ``data - noise``.

Legend: B samples, C channels, T latent frames, H, W rows and columns.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from opensora.sampling.compat import Compat
from opensora.sampling.schedule import NUM_TIMESTEPS, Family, add_noise, shift_ratio, training_times

DROPS = ("keep", "text", "cond", "null")
"""What of an image-conditioned batch is dropped: nothing, the image, the text, or both (the published names)."""


class TrainingLoss:
    """Draws times and noise and measures the velocity error."""

    def __init__(
        self,
        transform: bool,
        transform_scale: float,
        scale_temporal: bool,
        sample_method: str,
        compat: Compat,
        family: Family = "1.3",
    ) -> None:
        self.transform, self.transform_scale, self.scale_temporal = transform, transform_scale, scale_temporal
        self.sample_method: str = sample_method
        self.compat: Compat = compat
        self.family: Family = family

    def times(self, batch: int, size: Mapping[str, Any], generator: torch.Generator | None, device: Any) -> Tensor:
        """Random times (batch,) in [0, 1] for clips of ``size`` (height, width, num_frames)."""
        ratio = None
        if self.transform:
            height, width, frames = (float(torch.as_tensor(size[k]).flatten()[0]) for k in SIZE)
            # the public code of 1.3 passes 1 instead of transform_scale to its training scheduler
            ignored = self.compat == "published" and self.family == "1.3"
            scale = 1.0 if ignored else self.transform_scale
            size_of = (height, width, int(frames), scale, self.scale_temporal, self.compat)
            ratio = shift_ratio(*size_of, family=self.family)
        return training_times(batch, ratio, self.sample_method, generator, torch.device(device))

    def losses(
        self,
        model: Callable[..., Tensor],
        x_start: Tensor,
        model_kwargs: Mapping[str, Any],
        t: Tensor | None = None,
        noise: Tensor | None = None,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
        mask_index: Sequence[int] | None = None,
        drop: str = "keep",
        y_null: Tensor | None = None,
        x_noisy_ref: Tensor | None = None,
        x_cond_weight: float | None = None,
        x_gt: Tensor | None = None,
        noise_disable_threshold: float | None = None,
        position_weights: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Loss (B,) of a batch.

        Args:
            model: the network, with STDiT3's arguments.
            x_start: data (B, C, T, H, W).
            model_kwargs: y, mask, fps, height, width and num_frames.
            t: times in units of 1/1000 (B,); drawn when ``None``.
            noise: like ``x_start``; drawn when ``None``.
            mask: (B, T) bool; False frames are given: they enter at time 0 and do not count.
            weights: (1000,) weight of each whole timestep.
            mask_index: latent frames given as image condition. ``None`` for text only.
            drop: one of ``keep``, ``text``, ``cond``, ``null``.
            y_null: null text (B, 1, L, E); required with ``mask_index``.
            x_noisy_ref: given frames as the network sees them, where they differ from the data.
            x_cond_weight: weight of given frames in the loss; the others count so much more that the sum stays.
                ``None`` counts all frames alike.
            x_gt: clean data that the network should reach where ``x_start`` is degraded.
            noise_disable_threshold: samples above this time start from ``x_gt`` instead of ``x_start``.
            position_weights: weight of each position's error, broadcast to (B, C, T, H, W); ``None`` counts all alike.
            generator: source of times and noise.

        Raises:
            ValueError: an unknown ``drop``, or ``mask_index`` without ``y_null``.
        """
        args = {k: v for k, v in model_kwargs.items() if k != "num_frames"}
        if t is None:
            t = self.times(len(x_start), model_kwargs, generator, x_start.device) * NUM_TIMESTEPS
        if noise is None:
            noise = torch.randn(x_start.shape, generator=generator, device=x_start.device, dtype=x_start.dtype)
        target = x_start if x_gt is None else x_gt
        if x_gt is not None and noise_disable_threshold is not None:
            late = (t > noise_disable_threshold).reshape(-1, *(1,) * (x_start.ndim - 1))
            x_start = torch.where(late, x_gt, x_start)
        x_t = add_noise(x_start, noise, t / NUM_TIMESTEPS)
        if mask is not None:
            x_t = torch.where(mask[:, None, :, None, None], x_t, x_start)
            args["x_mask"] = mask
        if mask_index is not None:
            args |= self._given(x_start, list(mask_index), args, drop, y_null, x_noisy_ref)
        velocity = model(x_t, t, **args)[:, : x_start.shape[1]]
        error = (velocity - (target - noise)).square()
        if position_weights is not None:
            error = error * position_weights
        return self._mean(error, t, mask, weights, mask_index, x_cond_weight)

    def _given(
        self,
        x_start: Tensor,
        index: list[int],
        args: Mapping[str, Any],
        drop: str,
        y_null: Tensor | None,
        x_noisy_ref: Tensor | None,
    ) -> dict[str, Any]:
        """Arguments that tell the network which frames are given."""
        if drop not in DROPS:
            raise ValueError(f"drop is {drop!r}; choose one of {', '.join(DROPS)}.")
        if y_null is None:
            raise ValueError("mask_index needs y_null, the features of the null text.")
        source = x_start if x_noisy_ref is None else x_noisy_ref
        cond, cond_mask = torch.zeros_like(x_start), torch.zeros_like(x_start)
        if drop in ("keep", "cond"):
            cond[:, :, index] = source[:, :, index]
        cond_mask[:, :, index] = 1
        text = y_null if drop in ("cond", "null") else args["y"]
        return {"cond": cond, "cond_mask": cond_mask, "mask_index": index, "y_null": y_null, "y": text}

    def _mean(
        self,
        error: Tensor,
        t: Tensor,
        mask: Tensor | None,
        weights: Tensor | None,
        mask_index: Sequence[int] | None,
        x_cond_weight: float | None,
    ) -> Tensor:
        if mask is not None:
            kept = mask[:, None, :, None, None].to(error).expand_as(error)
            loss = (error * kept).flatten(1).sum(1) / kept.flatten(1).sum(1)
        elif mask_index and x_cond_weight is not None:
            frames, given = error.shape[2], len(set(mask_index))
            weight = error.new_full((frames,), (frames - given * x_cond_weight) / max(1, frames - given))
            weight[list(mask_index)] = x_cond_weight
            loss = (error * weight[None, None, :, None, None]).flatten(1).mean(1)
        else:
            loss = error.flatten(1).mean(1)
        return loss if weights is None else loss * weights.to(loss)[t.long().clamp(max=len(weights) - 1)]


SIZE = ("height", "width", "num_frames")
