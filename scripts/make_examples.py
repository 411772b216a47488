"""Make the clips of the page's examples with the bundled model: ``python scripts/make_examples.py``.

Run it after the bundled weights have changed. The prompts and seeds are in ``opensora/ui/examples.py``; every clip
carries its request, so the page and ``python -m opensora again`` can repeat it.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from opensora.pipelines.terminal import duration
from opensora.pipelines.video import generate
from opensora.ui import examples


def main(
    only: Annotated[list[str] | None, typer.Option(help="Name of an example; without it all are made.")] = None,
) -> None:
    """Make the clips, and put all of them in place once all are made."""
    wanted = [example for example in examples.EXAMPLES if not only or example.name in only]
    if unknown := set(only or ()) - examples.BY_NAME.keys():
        raise typer.BadParameter(
            f"Got {', '.join(sorted(unknown))}; choose from {', '.join(examples.BY_NAME)}.", param_hint="--only"
        )
    target = examples.folder()
    with tempfile.TemporaryDirectory(prefix="opensora-examples-") as made:
        for example in wanted:
            result = generate(example.request())
            (file,) = result.save(Path(made) / example.name)
            took = duration(sum(result.timings.values()))
            typer.echo(f"{file.name}: {file.stat().st_size / 1000:.0f} kB, took {took}")
        fresh = {file.name: file for file in Path(made).iterdir()}
        kept = [example.clip for example in examples.EXAMPLES if example.clip.name not in fresh]
        size = sum(file.stat().st_size for file in [*fresh.values(), *kept] if file.exists())
        if size > examples.MOST_BYTES:
            raise typer.BadParameter(
                f"The clips take {size / 1e6:.2f} MB; at most {examples.MOST_BYTES / 1e6:.1f} may be kept."
            )
        target.mkdir(exist_ok=True)
        for name, file in fresh.items():
            shutil.move(file, target / name)
    typer.echo(f"{len(fresh)} clips in {target}, {size / 1e6:.2f} MB in all")


if __name__ == "__main__":
    typer.run(main)
