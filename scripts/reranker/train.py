"""Train the reranker: ``python scripts/reranker/train.py configs/reranker/train/tiny.py``; run again to resume."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from opensora.config import load_config
from opensora.training.reranker import RerankerTrainConfig, RerankerTrainer


def main(
    config: Annotated[Path, typer.Argument(help="Recipe: a Python file that builds one RerankerTrainConfig.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Dotted overrides such as steps=100.")] = None,
    run_dir: Annotated[Path, typer.Option(help="Folder of the resumable state.")] = Path("runs/tiny/reranker"),
    export: Annotated[Path | None, typer.Option(help="Write the checkpoint into this folder at the end.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Stop after this time; the next call goes on.")] = None,
) -> None:
    """Train, saving resumable state, and export the checkpoint."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = load_config(config, overrides or [])
    if not isinstance(recipe, RerankerTrainConfig):
        raise typer.BadParameter(f"{config} builds a {type(recipe).__name__}, expected a RerankerTrainConfig.")
    trainer = RerankerTrainer(recipe, run_dir)
    trainer.run(max_seconds)
    logging.info("unseen pictures that fit their own caption best: %.1f %%", 100 * trainer.accuracy())
    if export is not None:
        trainer.export(export)


if __name__ == "__main__":
    typer.run(main)
