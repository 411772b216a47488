"""Train the autoencoder: ``python scripts/vae/train.py configs/vae/train/tiny.py``; run again to resume."""

import logging
from pathlib import Path
from typing import Annotated

import torch
import typer

from opensora.config import load_config
from opensora.models.vae_hunyuan.vae import AutoencoderKLCausal3D, HunyuanVAEConfig
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3
from opensora.pipelines import preview
from opensora.training.vae import VAETrainConfig, VAETrainer, sample_clip, to_pixels


def main(
    config: Annotated[Path, typer.Argument(help="Recipe: a Python file that builds one VAETrainConfig.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides such as steps=100.")] = None,
    run_dir: Annotated[Path, typer.Option(help="Folder of the resumable state.")] = Path("runs/tiny/vae"),
    export: Annotated[Path | None, typer.Option(help="Write the checkpoint into this folder at the end.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Stop after this time; the next call goes on.")] = None,
) -> None:
    """Train, saving resumable state, and export the checkpoint."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = load_config(config, overrides or [])
    if not isinstance(recipe, VAETrainConfig):
        raise typer.BadParameter(f"{config} builds a {type(recipe).__name__}, expected a VAETrainConfig.")
    trainer = VAETrainer(recipe, run_dir)
    trainer.run(max_seconds)
    if export is not None:
        trainer.export(export)
        fit_preview(recipe, export)


@torch.inference_mode()
def fit_preview(recipe: VAETrainConfig, folder: Path, clips: int = 8) -> None:
    """Write the linear map from latents to colours that shows forming frames."""
    kind = AutoencoderKLCausal3D if isinstance(recipe.model, HunyuanVAEConfig) else OpenSoraVAE_V1_3
    vae = kind.from_pretrained(folder).eval()
    bucket = max(recipe.buckets, key=lambda b: b.frames * b.height * b.width / b.batch)
    samples = [to_pixels(sample_clip(recipe, 20_000_000 + i, bucket)[None]) for i in range(clips)]
    latents = torch.cat([vae.encode(pixels).float() for pixels in samples])
    preview.fit(latents, torch.cat(samples)).save(folder)


if __name__ == "__main__":
    typer.run(main)
