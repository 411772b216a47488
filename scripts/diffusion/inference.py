"""Generate from a config file: ``python scripts/diffusion/inference.py configs/diffusion/inference/tiny.py``.

Overrides are ``steps=20`` or, as users of Open-Sora write them, ``--steps 20``. Under ``torchrun --nproc_per_node 8
--standalone`` eight processes make every clip together.
"""

import csv
import io
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from opensora import log
from opensora.config import ConfigError, apply_overrides, load_config
from opensora.distributed.group import Group
from opensora.pipelines.published_options import overrides, references
from opensora.pipelines.request import DYNAMIC, GenerationRequest
from opensora.pipelines.result import check_destination
from opensora.pipelines.terminal import ProgressBar, duration, interruptible, sentences

REFERENCE_COLUMNS = ("ref", "reference_path")
"""Columns of a table of prompts that name a row's reference."""


class Line(NamedTuple):
    """A prompt with the reference that a table gives it."""

    prompt: str
    ref: str | None = None


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def main(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Python file that builds one GenerationRequest.")],
    prompt: Annotated[list[str] | None, typer.Option(help="What to show; may be given several times.")] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            "--prompt-file",
            "--dataset.data-path",
            "--dataset.data_path",
            help="Prompts: a text file with one a line, or a CSV file with a column 'text' and, where wanted, 'ref'.",
        ),
    ] = None,
    ref: Annotated[
        str | None,
        typer.Option(
            "--ref",
            "--image",
            help="What every clip starts from or ends with: an image, two with a semicolon between them, or a clip.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first clip of every prompt; default: random.")] = None,
    num_videos: Annotated[
        int | None, typer.Option("--num-videos", "--num-sample", "--num_sample", help="Clips of every prompt.")
    ] = None,
    save_dir: Annotated[
        Path,
        typer.Option("--save-dir", "--save_dir", help="Folder of the numbered files; nothing in it is replaced."),
    ] = Path("samples"),
    verbose: Annotated[bool, typer.Option("--verbose", help="Show log lines and tracebacks.")] = False,
) -> None:
    """Make clips with the settings of CONFIG; further arguments override them: steps=20 or --steps 20."""
    log.setup(logging.DEBUG if verbose else logging.ERROR)
    with sentences(verbose):
        group = Group.start()
        base = load_config(config)
        if not isinstance(base, GenerationRequest):
            raise ConfigError(f"{config} builds a {type(base).__name__}, expected a GenerationRequest.")
        base = apply_overrides(base, overrides(context.args, base))
        named: dict[str, Any] = {"seed": seed, "num_videos": num_videos}
        base = replace(base, **{name: value for name, value in named.items() if value is not None})
        lines = [Line(text) for text in prompt or []]
        lines += read_prompts(prompt_file) if prompt_file is not None else []
        requests = [request_of(base, line, ref).validated() for line in lines or [Line(base.prompt)]]
        check_destination(save_dir / "sample_0001", still=requests[0].mode == "t2i")
        with group.together():
            for index, request in enumerate(requests, start=1):
                if group.first:
                    typer.echo(f"[{index}/{len(requests)}] {request.prompt}")
                sample(request, save_dir, group)


def request_of(base: GenerationRequest, line: Line, ref: str | None) -> GenerationRequest:
    """The request of a prompt; its own reference counts before the one of the command line."""
    given = line.ref or ref
    files: dict[str, Any] = {} if given is None else references(given, base.cond_type)
    return replace(base, prompt=line.prompt, **files)


def sample(request: GenerationRequest, folder: Path, group: Group) -> None:
    """Generate the clips of one prompt in all processes; the first one writes them under the next free number."""
    from opensora.pipelines.video import generate

    request = agreed(request, group)
    if not group.first:
        generate(request, group=group)
        return
    with interruptible() as cancel, ProgressBar() as bar:
        result = generate(request, on_progress=bar, cancel=cancel, group=group)
    frames, height, width, _ = result.frames.shape
    files = result.save(folder / f"sample_{next_number(folder):04d}")
    clips, more = files[: len(result.seeds)], files[len(result.seeds) :]
    for file, used in zip(clips, result.seeds, strict=True):
        length = "picture" if frames == 1 else f"{frames} frames, {result.fps:g} fps"
        typer.echo(f"{file}  {width}×{height}, {length}, seed {used}")
    for file in more:
        typer.echo(f"{file}  {width}×{height}, the picture that was painted first")
    for note in result.notes:
        typer.echo(note)
    typer.echo(f"It took {duration(sum(result.timings.values()))}.")


def agreed(request: GenerationRequest, group: Group) -> GenerationRequest:
    """The request with what is drawn or asked for once: a random seed, and a motion score that follows the text."""
    from opensora.pipelines.refine import dynamic_motion

    if request.seed is None:
        request = replace(request, seed=said_by_first(group, lambda: secrets.randbelow(2**31)))
    if request.motion_score == DYNAMIC and group.size > 1:
        request = replace(request, motion_score=said_by_first(group, lambda: dynamic_motion(request.prompt)[0]))
    return request


def said_by_first(group: Group, number: Callable[[], int]) -> int:
    """A whole number that the first process finds, for all processes."""
    import torch

    mine = torch.tensor([number() if group.first else 0])
    return int(group.gather(mine, [(1,)] * group.size)[0])


def read_prompts(file: Path) -> list[Line]:
    """Prompts of a text file (one a line) or of the column ``text`` or ``prompt`` of a CSV file, whose references are
    in a column ``ref`` or ``reference_path``; rows without a prompt are left out.

    Raises:
        ConfigError: no such file, no text in UTF-8, no such column, a row that does not fit the columns, or no prompt.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ConfigError(f"The prompt file {file} cannot be read: {reason}.") from None
    lines = read_table(file, text) if file.suffix.lower() == ".csv" else [Line(line) for line in text.split("\n")]
    prompts = [Line(line.prompt.strip(), line.ref) for line in lines if line.prompt.strip()]
    if not prompts:
        raise ConfigError(f"There is no prompt in {file}.")
    return prompts


def read_table(file: Path, text: str) -> list[Line]:
    """The rows of a CSV file; what stands between quotes may have line breaks.

    Raises:
        ConfigError: no such column, or a row that does not fit the columns.
    """
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next(rows, [])
        column = next((names.index(name) for name in ("text", "prompt") if name in names), None)
        if column is None:
            raise ConfigError(f"{file} has the columns {', '.join(names)}; expected one named 'text'.")
        given = next((names.index(name) for name in REFERENCE_COLUMNS if name in names), None)
        lines = []
        for row in filter(None, rows):
            if len(row) != len(names):
                raise ConfigError(
                    f"The row that ends in line {rows.line_num} of {file} has {len(row)} cells; expected "
                    f"{len(names)}, as there are columns. Put text with commas between double quotes."
                )
            lines.append(Line(row[column], None if given is None else row[given].strip() or None))
    except csv.Error as error:
        raise ConfigError(f"{file} is no CSV file in line {rows.line_num}: {error}.") from None
    return lines


def next_number(folder: Path) -> int:
    """One more than the highest number of a sample in a folder; 0 in an empty one."""
    names = [re.match(r"sample_(\d+)", path.name) for path in folder.glob("sample_*")]
    return max((int(match[1]) + 1 for match in names if match), default=0)


if __name__ == "__main__":
    app()
