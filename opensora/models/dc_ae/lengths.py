"""How many latent frames a clip has, and what happens to lengths that do not fill them.

One latent frame stands for a picture: it decodes to one frame, while n > 1 decode to 4 n. The public code takes 1, 2
and multiples of 4 frames only, and of 2 or 4 makes one latent frame, from which one frame comes back. Here every clip
of several frames is filled up to 8 or the next multiple of 4 by repeating its last frame, so that at least as many
frames come back.
"""

from opensora.models.dc_ae.config import DCAEConfig


def latent_frames(frames: int, config: DCAEConfig) -> int:
    """Latent frames of a clip of `frames` frames.

    Raises:
        ValueError: with compat="published", a length that the public code refuses.
    """
    ratio = config.patch_size[0]
    if frames == 1:
        return 1
    if config.compat == "right":
        return max(-(-frames // ratio), 2)
    latents = frames
    for _ in range(sum(config.temporal_downsample)):
        if latents > 1 and latents % 2:
            raise ValueError(f'Got {frames} frames; with compat="published" expected 1, 2 or a multiple of {ratio}.')
        latents = max(latents // 2, 1)
    return latents


def frames_to_encode(frames: int, config: DCAEConfig) -> int:
    """Frames of a clip of `frames` frames once it is filled up."""
    if frames == 1 or config.compat == "published":
        return frames
    return latent_frames(frames, config) * config.patch_size[0]
