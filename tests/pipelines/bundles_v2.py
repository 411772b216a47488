"""A bundle of tiny 2.0 networks with random weights."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from models.text_encoders import write_clip, write_t5
from pipelines.bundles import fill
from torch import nn

from opensora.checkpoint import safetensors_io
from opensora.models.autoencoder_2d.autoencoder import AutoEncoder
from opensora.models.autoencoder_2d.config import AutoEncoderConfig
from opensora.models.mmdit.config import MMDiTConfig
from opensora.models.mmdit.mmdit import MMDiT
from opensora.models.vae_hunyuan.config import HunyuanVAEConfig
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D

MMDIT = MMDiTConfig(
    in_channels=16,
    vec_in_dim=16,
    context_in_dim=16,
    hidden_size=24,
    num_heads=2,
    depth=1,
    depth_single_blocks=1,
    axes_dim=(4, 4, 4),
)
VAE = HunyuanVAEConfig(
    latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2, scale_factor=1.0
)
FLUX = MMDiTConfig(
    **{**asdict(MMDIT), "guidance_embed": True, "cond_embed": False, "fused_qkv": True, "use_liger_rope": False}
)
FLUX_VAE = AutoEncoderConfig(ch=32, ch_mult=(1, 1, 1, 1), num_res_blocks=1, z_channels=4)
CARD = {
    "name": "random-2.0",
    "family": "2.0",
    "resolutions": ["256px"],
    "frames": [5, 9, 17, 37, 41],
    "default_steps": 3,
    "default_guidance": 3.0,
    "default_image_guidance": 2.0,
    "text_tokens": 40,
    "clean_text": False,
    "default_motion_score": 4,
    "cond_types": ["i2v_head", "i2v_tail", "i2v_loop", "v2v_head", "v2v_tail"],
}


def write_bundle(folder: Path, seed: int = 0, **card: object) -> Path:
    """Write the bundle; returns its folder."""
    networks: tuple[tuple[str, nn.Module, dict[str, object]], ...] = (
        ("stdit", MMDiT(MMDIT), asdict(MMDIT)),
        ("vae", AutoencoderKLCausal3D(VAE), asdict(VAE)),
    )
    for offset, (name, network, config) in enumerate(networks):
        fill(network, seed + offset, 1.5)
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
        safetensors_io.save(network, folder / name / "model.safetensors", {"family": "2.0", "role": name})
    torch.manual_seed(seed)
    write_t5(folder / "t5")
    write_clip(folder / "clip")
    (folder / "bundle.json").write_text(json.dumps({**CARD, **card}))
    return folder


def write_flux(folder: Path) -> Path:
    """Write a bundle of tiny networks of FLUX.1's kind, which paints first pictures; returns its folder."""
    write_bundle(folder, family="flux", name="random-flux", modes=["t2i"], frames=[1], cond_types=["i2v_head"])
    networks: tuple[tuple[str, nn.Module, dict[str, object]], ...] = (
        ("stdit", MMDiT(FLUX), asdict(FLUX)),
        ("vae", AutoEncoder(FLUX_VAE), asdict(FLUX_VAE)),
    )
    for seed, (name, network, config) in enumerate(networks):
        fill(network, seed, 1.5)
        (folder / name / "config.json").write_text(json.dumps(config))
        safetensors_io.save(network, folder / name / "model.safetensors", {"role": name})
    return folder
