"""Train the text encoder: ``python scripts/text/train.py configs/text/train/tiny.py``; run again to resume."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from opensora.config import load_config
from opensora.training.clip import ClipTrainConfig, ClipTrainer
from opensora.training.text import TextTrainConfig, TextTrainer


def main(
    config: Annotated[Path, typer.Argument(help="Recipe: a Python file that builds one TextTrainConfig.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides such as steps=100.")] = None,
    run_dir: Annotated[Path, typer.Option(help="Folder of the resumable state.")] = Path("runs/tiny/text"),
    export: Annotated[Path | None, typer.Option(help="Write the checkpoint into this folder at the end.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Stop after this time; the next call goes on.")] = None,
) -> None:
    """Train, saving resumable state, and export the checkpoint."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = load_config(config, overrides or [])
    if not isinstance(recipe, TextTrainConfig):
        raise typer.BadParameter(f"{config} builds a {type(recipe).__name__}, expected a TextTrainConfig.")
    trainer = ClipTrainer(recipe, run_dir) if isinstance(recipe, ClipTrainConfig) else TextTrainer(recipe, run_dir)
    trainer.run(max_seconds)
    for attribute, share in trainer.accuracy().items():
        logging.info("%s is read right in %.1f %% of unseen captions that mention it or not", attribute, 100 * share)
    if export is not None:
        trainer.export(export)


if __name__ == "__main__":
    typer.run(main)
