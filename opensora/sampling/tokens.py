"""Latent videos as tokens, and everything that the 2.0 network is told: ``prepare`` as in FLUX.1.

Legend: B samples, R rows, C latent channels, T, H, W latent frames, rows and columns, p patch size, N tokens of a
video, L text tokens, E width of the text features, V width of the pooled text feature.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from opensora.nn.patch import patchify

Encoder = Callable[..., Tensor]
"""Texts to features. The one of T5 also takes ``added_tokens`` and ``seq_align``."""


def pack(x: Tensor, patch_size: int = 2) -> Tensor:
    """Latents (B, C, T, H, W) to tokens (B, T * H/p * W/p, C * p * p), channels slowest.

    Raises:
        ValueError: rows or columns do not fill their patches.
    """
    if x.shape[3] % patch_size or x.shape[4] % patch_size:
        raise ValueError(f"latents have {x.shape[3]} x {x.shape[4]} places; expected multiples of {patch_size}.")
    return patchify(x, (1, patch_size, patch_size)).flatten(1, 3)


def unpack(tokens: Tensor, size: tuple[int, int, int], patch_size: int = 2) -> Tensor:
    """Tokens (B, N, C * p * p) of latents of ``size`` (T, H, W) to (B, C, T, H, W); the inverse of :func:`pack`."""
    t, h, w = size
    x = tokens.unflatten(2, (-1, patch_size, patch_size)).unflatten(1, (t, h // patch_size, w // patch_size))
    return x.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)  # (B, C, T, H/p, p, W/p, p) before


def places(size: tuple[int, int, int], patch_size: int = 2) -> Tensor:
    """Frame, row and column of every token of latents of ``size`` (T, H, W), (N, 3) float32."""
    t, h, w = size
    return torch.cartesian_prod(*(torch.arange(float(n)) for n in (t, h // patch_size, w // patch_size))).view(-1, 3)


def prepare(
    t5: Encoder, clip: Encoder, img: Tensor, prompt: str | Sequence[str], seq_align: int = 1, patch_size: int = 2
) -> dict[str, Tensor]:
    """What the network is told of a batch, everything of the dtype and on the device of ``img``.

    Args:
        t5: texts to features (texts, L, E); called with ``added_tokens`` = N and ``seq_align``, so that it can make
            N + L a multiple of the latter.
        clip: texts to pooled features (texts, V).
        img: latents (B, C, T, H, W).
        prompt: R texts. One is repeated over the batch; more than B of them, a multiple, repeat the batch in order, as
            guidance batches need.
        seq_align: see ``t5``.
        patch_size: latent rows and columns of one token.

    Returns:
        ``img`` (R, N, C * p * p), ``img_ids`` (R, N, 3) with frame, row and column, ``txt`` (R, L, E), ``txt_ids``
        (R, L, 3) of zeros, ``y_vec`` (R, V). A text that occurs several times is encoded once.

    Raises:
        ValueError: the number of texts is neither 1 nor a multiple of B, or as :func:`pack`.
    """
    texts = [prompt] if isinstance(prompt, str) else list(prompt)
    size = (img.shape[2], img.shape[3] // patch_size, img.shape[4] // patch_size)
    features = _encode(t5, texts, added_tokens=size[0] * size[1] * size[2], seq_align=seq_align)
    return prepare_ids(img, features, _encode(clip, texts), patch_size)


def prepare_ids(img: Tensor, t5_embedding: Tensor, clip_embedding: Tensor, patch_size: int = 2) -> dict[str, Tensor]:
    """As :func:`prepare`, of texts that are encoded: ``t5_embedding`` (R, L, E), ``clip_embedding`` (R, V)."""
    batch, rows = len(img), max(len(img), len(t5_embedding))
    if len(t5_embedding) != len(clip_embedding) or len(t5_embedding) not in (1, rows) or rows % batch:
        raise ValueError(
            f"{len(t5_embedding)} texts and {len(clip_embedding)} pooled texts for a batch of {batch}; expected one of "
            f"both, or a multiple of {batch}."
        )
    ids = places((img.shape[2], img.shape[3], img.shape[4]), patch_size).to(img)
    txt, y_vec = (x.to(img).expand(rows, *x.shape[1:]) for x in (t5_embedding, clip_embedding))
    return {
        "img": pack(img, patch_size).repeat(rows // batch, 1, 1),
        "img_ids": ids.expand(rows, -1, -1),
        "txt": txt,
        "txt_ids": img.new_zeros(rows, txt.shape[1], 3),
        "y_vec": y_vec,
    }


def _encode(encoder: Encoder, texts: Sequence[str], **options: Any) -> Tensor:
    """Features of every text; each distinct one is encoded once."""
    distinct = list(dict.fromkeys(texts))
    return encoder(distinct, **options)[[distinct.index(text) for text in texts]]
