"""Frames given by a mask: the small language in which 1.x says which frames of which reference go where.

A strategy is a list of entries with ``;`` between them, each up to six numbers with ``,`` between them: loop,
reference, first frame of the reference, first frame of the clip, number of frames, and the time in [0, 1] from which
on the frames take part in the denoising (0: kept as they are). Frames are latent frames and may count from the end.

Legend: B samples, C channels, T latent frames, H, W rows and columns.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Entry(NamedTuple):
    """Frames of one reference and where they go."""

    loop: int = 0
    """The clip, of those that follow each other, to which this applies."""
    reference: int = 0
    """Which reference."""
    reference_start: int = 0
    """Its first frame; negative from the end."""
    target_start: int = 0
    """First frame of the clip; negative from the end."""
    length: int = 1
    """Frames, at most."""
    join: float = 0.0
    """Time from which on they are denoised with the rest; 0 keeps them."""


def parse_mask_strategy(strategy: str | None) -> list[Entry]:
    """Entries of a strategy; what an entry leaves out at its end is 0, and the length 1.

    Raises:
        ValueError: an entry that is not one to six numbers.
    """
    return [_entry(text) for text in strategy.split(";")] if strategy else []


def _entry(text: str) -> Entry:
    values = text.split(",")
    try:
        if len(values) > len(Entry._fields):
            raise ValueError
        return Entry(*map(int, values[:5]), *map(float, values[5:]))
    except ValueError:
        raise ValueError(
            f"{text!r} is no entry of a mask strategy; write one to six numbers: loop, reference, first frame of the "
            "reference, first frame of the clip, length, and the time from 0 to 1 from which it is denoised."
        ) from None


def find_nearest_point(value: int, point: int, max_value: int) -> int:
    """The multiple of ``point`` nearest to ``value`` that leaves a whole ``point`` below ``max_value``; halves go down,
    and what is behind the last such multiple goes down too."""
    times, rest = divmod(value, point)
    return (times + (2 * rest > point and times < max_value // point - 1)) * point


def apply_mask_strategy(
    z: Tensor, refs: Sequence[Sequence[Tensor]], strategies: Sequence[str | None], loop: int, align: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Put references into the noise of one loop. (The public code writes into ``z``; here it is left alone.)

    Args:
        z: noise (B, C, T, H, W).
        refs: latents (C, T, H, W) of every sample's references.
        strategies: of every sample; an empty list if nothing is given.
        loop: entries of other loops are passed over.
        align: starts are moved to a multiple of it: latent frames that the autoencoder codes together.

    Returns:
        z with the references in place, and the mask (B, T) for ``RFLOW.sample``, ``None`` for an empty list.

    Raises:
        ValueError: a strategy that cannot be read, or names a reference that is not there.
    """
    if not strategies:
        return z, None
    z, mask = z.clone(), torch.ones(len(strategies), z.shape[2], device=z.device)
    for i, strategy in enumerate(strategies):
        for entry in parse_mask_strategy(strategy):
            if entry.loop == loop:
                _place(z[i], mask[i], refs[i], entry, align)
    return z, mask


def _place(z: Tensor, mask: Tensor, refs: Sequence[Tensor], entry: Entry, align: int | None) -> None:
    """Write one entry into a sample (C, T, H, W) and its mask (T,)."""
    if not 0 <= entry.reference < len(refs):
        raise ValueError(f"a mask strategy names reference {entry.reference}, but there are {len(refs)}.")
    ref = refs[entry.reference]
    source = entry.reference_start + (ref.shape[1] if entry.reference_start < 0 else 0)
    target = entry.target_start + (z.shape[1] if entry.target_start < 0 else 0)
    if align is not None:
        source = find_nearest_point(source, align, ref.shape[1])
        target = find_nearest_point(target, align, z.shape[1])
    length = max(0, min(entry.length, z.shape[1] - target, ref.shape[1] - source))
    z[:, target : target + length] = ref[:, source : source + length].to(z)
    mask[target : target + length] = entry.join


def append_generated(
    latents: Tensor,
    refs: Sequence[Sequence[Tensor] | None],
    strategies: Sequence[str | None],
    loop: int,
    condition_frame_length: int,
    condition_frame_edit: float,
) -> tuple[list[list[Tensor]], list[str]]:
    """References and strategies for ``loop`` so that it goes on from the clip before it.

    Args:
        latents: of that clip (B, C, T, H, W).
        refs: of every sample; ``None`` for none.
        strategies: of every sample; ``None`` for none.
        loop: the loop that is to be conditioned.
        condition_frame_length: last frames of ``latents`` that become its first.
        condition_frame_edit: the time from which on they are denoised, 0 to keep them.

    Returns:
        Both with the clip and one entry more; what was given is left alone.
    """
    longer = [[*(given or ()), clip] for given, clip in zip(refs, latents, strict=True)]
    entry = f"{loop},{{}},-{condition_frame_length},0,{condition_frame_length},{condition_frame_edit}"
    added = [
        ";".join(filter(None, (strategy, entry.format(len(given) - 1))))
        for strategy, given in zip(strategies, longer, strict=True)
    ]
    return longer, added
