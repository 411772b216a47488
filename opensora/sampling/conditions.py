"""Given frames: references encoded to latents, where they go in a clip, and how one clip continues another.

Legend: B samples, C latent channels, T, H, W latent frames, rows and columns. A reference is (C, T, H, W).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from opensora.sampling.compat import Compat

COND_TYPES = ("i2v_head", "i2v_loop", "i2v_tail", "v2v_head", "v2v_tail", "v2v_head_easy", "v2v_tail_easy")
"""What is given: the first frame, both ends, the last frame, or a clip's beginning or end; ``easy`` gives twice as much
of the clip."""

Reader = Callable[[str, tuple[int, int]], Tensor]
"""Reads a file as pixels (3, T, height, width) in [-1, 1] of the given (height, width)."""
References = Sequence[Sequence[Tensor]]
"""For every sample its references (C, T, H, W)."""


class Autoencoder(Protocol):
    """What encoding references needs of an autoencoder."""

    def encode(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) to latents."""
        ...

    def get_latent_size(self, size: Sequence[int | None]) -> tuple[int | None, int | None, int | None]:
        """(T, H, W) of pixels to those of latents."""
        ...


def collect_references_batch(
    refs: Sequence[str | Sequence[Tensor] | None],
    vae: Autoencoder,
    image_size: tuple[int, int],
    read: Reader | None = None,
) -> list[list[Tensor]]:
    """Latents of every sample's references.

    A clip is used up to the last frame that completes a latent frame; nothing of a short clip is lost. (The public code
    cuts clips of less than 17 frames to 1 or 0.)

    Args:
        refs: for every sample its clips (3, T, height, width) in [-1, 1], or file names with ``;`` between them, or
            nothing.
        vae: encodes them, one at a time.
        image_size: height and width that all must have.
        read: reads a file name; required where there are any. Names come from an upload or a command line, never from
            the text of a prompt.

    Raises:
        ValueError: a clip of another size or shape, or a file name without ``read``. Whatever ``read`` raises passes.
    """
    collected: list[list[Tensor]] = []
    for entry in refs:
        clips = _read(entry, image_size, read) if isinstance(entry, str) else list(entry or ())
        for clip in clips:
            if clip.ndim != 4 or tuple(clip.shape[2:]) != tuple(image_size) or clip.shape[1] == 0:
                raise ValueError(
                    f"a reference has the shape {tuple(clip.shape)}; expected (3, frames, {image_size[0]}, "
                    f"{image_size[1]}) with at least one frame."
                )
        collected.append([vae.encode(clip[None, :, : whole_frames(clip.shape[1], vae)])[0] for clip in clips])
    return collected


def _read(names: str, image_size: tuple[int, int], read: Reader | None) -> list[Tensor]:
    files = [name.strip() for name in names.split(";") if name.strip()]
    if files and read is None:
        raise ValueError(f"the references are file names ({names}) but there is no reader for them; give read=.")
    return [read(name, image_size) for name in files] if read is not None else []


def whole_frames(frames: int, vae: Autoencoder) -> int:
    """The most of ``frames`` frames, at least 1, that fill their latent frames: one more would begin another."""

    def latents(n: int) -> int | None:
        return vae.get_latent_size((n, None, None))[0]

    return next(n for n in range(frames, 0, -1) if n == 1 or latents(n) != latents(n + 1))


def prep_ref_and_mask(
    cond_type: str | None,
    condition_frame_length: int,
    refs: References,
    target_shape: Sequence[int],
    num_loop: int,
    device: torch.device | str,
    dtype: torch.dtype,
    compat: Compat = "right",
) -> tuple[Tensor, list[int]]:
    """What the first loop of a clip is given.

    Args:
        cond_type: one of :data:`COND_TYPES`; ``None`` gives nothing.
        condition_frame_length: latent frames of a clip that are given, at most; a still image gives one.
        refs: of every sample; the first is the beginning (of ``_tail`` types: the end), and with ``i2v_loop`` a second
            one is the end.
        target_shape: (B, C, T, H, W).
        num_loop: clips that follow each other; the end is given to the last one alone.
        device: of the result.
        dtype: of the result.
        compat: ``published`` lets the first sample say for all whether there is a second reference.

    Returns:
        Latents (B, C, T, H, W), zero where nothing is given, and the given latent frames.

    Raises:
        ValueError: an unknown type, or a sample without a reference.
    """
    ref = torch.zeros(tuple(target_shape), device=device, dtype=dtype)
    if cond_type is None:
        return ref, []
    _check(cond_type, refs, target_shape)
    frames = target_shape[2]
    index: list[int] = []
    if cond_type.startswith("v2v"):
        if cond_type.startswith("v2v_tail") and num_loop > 1:
            return ref, []
        index = clip_frames(cond_type, condition_frame_length, refs, frames)
        tail = cond_type.startswith("v2v_tail")
        for sample, (first, *_) in zip(ref, refs, strict=True):
            sample[:, index] = (first[:, -len(index) :] if tail else first[:, : len(index)]).to(sample)
        return ref, index
    if cond_type in ("i2v_head", "i2v_loop"):
        index.append(0)
        for sample, (first, *_) in zip(ref, refs, strict=True):
            sample[:, 0] = first[:, 0].to(sample)
    if cond_type in ("i2v_tail", "i2v_loop") and num_loop == 1:
        index.append(frames - 1)
        _give_end(ref, refs, cond_type == "i2v_loop", compat)
    return ref, sorted(set(index))


def prep_ref_and_update_mask_in_loop(
    cond_type: str | None,
    condition_frame_length: int,
    samples: Tensor,
    refs: References,
    target_shape: Sequence[int],
    is_last_loop: bool,
    device: torch.device | str,
    dtype: torch.dtype,
    compat: Compat = "right",
) -> tuple[Tensor, list[int]]:
    """What a later loop is given: the end of the clip before it, and in the last loop the end that was asked for.

    Args:
        cond_type: as in :func:`prep_ref_and_mask`.
        condition_frame_length: latent frames of ``samples`` that are given.
        samples: latents of the loop before (B, C, T, H, W).
        refs: as in :func:`prep_ref_and_mask`.
        target_shape: (B, C, T, H, W).
        is_last_loop: whether no loop follows.
        device: of the result.
        dtype: of the result.
        compat: ``published`` gives the end of ``i2v_loop`` to every loop, and that of ``i2v_tail`` from the second of
            two references where a single loop takes the first; and as in :func:`prep_ref_and_mask`.

    Returns:
        As :func:`prep_ref_and_mask`.
    """
    ref = torch.zeros(tuple(target_shape), device=device, dtype=dtype)
    frames = target_shape[2]
    count = min(condition_frame_length, samples.shape[2], frames)
    ref[:, :, :count] = samples[:, :, samples.shape[2] - count :].to(ref)
    index = list(range(count))
    if cond_type is None:
        return ref, index
    _check(cond_type, refs, target_shape)
    if cond_type.startswith("v2v_tail") and is_last_loop:
        end, tail = prep_ref_and_mask(cond_type, condition_frame_length, refs, target_shape, 1, device, dtype)
        ref[:, :, tail] = end[:, :, tail]
        index += tail
    everywhere = compat == "published" and cond_type == "i2v_loop"
    if cond_type in ("i2v_tail", "i2v_loop") and (is_last_loop or everywhere):
        index.append(frames - 1)
        _give_end(ref, refs, cond_type == "i2v_loop" or compat == "published", compat)
    return ref, sorted(set(index))


def clip_frames(cond_type: str, condition_frame_length: int, refs: References, frames: int) -> list[int]:
    """Latent frames of a clip of ``frames`` that the beginning or the end of every sample's first reference fills."""
    length = condition_frame_length * (2 if cond_type.endswith("_easy") else 1)
    count = min(length, frames, *(first.shape[1] for first, *_ in refs))
    return list(range(count)) if cond_type.startswith("v2v_head") else list(range(frames - count, frames))


def _give_end(ref: Tensor, refs: References, second: bool, compat: Compat) -> None:
    """Write the last frame: that of the first reference or, with ``second`` and where there is one, the first frame of
    the second."""
    for sample, given in zip(ref, refs, strict=True):
        two = second and len(refs[0] if compat == "published" else given) > 1
        sample[:, -1] = (given[1][:, 0] if two else given[0][:, -1]).to(sample)


def _check(cond_type: str, refs: References, target_shape: Sequence[int]) -> None:
    if cond_type not in COND_TYPES:
        raise ValueError(f"cond_type is {cond_type!r}; choose one of {', '.join(COND_TYPES)}, or None.")
    if len(refs) != target_shape[0] or not all(refs):
        raise ValueError(
            f"{cond_type} needs a reference for each of {target_shape[0]} samples; got {[len(r) for r in refs]}."
        )


def get_mask_index(cond_type: str, frames: int) -> list[int]:
    """Latent frames of ``frames`` that a training sample is given.

    Args:
        cond_type: ``i2v_head`` (also ``i2v``), ``i2v_loop``, ``i2v_tail``, ``v2v_head`` (also ``v2v_head_noisy``) and
            ``v2v_tail`` for half of the clip, or ``none``.
        frames: latent frames of the clip.

    Raises:
        ValueError: an unknown type.
    """
    table = {
        "none": [],
        "i2v": [0],
        "i2v_head": [0],
        "i2v_loop": sorted({0, frames - 1}),
        "i2v_tail": [frames - 1],
        "v2v_head": list(range(frames // 2)),
        "v2v_head_noisy": list(range(frames // 2)),
        "v2v_tail": list(range(frames // 2, frames)),
    }
    if cond_type not in table:
        raise ValueError(f"cond_type is {cond_type!r}; choose one of {', '.join(table)}.")
    return table[cond_type]
