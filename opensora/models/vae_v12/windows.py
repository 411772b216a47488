"""Windows in time: clips longer than `micro_frame_size` frames are coded in pieces that know nothing of each other.

Four frames make one latent frame, and a window whose frames do not fill its latents is filled up with zeros in front:
of 17 frames the first alone makes a latent frame, of 20 in windows of 17 there are 5 + 1 latent frames.
"""

from opensora.models.vae_v12.config import VAEv12Config

Range = tuple[int, int]


def cut(length: int, size: int | None) -> list[Range]:
    """``[start, stop)`` of pieces of `size`; the last one may be shorter. One piece without a size."""
    size = size or length
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def frame_windows(frames: int, config: VAEv12Config) -> list[Range]:
    """Frames ``[start, stop)`` of each window of a clip."""
    return cut(frames, config.micro_frame_size)


def latent_windows(latents: int, config: VAEv12Config) -> list[Range]:
    """Latent frames ``[start, stop)`` of each window of a clip."""
    size = config.micro_frame_size
    return cut(latents, None if size is None else -(-size // config.temporal.patch_size))


def latent_frames(frames: int, config: VAEv12Config) -> int:
    """Latent frames of a clip of `frames` frames."""
    return sum(-(-(stop - start) // config.temporal.patch_size) for start, stop in frame_windows(frames, config))


def decoded_frames(latents: int, num_frames: int | None, config: VAEv12Config) -> list[int]:
    """How many frames each window of a clip of `latents` latent frames decodes to.

    They are those of a clip of `num_frames` frames if that has as many latent frames. Without a number, or if the clip
    was longer, whole windows have their size, and in a shorter last one the first latent frame stands for one frame.

    Raises:
        ValueError: the latents hold fewer frames, or none are asked for.
    """
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"Asked for {num_frames} frames; expected at least 1.")
    if num_frames is not None and latent_frames(num_frames, config) == latents:
        return [stop - start for start, stop in frame_windows(num_frames, config)]
    *whole, last = latent_windows(latents, config)
    most = 1 + (last[1] - last[0] - 1) * config.temporal.patch_size
    size = config.micro_frame_size or most
    counts = [size] * len(whole) + [size if latent_frames(size, config) == last[1] - last[0] else most]
    if num_frames is not None and latent_frames(num_frames, config) > latents:
        raise ValueError(f"Asked for {num_frames} frames, but {latents} latent frames are those of {sum(counts)}.")
    return counts
