"""``HFEmbedder``: a frozen T5 or CLIP text encoder from transformers behind one interface.

Legend: B texts, L tokens, E width of the features.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextModel, PreTrainedModel, PreTrainedTokenizerBase, T5EncoderModel

from opensora.checkpoint.layout import read_object
from opensora.checkpoint.safetensors_io import CheckpointError, listed, refuse_quantised

log = logging.getLogger(__name__)

MODULES: dict[str, type[PreTrainedModel]] = {"T5EncoderModel": T5EncoderModel, "CLIPTextModel": CLIPTextModel}
OUTPUT_KEYS = {"T5EncoderModel": "last_hidden_state", "CLIPTextModel": "pooler_output"}
KINDS = {"t5": "T5EncoderModel", "clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel"}
OTHER_HALF = {
    "T5EncoderModel": ("decoder.", "lm_head."),
    "CLIPTextModel": ("vision_model.", "visual_projection.", "text_projection.", "logit_scale"),
}
"""Beginnings of tensors of the whole network, of which only the text encoder is wanted."""


class HFEmbedder(nn.Module):
    """Texts to features: T5's last hidden state (B, L, E), or CLIP's pooled output (B, E).

    Both published forms of the constructor work: ``HFEmbedder(source, max_length=512, hf_module="T5EncoderModel")`` and
    ``HFEmbedder(source, max_length, shardformer=False, **hf_kwargs)``, which reads the kind from the checkpoint.

    Args:
        from_pretrained: folder or hub id of the encoder with its tokenizer.
        max_length: tokens that are read of a text, and the length to which it is padded.
        hf_module: ``T5EncoderModel`` or ``CLIPTextModel``; ``None`` asks the checkpoint's configuration.
        shardformer: use colossalai's policy for T5.
        hf_kwargs: for the encoder's own ``from_pretrained``, such as ``dtype``.

    Raises:
        CheckpointError: the files are not those of such an encoder; missing, unexpected and misshapen tensors are
            listed.
        ValueError: an unknown kind of encoder, float16 T5, or shardformer, which this version does not have.
    """

    def __init__(
        self,
        from_pretrained: str | Path,
        max_length: int = 512,
        hf_module: str | None = None,
        shardformer: bool = False,
        **hf_kwargs: Any,
    ) -> None:
        super().__init__()
        if shardformer:
            raise ValueError("shardformer=True needs colossalai's T5 policy, which this version does not have yet.")
        folder = _folder(from_pretrained)
        self.kind = hf_module or _kind(folder, str(from_pretrained))
        if self.kind not in MODULES:
            raise ValueError(f"unknown hf_module {self.kind!r}; choose one of {', '.join(MODULES)}.")
        dtype = hf_kwargs.setdefault("dtype", torch.float32)
        if dtype is torch.float16 and self.kind == "T5EncoderModel":
            raise ValueError("T5 overflows in float16; choose float32 or bfloat16.")
        self.max_length = max_length
        self.output_key = OUTPUT_KEYS[self.kind]
        self.tokenizer: PreTrainedTokenizerBase = _read("tokenizer", folder, AutoTokenizer.from_pretrained)
        load = partial(MODULES[self.kind].from_pretrained, output_loading_info=True, ignore_mismatched_sizes=True)
        network, found = _read("weights", folder, load, **hf_kwargs)
        _refuse_misfits(folder.name, self.kind, found)
        _refuse_whole_numbers(folder, network)
        self.hf_module = network.eval().requires_grad_(False)

    def tokenize(self, text: str | list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask (B, max_length); a text whose end is cut off is logged."""
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
    def forward(self, text: str | list[str], added_tokens: int = 0, seq_align: int = 1) -> Tensor:
        """Features of texts; as published, padding is attended to.

        Args:
            text: one text or several.
            added_tokens: tokens that will be put beside these.
            seq_align: ids are padded until ``(added_tokens + length) % seq_align == 0``.
        """
        ids, _ = self.tokenize(text)
        extra = -(added_tokens + ids.shape[1]) % seq_align
        if extra:
            ids = nn.functional.pad(ids, (0, extra), value=self.tokenizer.pad_token_id)
        return self.hf_module(input_ids=ids.to(self.hf_module.device), attention_mask=None)[self.output_key]


def _folder(source: str | Path) -> Path:
    if Path(source).is_dir():
        return Path(source)
    from opensora.checkpoint.layout import T5
    from opensora.checkpoint.locate import resolve

    path = resolve(source, layout=T5)
    return path if path.is_dir() else path.parent


def _read(what: str, folder: Path, load: Callable[..., Any], **settings: Any) -> Any:
    """What a loader of transformers makes of a folder; it raises all kinds on damaged files."""
    try:
        return load(folder, **settings)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"The {what} of the text encoder in {folder.name} cannot be read ({type(error).__name__}); the files are "
            "damaged or of another network. Get them again."
        ) from error


def _refuse_misfits(where: str, kind: str, found: Mapping[str, Any]) -> None:
    """transformers fills what it did not find with random numbers; here that is an error.

    Args:
        where: name of the checkpoint.
        kind: of :data:`MODULES`.
        found: loading info of transformers.

    Raises:
        CheckpointError: lists the tensors.
    """
    problems = {
        "missing": found["missing_keys"],
        "unexpected": [name for name in found["unexpected_keys"] if not name.startswith(OTHER_HALF[kind])],
        "of another shape": [name for name, *_ in found["mismatched_keys"]],
    }
    lines = [f"  {len(names)} {problem}: {listed(sorted(names))}" for problem, names in problems.items() if names]
    if lines:
        raise CheckpointError("\n".join([f"{where} does not fit this text encoder:", *lines]))


def _refuse_whole_numbers(folder: Path, network: nn.Module) -> None:
    """transformers reads quantised weights without their scales; here that is an error.

    Raises:
        CheckpointError: lists the tensors.
    """
    fractions = {name for name, value in network.state_dict().items() if value.is_floating_point()}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as reader:
            names = fractions.intersection(reader.keys())
            refuse_quantised({name: reader.get_slice(name).get_dtype() for name in names})


def _kind(folder: Path, name: str) -> str:
    """Kind of encoder, from config.json; without a usable one, "openai" in the name means CLIP as it was published."""
    config = folder / "config.json"
    if config.is_file():
        kind = read_object(config).get("model_type", "")
        if kind in KINDS:
            return KINDS[kind]
        raise ValueError(f"the checkpoint is a {kind or 'network of unknown kind'}, expected T5 or CLIP.")
    return "CLIPTextModel" if "openai" in name else "T5EncoderModel"
