"""Text encoders with random weights in the files in which real ones are published, to measure what they cost.

T5 is written layer by layer, a file for each, so that no more than one of them is in memory.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedModel, T5Config, T5EncoderModel

from opensora.models.text.tokenizer import train_clip_tokenizer, train_tokenizer

LINES = ["a red ball rolls to the right", "snow over mountains and sea", "빨간 공이 굴러간다"] * 8
T5_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"vocab_size": 320, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
    "large": {"vocab_size": 32128, "d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
    "xxl": {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
}
"""``large`` is T5-v1.1-large, to try on a small machine what ``xxl`` will take."""
CLIP_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "large": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "xxl": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
}
CLIP_VOCABULARY = {"tiny": 600, "large": 49408, "xxl": 49408}


def write_random(folder: Path, size: str) -> tuple[Path, Path]:
    """Write a T5 encoder and a CLIP text encoder of bfloat16 weights, or leave those that are there.

    Args:
        folder: gets the folders ``t5`` and ``clip``.
        size: ``tiny``, ``large``, or ``xxl`` for T5-v1.1-XXL and CLIP ViT-L/14 as 2.0 reads them.

    Returns:
        Both folders.
    """
    t5, clip = folder / "t5", folder / "clip"
    if not (t5 / "config.json").is_file():
        train_tokenizer(LINES, t5, vocab_size=320)
        _write_layers(T5_SIZES[size], t5)
    if not (clip / "config.json").is_file():
        train_clip_tokenizer(LINES, clip, vocab_size=600)
        ids = {"vocab_size": CLIP_VOCABULARY[size], "bos_token_id": 0, "eos_token_id": 2}  # as published
        config = CLIPTextConfig(**CLIP_SIZES[size], **ids)  # type: ignore[arg-type]
        _random(CLIPTextModel, config, 0).save_pretrained(clip)
    return t5, clip


def _t5_config(size: dict[str, int], **changes: int) -> T5Config:
    values = {**size, **changes}
    return T5Config(**values, feed_forward_proj="gated-gelu", is_encoder_decoder=False, dtype="bfloat16")  # type: ignore[arg-type]


def _write_layers(size: dict[str, int], folder: Path) -> None:
    """Write a T5 encoder in as many files as it has layers, its configuration last: a folder with it is complete."""
    layers = size["num_layers"]
    files = [f"model-{number + 1:05d}-of-{layers:05d}.safetensors" for number in range(layers)]
    where: dict[str, str] = {}
    written = 0
    for file, tensors in zip(files, _layers(size), strict=True):
        save_file(tensors, folder / file, {"format": "pt"})
        where |= dict.fromkeys(tensors, file)
        written += sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": written}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = _t5_config(size)
    config.architectures = ["T5EncoderModel"]
    config.save_pretrained(folder)


def _layers(size: dict[str, int]) -> Iterator[dict[str, Tensor]]:
    """The tensors of every layer in bfloat16 as transformers begins them; the embedding comes with the first one."""
    for number in range(size["num_layers"]):
        vocabulary = size["vocab_size"] if number == 0 else 8
        network = _random(T5EncoderModel, _t5_config(size, num_layers=1, vocab_size=vocabulary), number)
        tensors = {}
        for name, tensor in network.state_dict().items():
            if name.startswith("encoder.block."):
                bias = "relative_attention_bias" in name
                if number == 0 or not bias:  # the first layer's distances serve all
                    tensors[name.replace("encoder.block.0.", f"encoder.block.{number}.")] = tensor
            elif number == 0 and name != "encoder.embed_tokens.weight":  # the same as shared.weight
                tensors[name] = tensor
        yield tensors


def _random(kind: type[PreTrainedModel], config: T5Config | CLIPTextConfig, seed: int) -> PreTrainedModel:
    """A network of bfloat16 weights."""
    before = torch.get_default_dtype()
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.bfloat16)
    try:
        return kind(config)
    finally:
        torch.set_default_dtype(before)
