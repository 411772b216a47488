"""``HFEmbedder``: a frozen T5 or CLIP text encoder from transformers behind one interface; ``shardformer_t5``.

Legend: B texts, L tokens, E width of the features.
"""

import logging
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from opensora.models.text.loading import KINDS, folder_of, kind_of, read_network, read_tokenizer

log = logging.getLogger(__name__)

T5 = TypeVar("T5", bound=nn.Module)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class HFEmbedder(nn.Module):
    """Texts to features: T5's last hidden state (B, L, E), or CLIP's pooled output (B, E).

    Both published forms of the constructor work: ``HFEmbedder(source, max_length=512, hf_module="T5EncoderModel")`` and
    ``HFEmbedder(source, max_length, shardformer=False, **hf_kwargs)``, which reads the kind from the checkpoint.

    Args:
        from_pretrained: folder or hub id of the encoder with its tokenizer.
        max_length: tokens that are read of a text, and the length to which it is padded; at most what CLIP has
            positions for (77 of the published one).
        hf_module: ``T5EncoderModel`` or ``CLIPTextModel``; ``None`` asks the checkpoint's configuration. A bool in
            this place is ``shardformer``, as in the second form.
        shardformer: colossalai's policy for T5: ``on`` or True, ``off`` or False, ``auto`` where it can be used; see
            :func:`shardformer_t5`.
        hf_kwargs: for the encoder's own ``from_pretrained``, such as ``dtype`` (float32 where none is given).

    Raises:
        CheckpointError: the files are not those of such an encoder; missing, unexpected and misshapen tensors are
            listed.
        ValueError: an unknown kind of encoder, a dtype that it cannot compute in, a length that it cannot read, or
            shardformer ``on`` where it cannot be used.
    """

    def __init__(
        self,
        from_pretrained: str | Path,
        max_length: int = 512,
        hf_module: str | bool | None = None,
        shardformer: bool | str = False,
        **hf_kwargs: Any,
    ) -> None:
        super().__init__()
        if isinstance(hf_module, bool):
            shardformer, hf_module = hf_module, None
        if isinstance(shardformer, bool):
            shardformer = "on" if shardformer else "off"
        hf_kwargs["dtype"] = _dtype(hf_kwargs.pop("torch_dtype", hf_kwargs.get("dtype", torch.float32)))
        self.kind = kind_of(from_pretrained) if hf_module is None else hf_module
        if self.kind not in KINDS:
            raise ValueError(f"unknown hf_module {self.kind!r}; choose one of {', '.join(KINDS)}.")
        if self.kind == "T5EncoderModel" and hf_kwargs["dtype"] is torch.float16:
            raise ValueError("T5 overflows in float16; choose float32 or bfloat16.")
        if self.kind == "CLIPTextModel" and shardformer == "on":
            raise ValueError("shardformer has a policy for T5 only; leave it off for CLIP.")
        folder = folder_of(from_pretrained, self.kind)
        self.max_length = max_length
        self.output_key = KINDS[self.kind].output_key
        self.tokenizer = read_tokenizer(folder)
        self.hf_module = read_network(self.kind, folder, **hf_kwargs)
        self._check_length(max_length)
        if self.kind == "T5EncoderModel":
            shardformer_t5(self.hf_module, shardformer)

    def tokenize(self, text: str | list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, int64 (B, max_length); a text whose end is cut off is logged with its length."""
        texts = [text] if isinstance(text, str) else list(text)
        tokens = self.tokenizer(
            texts, max_length=self.max_length, padding="max_length", truncation=True, return_tensors="pt"
        )
        for line, row in zip(texts, tokens["attention_mask"], strict=True):
            if int(row.sum()) == self.max_length:
                whole = len(self.tokenizer(line)["input_ids"])
                if whole > self.max_length:
                    log.warning("a text of %d tokens is cut to %d; its end is not read.", whole, self.max_length)
        return tokens["input_ids"], tokens["attention_mask"]

    @torch.no_grad()
    def encode(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Token ids (B, L) -> features of the encoder's dtype: T5 (B, L, E), CLIP (B, E).

        Args:
            ids: int64, on any device.
            mask: (B, L), 0 where a token is not attended to; ``None`` attends to all.
        """
        device = self.hf_module.device
        mask = None if mask is None else mask.to(device)
        features: Tensor = self.hf_module(input_ids=ids.to(device), attention_mask=mask)[self.output_key]
        return features

    def forward(self, text: str | list[str], added_tokens: int = 0, seq_align: int = 1) -> Tensor:
        """Features of texts; padding is attended to, as the weights of 2.0 were trained.

        Args:
            text: one text or several.
            added_tokens: tokens that will be put beside these.
            seq_align: ids are padded until ``(added_tokens + length) % seq_align == 0``.

        Raises:
            ValueError: no alignment, or more tokens than CLIP has positions for.
        """
        length = self.aligned_length(added_tokens, seq_align)
        ids, _ = self.tokenize(text)  # (B, max_length)
        return self.encode(nn.functional.pad(ids, (0, length - ids.shape[1]), value=self.tokenizer.pad_token_id))

    def aligned_length(self, added_tokens: int, seq_align: int) -> int:
        """Tokens of every text in :meth:`forward`: the first length from ``max_length`` on that is aligned.

        Raises:
            ValueError: no alignment, or more tokens than CLIP has positions for.
        """
        if seq_align < 1 or added_tokens < 0:
            raise ValueError(
                f"got seq_align={seq_align} and added_tokens={added_tokens}; expected at least 1 and at least 0."
            )
        length = self.max_length + -(added_tokens + self.max_length) % seq_align
        self._check_length(length)
        return length

    def _check_length(self, length: int) -> None:
        """T5 knows distances only and reads any length; CLIP has a table of positions."""
        most = getattr(self.hf_module.config, "max_position_embeddings", length)
        if not 1 <= length <= most:
            limit = f"1 to {most}" if self.kind == "CLIPTextModel" else "1 or more"
            raise ValueError(f"got a length of {length} tokens for {self.kind}; expected {limit}.")


def shardformer_t5(t5: T5, setting: str = "on") -> T5:
    """The same T5 encoder, frozen, with the residual additions fused by colossalai; numbers and dtypes stay.

    Args:
        t5: a T5 encoder of transformers; it is changed in place.
        setting: ``on`` fails where it cannot be done, ``auto`` says once why it was not done, ``off`` does nothing.

    Raises:
        ValueError: ``on``, and colossalai is not installed or does not work with these versions; another setting.
    """
    from opensora.acceleration.shardformer.apply import apply_shardformer  # upwards: published under this name here

    return apply_shardformer(t5, setting)


def _dtype(value: Any) -> torch.dtype:
    """A dtype, or the name of one."""
    for name, dtype in DTYPES.items():
        if value in (name, dtype):
            return dtype
    raise ValueError(f"got the dtype {value!r}; expected one of {', '.join(DTYPES)}.")
