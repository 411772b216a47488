"""The command line: ``python -m opensora generate``, ``models``, ``doctor``, ``users``, and those of ``commands/``.

Everything that takes long to import is imported inside the commands, so that ``--help`` is quick.
"""

import dataclasses
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opensora import __version__, log
from opensora.checkpoint.layout import ALLOW_PICKLE
from opensora.commands import estimate as estimate_command
from opensora.commands import files
from opensora.commands import self_test as self_test_command
from opensora.commands import worker as worker_command
from opensora.commands.estimate import cost_lines
from opensora.commands.options import Verbose, choose_shardformer, folder_or_name, takes_request
from opensora.pipelines.terminal import FAILED, ProgressBar, duration, interruptible, sentences
from opensora.server import users_cli

if TYPE_CHECKING:
    from opensora.checkpoint.hub import DownloadProgress
    from opensora.models.zoo import Preset
    from opensora.pipelines.request import GenerationRequest
    from opensora.pipelines.result import GenerationResult

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Text to video, image to video."
)

app.add_typer(users_cli.app, name="users")


def main() -> None:
    """Entry point of the console script."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"opensora {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read a T5 that is published as a pickle only, see docs/weights.md.")
    ] = False,
    shardformer: Annotated[
        str | None, typer.Option(metavar="auto|on|off", help="colossalai's policy for T5; default: auto.")
    ] = None,
) -> None:
    """Text to video and image to video with the Open-Sora networks."""
    if allow_pickle:
        os.environ[ALLOW_PICKLE] = "1"
    if shardformer is not None:
        choose_shardformer(shardformer)


@app.command()
@takes_request
def generate(
    request: "GenerationRequest",
    refine_prompt: Annotated[bool, typer.Option(help="Have a language model write the prompt anew, see docs.")] = False,
    output: Annotated[
        str | None,
        typer.Option(help="File (replaced if it exists), or a folder with a slash at its end; default: outputs/."),
    ] = None,
) -> None:
    """Make a clip (MP4) or a picture (PNG) of a prompt."""
    if refine_prompt:
        request = dataclasses.replace(request, prompt=_refined(request.prompt))
    _generate(request.validated(), output)


def _refined(prompt: str) -> str:
    """The prompt as a language model writes it, shown; the prompt itself where that fails, with the reason."""
    from opensora.pipelines.refine import improved

    refined = improved(prompt)
    typer.echo(refined.problem or f"Refined prompt: {refined.text}", err=bool(refined.problem))
    return refined.text


def _generate(request: "GenerationRequest", output: str | None) -> None:
    """Check where the result goes and that the weights are here, say the cost, make it, write it, say what was made."""
    from opensora.pipelines.image_first import bundles
    from opensora.pipelines.request import RequestError, require_weights
    from opensora.pipelines.result import check_destination

    try:
        path = _destination(output, request.prompt)
        check_destination(path, still=request.mode == "t2i")
    except ValueError as error:
        raise RequestError("output", str(error)) from None
    for bundle in bundles(request):
        require_weights(bundle)
    from opensora.pipelines.preflight import estimate
    from opensora.pipelines.video import generate as run

    before = cost_lines(estimate(request))
    typer.echo("\n".join(before))
    with interruptible() as cancel, ProgressBar() as bar:
        result = run(request, on_progress=bar, cancel=cancel)
    for line in _summary(result, result.save(path)):
        if line not in before:  # the same note was on the screen already
            typer.echo(line)


def _summary(result: "GenerationResult", files: list[Path]) -> list[str]:
    """What was made."""
    frames, height, width, _ = result.frames.shape
    length = "picture" if frames == 1 else f"{frames} frames, {result.fps:g} fps ({frames / result.fps:.2f} s)"
    clips, more = files[: len(result.seeds)], files[len(result.seeds) :]
    lines = [f"{file}  {width}×{height}, {length}, seed {seed}" for file, seed in zip(clips, result.seeds, strict=True)]
    lines += [f"{file}  {width}×{height}, the picture that was painted first" for file in more]
    timings = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in result.timings.items())
    return [*lines, *result.notes, f"It took {duration(sum(result.timings.values()))}: {timings}."]


def _destination(output: str | None, prompt: str) -> Path:
    """The file that was asked for, or one in a folder, named after the prompt, that is not there yet."""
    from opensora.pipelines.result import home

    folder = home(output or "outputs")
    if output is not None and not output.endswith(("/", "\\")) and not _is_folder(folder):
        return Path(output)
    words = re.findall(r"\w+", re.sub(r"\|\d+\|", " ", prompt.lower()))
    name = "-".join(words[:6])[:40].strip("-_") or "clip"
    taken = {path.stem for path in folder.glob("*")} if _is_folder(folder) else set()
    number = 1
    while any(stem == f"{name}-{number:03}" or stem.startswith(f"{name}-{number:03}-") for stem in taken):
        number += 1
    return folder / f"{name}-{number:03}"


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long; whoever writes there says so
        return False


@app.command()
def models(
    download: Annotated[str | None, typer.Option(metavar="NAME", help="Download the weights of a preset.")] = None,
    self_test: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make a known clip of a preset and compare it with its record.")
    ] = None,
    record: Annotated[bool, typer.Option("--record", help="With --self-test: keep the clip as the record.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """List the weights: what is here, what would be downloaded, how large it is."""
    if record and self_test is None:
        raise typer.BadParameter("It is for a self-test; give --self-test NAME too.", param_hint="--record")
    log.setup(logging.DEBUG if verbose else logging.ERROR)
    with sentences(verbose):
        from opensora.models import zoo

        if download is not None:
            _fetch(zoo.PRESETS.get(download) or zoo.find(download))
            return
        if self_test is not None:
            self_test_command.run(self_test, record)
            return
        if as_json:
            typer.echo(json.dumps([_facts(preset) for preset in zoo.PRESETS.values()], indent=2))
            return
        width = max(map(len, zoo.PRESETS)) + 2
        for preset in zoo.PRESETS.values():
            typer.echo(f"{preset.name:{width}}{preset.title}")
            typer.echo(f"{'':{width}}{', '.join(preset.modes)} at {', '.join(preset.resolutions)}; {_state(preset)}")


def _facts(preset: "Preset") -> dict[str, Any]:
    from opensora.models import zoo

    state = zoo.status(preset)
    return {
        "name": preset.name,
        "title": preset.title,
        "family": preset.family,
        "modes": preset.modes,
        "resolutions": preset.resolutions,
        "installed": state.installed,
        "missing": state.missing,
        "bytes": preset.bytes,
        "bytes_to_download": state.bytes_to_download,
        "peak_gpu_bytes": preset.peak_gpu_bytes,
    }


def _state(preset: "Preset") -> str:
    from opensora.checkpoint.errors import gigabytes
    from opensora.models import zoo

    state = zoo.status(preset)
    gpu = f"; needs a GPU with about {gigabytes(preset.peak_gpu_bytes)}" if preset.peak_gpu_bytes else ""
    if state.installed:
        return f"here{gpu}"
    if preset.bundled:
        return f"missing from this clone: {', '.join(state.missing)}"
    return f"not here, a download of about {gigabytes(state.bytes_to_download)}{gpu}"


def _fetch(preset: "Preset") -> None:
    """Download a preset, with a bar for every repository."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from opensora.models import zoo

    tasks: dict[tuple[str, str], TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def show(progress: "DownloadProgress") -> None:
            key = progress.source, progress.stage
            if key not in tasks:
                doing = "checking" if progress.stage == "verify" else "downloading"
                tasks[key] = bars.add_task(f"{doing} {progress.source}")
            bars.update(tasks[key], completed=progress.done, total=progress.total)

        zoo.fetch(preset, on_progress=show)
    typer.echo(f"{preset.name} is here and verified.")


@app.command()
def doctor(
    model: Annotated[str | None, typer.Option(help="What the self-test generates with; default: the bundled.")] = None,
    verbose: Verbose = False,
) -> None:
    """Look at this machine, say what is missing, and make one short clip to prove that it works."""
    log.setup(logging.DEBUG if verbose else logging.ERROR)
    with sentences(verbose):
        from opensora.pipelines.doctor import look, self_test

        broken = False
        for finding in look():
            typer.echo(f"{finding.state:8}{finding.name}: {finding.text}")
            broken |= finding.state == "missing"
        if broken:
            typer.echo("The self-test needs what is missing; run doctor again when it is here.", err=True)
            raise typer.Exit(FAILED)
        typer.echo("        self-test: making a short clip, up to a minute on a slow machine …")
        finding = self_test(folder_or_name(model))
        typer.echo(f"{finding.state:8}{finding.name}: {finding.text}")
        if finding.state == "missing":
            raise typer.Exit(FAILED)
        typer.echo("This machine is ready.")


estimate_command.register(app)
worker_command.register(app)
files.register(app)
