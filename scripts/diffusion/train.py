"""Train the denoiser: ``python scripts/diffusion/train.py configs/diffusion/train/tiny.py``; run again to resume."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from opensora.config import load_config
from opensora.training.diffusion import DiffusionTrainConfig, DiffusionTrainer
from opensora.training.mmdit import MMDiTTrainConfig, MMDiTTrainer


def main(
    config: Annotated[Path, typer.Argument(help="Recipe: a Python file that builds one recipe of a denoiser.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides such as lr=1e-3.")] = None,
    run_dir: Annotated[Path, typer.Option(help="Folder of the resumable state.")] = Path("runs/tiny/diffusion"),
    export: Annotated[Path | None, typer.Option(help="Write the checkpoint into this folder at the end.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Stop after this time; the next call goes on.")] = None,
) -> None:
    """Train, saving resumable state, and export the checkpoint."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = load_config(config, overrides or [])
    trainer: DiffusionTrainer | MMDiTTrainer
    if isinstance(recipe, DiffusionTrainConfig):
        trainer = DiffusionTrainer(recipe, run_dir)
    elif isinstance(recipe, MMDiTTrainConfig):
        trainer = MMDiTTrainer(recipe, run_dir)
    else:
        raise typer.BadParameter(
            f"{config} builds a {type(recipe).__name__}, expected a DiffusionTrainConfig or a MMDiTTrainConfig."
        )
    trainer.run(max_seconds)
    if export is not None:
        trainer.export(export)
    trainer.workers.stop()


if __name__ == "__main__":
    typer.run(main)
