"""Frames that a 2.0 video is given: how much of a reference is needed, where it goes, and what stays of it.

Legend: B samples, C latent channels, T, H, W latent frames, rows and columns. A reference is (C, T, H, W).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from opensora.sampling.compat import Compat
from opensora.sampling.conditions import COND_TYPES

TEXT_ONLY = "t2v"
"""The condition type that gives nothing."""
CLIP_FRAMES, EASY_CLIP_FRAMES = 8, 16
"""Latent frames of a clip that ``v2v`` and ``easy`` types give; one more with a causal autoencoder."""

References = Sequence[Sequence[Tensor] | None]
"""For every sample its references (C, T, H, W)."""


def check_cond_type(cond_type: str) -> None:
    """Raise ValueError unless ``cond_type`` is ``t2v`` or one of :data:`COND_TYPES`."""
    if cond_type not in (TEXT_ONLY, *COND_TYPES):
        raise ValueError(f"cond_type is {cond_type!r}; choose one of {', '.join((TEXT_ONLY, *COND_TYPES))}.")


def clip_latents(cond_type: str, causal: bool) -> int:
    """Latent frames that a reference gives at the beginning or the end of the video."""
    if cond_type.startswith("v2v"):
        return (EASY_CLIP_FRAMES if cond_type.endswith("_easy") else CLIP_FRAMES) + causal
    return 1


def reference_frames(cond_type: str, causal: bool = True, reduction: int = 4) -> int:
    """Frames that a reference of ``cond_type`` needs: 1 for ``i2v``; 33, or 65 for ``easy``, for ``v2v``.

    Args:
        cond_type: one of :data:`COND_TYPES`.
        causal: whether the autoencoder's first frame has a latent frame of its own (otherwise 32 and 64).
        reduction: frames of one latent frame.
    """
    latents = clip_latents(cond_type, causal)
    return (latents - 1) * reduction + 1 if causal or latents == 1 else latents * reduction


def cut_reference(
    clip: Tensor, cond_type: str, second: bool = False, causal: bool = True, compat: Compat = "right"
) -> Tensor:
    """The frames of a reference that are to be encoded.

    Args:
        clip: pixels (3, frames, height, width).
        cond_type: one of :data:`COND_TYPES`.
        second: whether it is the second reference of its sample, the end of an ``i2v_loop``.
        causal: see :func:`reference_frames`.
        compat: ``published`` cuts clips of less than 64 frames to 33 for ``easy`` types too, which then fails.

    Returns:
        (3, frames needed, height, width), from the beginning of the clip or, for ends of the video, from its end.

    Raises:
        ValueError: the clip is shorter.
    """
    check_cond_type(cond_type)
    needed = reference_frames(cond_type, causal)
    if compat == "published" and clip.shape[1] < 64:
        needed = reference_frames(cond_type.removesuffix("_easy"), causal)
    if clip.shape[1] < needed:
        raise ValueError(f"a reference of {cond_type} needs at least {needed} frames; this one has {clip.shape[1]}.")
    return clip[:, -needed:] if second or "_tail" in cond_type else clip[:, :needed]


def prepare_condition(
    z: Tensor, cond_type: str, references: References, causal: bool = True, compat: Compat = "right"
) -> tuple[Tensor, Tensor]:
    """Where latents are given and which.

    Args:
        z: latents to be made (B, C, T, H, W); only their shape, dtype and device count.
        cond_type: ``t2v`` or one of :data:`COND_TYPES`.
        references: of every sample. The first is the beginning, or of ``_tail`` types the end; an ``i2v_loop`` ends
            with the last frame of the last.
        causal: see :func:`reference_frames`.
        compat: ``published`` gives nothing where a reference is missing or the video has one latent frame.

    Returns:
        Mask (B, 1, T, H, W), 1 where latents are given, and latents (B, C, T, H, W), zero elsewhere.

    Raises:
        ValueError: an unknown type, a missing, too short or superfluous reference, or a video of which nothing is left
            to make.
    """
    check_cond_type(cond_type)
    if compat == "right" and cond_type == TEXT_ONLY and any(references):
        raise ValueError(f"references are given with {TEXT_ONLY}; choose one of {', '.join(COND_TYPES)}.")
    masks, given = z.new_zeros(len(z), 1, *z.shape[2:]), torch.zeros_like(z)
    if cond_type == TEXT_ONLY or (compat == "published" and z.shape[2] == 1):
        return masks, given
    count = clip_latents(cond_type, causal)
    if compat == "right":
        _check_references(z, cond_type, references, causal)
    for mask, latents, own in zip(masks, given, references, strict=True):
        if not own:
            continue
        first, last = own[0].to(z), own[-1].to(z)
        if not cond_type.endswith(("_tail", "_tail_easy")):
            mask[:, :count], latents[:, :count] = 1, first[:, :count]
        if cond_type.startswith(("i2v_tail", "v2v_tail", "i2v_loop")):
            end = last if cond_type == "i2v_loop" else first
            mask[:, -count:], latents[:, -count:] = 1, end[:, -count:]
    return masks, given


def _check_references(z: Tensor, cond_type: str, references: References, causal: bool) -> None:
    count, frames = clip_latents(cond_type, causal), z.shape[2]
    lengths = [[reference.shape[1] for reference in own or ()] for own in references]
    if len(references) != len(z) or any(not own or min(own) < count for own in lengths):
        raise ValueError(
            f"{cond_type} needs for each of {len(z)} samples a reference of {count} latent frames, which is "
            f"{reference_frames(cond_type, causal)} frames of video; got latent frames {lengths}."
        )
    taken = count * (2 if cond_type == "i2v_loop" else 1)
    if taken >= frames:
        raise ValueError(
            f"{cond_type} gives {taken} latent frames, and the video has {frames}: nothing is left to make. Ask for a "
            "longer video."
        )


def write_back(x: Tensor, cond_type: str, references: References, compat: Compat = "right") -> Tensor:
    """The latents ``x`` (B, C, T, H, W) with the given first and last frames in place of the network's own.

    Clips (``v2v``) are left as the network made them. ``published`` does it for the first sample alone.
    """
    if not cond_type.startswith("i2v"):
        return x
    x = x.clone()
    rows = 1 if compat == "published" else len(x)
    for sample, own in list(zip(x, references, strict=True))[:rows]:
        if own and cond_type in ("i2v_head", "i2v_loop"):
            sample[:, :1] = own[0][:, :1].to(x)
        if own and cond_type in ("i2v_tail", "i2v_loop"):
            sample[:, -1:] = own[-1][:, -1:].to(x)
    return x


def trim_decoded(x: Tensor, num_frames: int, cond_type: str, causal: bool = True, reduction: int = 4) -> Tensor:
    """The frames of a decoded video (B, C, frames, height, width) that were asked for.

    An autoencoder that is not causal decodes a given image to ``reduction`` frames, of which one is kept; then what
    exceeds ``num_frames`` is cut off.
    """
    if not causal:
        first = reduction - 1 if cond_type in ("i2v_head", "i2v_loop") else 0
        last = reduction - 1 if cond_type in ("i2v_tail", "i2v_loop") else 0
        x = x[:, :, first : x.shape[2] - last]
    return x[:, :, :num_frames]
