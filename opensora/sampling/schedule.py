"""Times of the rectified flow (Liu et al. 2022) as Open-Sora 1.2, 1.3 and 2.0 use it.

Time t runs from 1 (noise) to 0 (data); ``x_t = (1 - t) * data + t * noise``. Networks of the 1.x family take 1000 t.
"""

from typing import Literal

import torch
from torch import Tensor

from opensora.sampling.compat import Compat

BASE_AREA = 512 * 512
"""Pixels of the frame for which a single image is not shifted."""
NUM_TIMESTEPS = 1000
"""Networks of the 1.x family take times in units of 1/1000."""

Family = Literal["1.3", "1.2"]
"""Which networks a schedule is for: they were trained with other shifts of long clips."""


def shift_ratio(
    height: float,
    width: float,
    num_frames: int,
    scale: float = 1.0,
    scale_temporal: bool = True,
    compat: Compat = "right",
    dtype: torch.dtype = torch.float32,
    family: Family = "1.3",
) -> Tensor:
    """How much larger the odds of noise are than those of a 512x512 image, a scalar tensor of ``dtype``.

    Larger frames and longer clips hold more redundant signal, so that their times are shifted towards noise
    (Esser et al. 2024): the roots of the area and of the latent length ``(num_frames - 1) // 4`` or, of 1.2,
    ``num_frames // 17 * 5``. ``scale`` applies to videos only; of 1.2 to images, too.
    Published code gets 0 for 2 to 4 frames (of 1.2, to 16) and hence NaN; here they count as one.
    It also computes in the dtype of the sizes it is given, which its scripts make bfloat16.
    """
    space = (torch.tensor(height, dtype=dtype) * torch.tensor(width, dtype=dtype) / BASE_AREA).sqrt()
    if num_frames == 1 or not scale_temporal:
        return space * scale if family == "1.2" else space
    frames = torch.tensor(num_frames, dtype=dtype)
    length = frames // 17 * 5 if family == "1.2" else (frames - 1) // 4
    return space * (length if compat == "published" else length.clamp(min=1)).sqrt() * scale


def frame_shift(tokens_per_frame: int, latent_frames: int) -> float:
    """How much larger the odds of noise are than those of a picture of 256 tokens, for networks of generation 2.0.

    It is linear in the tokens of a frame, 1 at 256 and 3 at 4096 as in FLUX.1, times the root of the latent length.
    """
    return (1.0 + 2.0 * (tokens_per_frame - 256) / (4096 - 256)) * latent_frames**0.5


def shift_time(t: Tensor, ratio: Tensor) -> Tensor:
    """Shift times in [0, 1]: ``ratio * t / (1 + (ratio - 1) * t)``; 0 and 1 stay."""
    factor, excess = (value.to(t) for value in (ratio, ratio - 1))
    return factor * t / (1 + excess * t)


def sampling_times(num_steps: int, ratio: Tensor | None = None, discrete: bool = False) -> Tensor:
    """Times (num_steps + 1,) of a sampling run in float32, from 1 down to 0.

    Args:
        num_steps: Euler steps, at least 1.
        ratio: shift of the schedule; ``None`` leaves it uniform.
        discrete: round the times before the shift to whole units of 1/1000.
    """
    if num_steps < 1:
        raise ValueError(f"sampling needs at least 1 step, got {num_steps}.")
    units = torch.tensor([(1.0 - i / num_steps) * NUM_TIMESTEPS for i in range(num_steps)])
    if discrete:
        units = units.round()
    times = units / NUM_TIMESTEPS
    if ratio is not None:
        times = shift_time(times, ratio)
    return torch.cat([times, times.new_zeros(1)])


def add_noise(data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """``(1 - t) * data + t * noise`` for times t (B,) or () in [0, 1] and tensors (B, ...)."""
    t = t.to(data.dtype).reshape(-1, *(1,) * (data.ndim - 1))
    return (1 - t) * data + t * noise


def training_times(
    batch: int, ratio: Tensor | None, method: str, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Random times (batch,) in [0, 1] of a training batch.

    Args:
        ratio: shift, as in sampling; ``None`` for none.
        method: ``uniform``, or ``logit-normal`` (the sigmoid of a standard normal, Esser et al. 2024).
    """
    if method == "uniform":
        t = torch.rand(batch, generator=generator, device=device)
    elif method == "logit-normal":
        t = torch.randn(batch, generator=generator, device=device).sigmoid()
    else:
        raise ValueError(f"unknown sample_method {method!r}; choose uniform or logit-normal.")
    return t if ratio is None else shift_time(t, ratio)
