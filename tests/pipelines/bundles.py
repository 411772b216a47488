"""A bundle of tiny networks with random weights, in the form in which real ones lie on a disk."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn
from transformers import T5Config, T5EncoderModel

from opensora.checkpoint import safetensors_io
from opensora.models.reranker import Reranker, RerankerConfig
from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config
from opensora.models.text.tokenizer import train_tokenizer
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3, VAEv13Config

LINES = [
    "a red ball rolls to the right",
    "a blue box",
    "the motion strength is very high.",
    "rain snow sea 빨간 공",
] * 8

STDIT = STDiT3Config(
    in_channels=4,
    hidden_size=24,
    depth=2,
    num_heads=2,
    caption_channels=16,
    model_max_length=24,
    kernel_size=(8, 8, -1),
)
VAE = VAEv13Config(
    z_channels=4,
    ch=4,
    ch_mult=(1, 1, 1, 1),
    num_res_blocks=1,
    norm_groups=2,
    normalization=None,
)
CARD = {
    "name": "random",
    "default_steps": 3,
    "default_guidance": 3.0,
    "default_image_guidance": 2.0,
    "frames": [17, 33],
}


def fill(module: nn.Module, seed: int, spread: float) -> None:
    """Random weights in which everything matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = spread / max(1, parameter[0].numel()) ** 0.5 if parameter.ndim > 1 else 0.1
            offset = 1.0 if parameter.ndim == 1 and parameter.shape[0] > 1 else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale + offset * 0.1)


def write_bundle(folder: Path, seed: int = 0, z_channels: int = 4, spoiled: bool = False, **card: object) -> Path:
    """Write a bundle of random networks; returns its folder. The denoiser of a spoiled one makes no numbers."""
    torch.manual_seed(seed)
    vae_config = replace(VAE, z_channels=z_channels)
    stdit, vae = STDiT3(STDIT), OpenSoraVAE_V1_3(vae_config)
    fill(stdit, seed, 1.0)
    fill(vae, seed + 1, 1.5)
    if spoiled:
        nn.init.constant_(stdit.final_layer.linear.weight, float("nan"))
    for name, network, config in (("stdit", stdit, asdict(STDIT)), ("vae", vae, asdict(vae_config))):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
        safetensors_io.save(network, folder / name / "model.safetensors", {"family": "1.3", "role": name})
    if card.get("picture_candidates", 1) != 1:
        write_reranker(folder / "reranker", z_channels)
    write_text_encoder(folder / "t5")
    (folder / "bundle.json").write_text(json.dumps({**CARD, **card}))
    preview = {"weight": [[0.3, 0.1, 0.0, 0.0], [0.0, 0.3, 0.1, 0.0], [0.0, 0.0, 0.3, 0.1]], "bias": [0.0, 0.0, 0.0]}
    (folder / "vae" / "preview.json").write_text(json.dumps(preview))
    return folder


def write_reranker(folder: Path, z_channels: int) -> None:
    config = RerankerConfig(in_channels=z_channels, caption_channels=16, width=12, depth=1, vectors=2, dim=8)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    safetensors_io.save(Reranker(config), folder / "model.safetensors", {"family": "1.3", "role": "reranker"})


def write_text_encoder(folder: Path, family: str = "1.3") -> None:
    folder.mkdir()
    train_tokenizer(LINES, folder, vocab_size=400)
    config = T5Config(
        vocab_size=400, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    T5EncoderModel(config).save_pretrained(folder)
    path = folder / "model.safetensors"
    network = T5EncoderModel.from_pretrained(folder, dtype=torch.float32)
    safetensors_io.save(network, path, {"family": family, "role": "text"})
