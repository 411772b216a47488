"""Generate from a config file: ``python scripts/diffusion/inference.py configs/diffusion/inference/tiny.py``.

Overrides are ``steps=20`` or, as users of Open-Sora write them, ``--steps 20``. ``torchrun --nproc_per_node 1
--standalone`` may start it.
"""

import csv
import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from opensora import log
from opensora.config import ConfigError, load_config
from opensora.pipelines.request import GenerationRequest
from opensora.pipelines.result import check_destination
from opensora.pipelines.terminal import ProgressBar, duration, interruptible, sentences

PUBLISHED_NAMES = {
    "num_frames": "length",
    "num_sampling_steps": "steps",
    "num_steps": "steps",
    "cfg_scale": "guidance",
    "guidance_scale": "guidance",
    "image_cfg_scale": "image_guidance",
    "neg_prompt": "negative_prompt",
    "ref": "reference_image",
    "loop": "loops",
}
"""Settings of the public code that have another name here."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def main(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Python file that builds one GenerationRequest.")],
    prompt: Annotated[list[str] | None, typer.Option(help="What to show; may be given several times.")] = None,
    prompt_file: Annotated[
        Path | None, typer.Option(help="Prompts: a text file with one a line, or a CSV file with a column 'text'.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Picture that every clip starts from.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first clip of every prompt; default: random.")] = None,
    num_videos: Annotated[int | None, typer.Option(help="Clips of every prompt.")] = None,
    save_dir: Annotated[Path, typer.Option(help="Folder of the numbered files; nothing in it is replaced.")] = Path(
        "samples"
    ),
    verbose: Annotated[bool, typer.Option("--verbose", help="Show log lines and tracebacks.")] = False,
) -> None:
    """Make clips with the settings of CONFIG; further arguments override them: steps=20 or --steps 20."""
    log.setup(logging.DEBUG if verbose else logging.ERROR)
    with sentences(verbose):
        refuse_several_processes()
        base = load_config(config, overrides(context.args))
        if not isinstance(base, GenerationRequest):
            raise ConfigError(f"{config} builds a {type(base).__name__}, expected a GenerationRequest.")
        named: dict[str, Any] = {"reference_image": image, "seed": seed, "num_videos": num_videos}
        base = replace(base, **{name: value for name, value in named.items() if value is not None})
        texts = [*(prompt or []), *(read_prompts(prompt_file) if prompt_file is not None else [])] or [base.prompt]
        requests = [replace(base, prompt=text).validated() for text in texts]
        check_destination(save_dir / "sample_0001", still=requests[0].mode == "t2i")
        for index, request in enumerate(requests, start=1):
            typer.echo(f"[{index}/{len(requests)}] {request.prompt}")
            sample(request, save_dir)


def sample(request: GenerationRequest, folder: Path) -> None:
    """Generate the clips of one prompt and write them under the next free number."""
    from opensora.pipelines.video import generate

    with interruptible() as cancel, ProgressBar() as bar:
        result = generate(request, on_progress=bar, cancel=cancel)
    frames, height, width, _ = result.frames.shape
    files = result.save(folder / f"sample_{next_number(folder):04d}")
    for file, used in zip(files, result.seeds, strict=True):
        length = "picture" if frames == 1 else f"{frames} frames, {result.fps:g} fps"
        typer.echo(f"{file}  {width}×{height}, {length}, seed {used}")
    for note in result.notes:
        typer.echo(note)
    typer.echo(f"It took {duration(sum(result.timings.values()))}.")


def refuse_several_processes() -> None:
    """Several processes would each make the same clip.

    Raises:
        ConfigError: torchrun started more than one.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        return
    if os.environ.get("RANK", "0") != "0":
        raise typer.Exit(2)
    raise ConfigError(
        f"Got {size} processes; this version generates in one. Use `torchrun --nproc_per_node 1 --standalone`, or "
        "start it with python."
    )


def overrides(arguments: list[str]) -> list[str]:
    """``name=value``, ``--name value`` and ``--name=value`` as ``name=value`` with the names of this package.

    Raises:
        ConfigError: an option without a value.
    """
    found, rest = [], list(arguments)
    while rest:
        text = rest.pop(0)
        if text.startswith("--") and "=" not in text:
            if not rest:
                raise ConfigError(f"Got the option {text} without a value.")
            text = f"{text}={rest.pop(0)}"
        key, equals, value = text.removeprefix("--").partition("=")
        key = key.replace("-", "_")
        found.append(f"{PUBLISHED_NAMES.get(key, key)}{equals}{value}")
    return found


def read_prompts(file: Path) -> list[str]:
    """Prompts of a text file (one a line) or of the column ``text`` or ``prompt`` of a CSV file; empty ones are left
    out.

    Raises:
        ConfigError: no such file, no text in UTF-8, no such column, or no prompt in it.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise ConfigError(f"The prompt file {file} cannot be read: {reason}.") from None
    lines = text.splitlines()
    if file.suffix.lower() == ".csv":
        rows = csv.DictReader(lines)
        column = next((name for name in ("text", "prompt") if name in (rows.fieldnames or [])), None)
        if column is None:
            raise ConfigError(f"{file} has the columns {', '.join(rows.fieldnames or [])}; expected one named 'text'.")
        lines = [row[column] or "" for row in rows]
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ConfigError(f"There is no prompt in {file}.")
    return prompts


def next_number(folder: Path) -> int:
    """One more than the highest number of a sample in a folder; 0 in an empty one."""
    names = [re.match(r"sample_(\d+)", path.name) for path in folder.glob("sample_*")]
    return max((int(match[1]) + 1 for match in names if match), default=0)


if __name__ == "__main__":
    app()
