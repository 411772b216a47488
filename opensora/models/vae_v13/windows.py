"""Windows in time: which frames are encoded together, and how decoded windows are joined.

Clips longer than `micro_frame_size` frames are coded in windows that know nothing of each other. With overlap a
window starts on the last frame of the one before it; that frame decodes twice and becomes the mean of both.

The published code drops what is left over: of 40 frames (17 + 16 + 7 new ones) it makes 12 latent frames, which decode
to 37. Here the last window is filled up to 1 + a multiple of 4 frames by repeating its last one, so that
:func:`latent_frames` says how many latent frames there are, and decoding gives back at least as many frames as went in.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from opensora.models.vae_v13.config import VAEv13Config

Range = tuple[int, int]


def windowed(config: VAEv13Config) -> bool:
    """Whether long clips are cut into windows."""
    if config.compat == "published" and config.micro_batch_size is None:
        return False  # the published code then ignores micro_frame_size
    return config.micro_frame_size is not None


def frame_windows(frames: int, config: VAEv13Config) -> list[Range]:
    """Frames ``[start, stop)`` of each window of a clip."""
    if not windowed(config) or config.micro_frame_size is None:
        return [(0, frames)]
    size, shared = config.micro_frame_size, int(config.temporal_overlap)
    starts = range(0, max(frames - shared, 1), size - shared)
    return [(start, min(start + size, frames)) for start in starts]


def latent_windows(latents: int, config: VAEv13Config) -> list[Range]:
    """Latent frames ``[start, stop)`` of each window of a clip."""
    if not windowed(config) or config.micro_frame_size is None:
        return [(0, latents)]
    size = -(-config.micro_frame_size // config.patch_size[0])
    return [(start, min(start + size, latents)) for start in range(0, latents, size)]


def latent_frames(frames: int, config: VAEv13Config) -> int:
    """Latent frames of a clip of `frames` frames."""
    time = config.patch_size[0]
    if config.compat == "published":
        return _published_latent_frames(frames, config)
    return sum(1 + -(-(stop - start - 1) // time) for start, stop in frame_windows(frames, config))


def _published_latent_frames(frames: int, config: VAEv13Config) -> int:
    """What the published code reports, whatever its encoder makes: whole windows only, asked for or not."""
    time, size = config.patch_size[0], config.micro_frame_size
    if size is None or frames == 1:
        return -(-frames // time)
    shared = int(config.temporal_overlap)
    return (frames - shared) // (size - shared) * -(-size // time)


def fill_up(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last frame of (B, C, T, H, W) until T is 1 + a multiple of `multiple`."""
    missing = -(x.shape[2] - 1) % multiple
    return torch.cat([x, x[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2) if missing else x


def join_windows(clips: Iterable[Tensor], overlap: bool) -> Tensor:
    """Decoded windows (B, 3, t, H, W), one behind the other; with `overlap` a frame of two windows is their mean."""
    parts: list[Tensor] = []
    for clip in clips:
        if parts and overlap:
            before = parts.pop()
            shared = (before[:, :, -1:] + clip[:, :, :1]) * 0.5
            parts += [before[:, :, :-1], shared, clip[:, :, 1:]]
        else:
            parts.append(clip)
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
