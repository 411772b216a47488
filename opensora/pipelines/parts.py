"""How a clip longer than the network's own is made: in parts, each continuing the last frames of the one before."""

from collections.abc import Sequence
from dataclasses import dataclass

CONDITION_FRAMES = 17
"""Frames at the end of a part that the next one starts from: one window of the autoencoder, 5 latent frames."""


@dataclass(frozen=True)
class Part:
    """One run of the denoiser."""

    frames: int
    """Length of the run: one of the network's own, or 1."""
    condition: int
    """Frames at its start that are given by the part before; 0 for the first."""
    kept: int
    """Frames of the clip that come from it."""


def plan_parts(frames: int, loops: int, own: Sequence[int]) -> list[Part]:
    """Parts of a clip.

    With one loop the clip has exactly ``frames`` frames, in as many parts as that needs. With several, the first part
    has at least ``frames`` and each further one adds about as many again, as far as the network's longest allows.

    Args:
        frames: length asked for, at least 1.
        loops: parts asked for, at least 1.
        own: lengths that the network knows besides 1, each 16k+1 so that parts join at windows of the autoencoder.
    """
    lengths, longest = sorted(own), max(own)
    if frames == 1:
        return [Part(1, 0, 1)]
    first = _at_least(frames, lengths)
    if loops == 1 and frames <= longest:
        return [Part(first, 0, frames)]
    if loops > 1:
        more = _at_least(min(frames + CONDITION_FRAMES - 1, longest), lengths)
        added = Part(more, CONDITION_FRAMES, more - CONDITION_FRAMES)
        return [Part(first, 0, first)] + [added] * (loops - 1)
    parts, missing = [Part(first, 0, first)], frames - first
    while missing > 0:
        length = _at_least(min(missing + CONDITION_FRAMES, longest), lengths)
        kept = min(missing, length - CONDITION_FRAMES)
        parts.append(Part(length, CONDITION_FRAMES, kept))
        missing -= kept
    return parts


def _at_least(frames: int, lengths: Sequence[int]) -> int:
    """The shortest length of at least ``frames``, or the longest."""
    return next((length for length in lengths if length >= frames), lengths[-1])
