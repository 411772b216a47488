"""Tiny T5 and CLIP text encoders with tokenizers of their own, in the files in which real ones are published."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from opensora.models.text.tokenizer import train_clip_tokenizer, train_tokenizer

LINES = ["a red ball rolls", "a blue boat on the sea", "빨간 공이 굴러간다", "snow over mountains, a bird"] * 5


def t5_config(**values: object) -> T5Config:
    return T5Config(
        **{
            "d_model": 16,
            "d_kv": 8,
            "d_ff": 32,
            "num_layers": 1,
            "num_heads": 2,
            "feed_forward_proj": "gated-gelu",
            "is_encoder_decoder": False,
            "use_cache": False,
            "tie_word_embeddings": False,
            **values,
        }
    )


def write_t5(folder: Path, **config: object) -> Path:
    """A T5 encoder with random weights; returns its folder."""
    train_tokenizer(LINES, folder, vocab_size=300)
    size = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    torch.manual_seed(0)
    T5EncoderModel(t5_config(vocab_size=size, **config)).save_pretrained(folder)
    return folder


def clip_config(**values: object) -> CLIPTextConfig:
    return CLIPTextConfig(
        **{
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 12,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
            **values,
        }
    )


def write_clip(folder: Path, **config: object) -> Path:
    """A CLIP text encoder with random weights; returns its folder."""
    size = train_clip_tokenizer(LINES, folder, vocab_size=580)
    torch.manual_seed(0)
    CLIPTextModel(clip_config(vocab_size=size, **config)).save_pretrained(folder)
    return folder


def write_weights(folder: Path, state: dict[str, Tensor]) -> None:
    """Put these tensors in the place of an encoder's weights."""
    save_file(
        {name: value.contiguous() for name, value in state.items()}, folder / "model.safetensors", {"format": "pt"}
    )
