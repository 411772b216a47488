"""Text encoders with random weights in the files in which real ones are published, to measure what they cost."""

from pathlib import Path

import torch
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedModel, T5Config, T5EncoderModel

from opensora.models.text.tokenizer import train_clip_tokenizer, train_tokenizer

LINES = ["a red ball rolls to the right", "snow over mountains and sea", "빨간 공이 굴러간다"] * 8
T5_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"vocab_size": 320, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
    "xxl": {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
}
CLIP_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "xxl": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
}
CLIP_VOCABULARY = {"tiny": 600, "xxl": 49408}


def write_random(folder: Path, size: str) -> tuple[Path, Path]:
    """Write a T5 encoder and a CLIP text encoder of bfloat16 weights, or leave those that are there.

    Args:
        folder: gets the folders ``t5`` and ``clip``.
        size: ``tiny``, or ``xxl`` for T5-v1.1-XXL and CLIP ViT-L/14 as 2.0 reads them.

    Returns:
        Both folders.
    """
    t5, clip = folder / "t5", folder / "clip"
    if not (t5 / "config.json").is_file():
        train_tokenizer(LINES, t5, vocab_size=320)
        config = T5Config(**T5_SIZES[size], feed_forward_proj="gated-gelu", is_encoder_decoder=False)  # type: ignore[arg-type]
        _write(T5EncoderModel, config, t5)
    if not (clip / "config.json").is_file():
        train_clip_tokenizer(LINES, clip, vocab_size=600)
        ids = {"vocab_size": CLIP_VOCABULARY[size], "bos_token_id": 0, "eos_token_id": 2}  # as published
        _write(CLIPTextModel, CLIPTextConfig(**CLIP_SIZES[size], **ids), clip)  # type: ignore[arg-type]
    return t5, clip


def _write(kind: type[PreTrainedModel], config: T5Config | CLIPTextConfig, folder: Path) -> None:
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        kind(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(before)
