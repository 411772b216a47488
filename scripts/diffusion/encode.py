"""Fill a recipe's latent cache: ``python scripts/diffusion/encode.py configs/diffusion/train/tiny.py``."""

import logging
from pathlib import Path
from typing import Annotated

import torch
import typer

from opensora.config import load_config
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3
from opensora.nn.memory_format import convert
from opensora.training.latent_trainer import TrainConfig
from opensora.training.latents import fill
from opensora.training.mmdit import MMDiTTrainConfig


def main(
    config: Annotated[Path, typer.Argument(help="Recipe: a Python file that builds one recipe of a denoiser.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides such as seed=1.")] = None,
    bucket: Annotated[list[str] | None, typer.Option(help="Only these buckets, by name (17x64x112).")] = None,
    part: Annotated[str, typer.Option(help="Shards to fill, as k/n: every n-th, from the k-th.")] = "0/1",
) -> None:
    """Render and encode the clips that are not cached yet; run again to go on."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = load_config(config, overrides or [])
    if not isinstance(recipe, TrainConfig):
        raise typer.BadParameter(f"{config} builds a {type(recipe).__name__}, expected the recipe of a denoiser.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = AutoencoderKLCausal3D if isinstance(recipe, MMDiTTrainConfig) else OpenSoraVAE_V1_3
    vae = kind.from_pretrained(recipe.vae).to(device, torch.bfloat16).eval()
    convert(vae, torch.channels_last_3d)
    start, every = (int(x) for x in part.split("/"))
    for entry in recipe.buckets:
        if not bucket or entry.name in bucket:
            fill(vae, entry, Path(recipe.latents), recipe.seed, start=start, every=every, wording=recipe.wording)


if __name__ == "__main__":
    typer.run(main)
