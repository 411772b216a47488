"""The command line: ``python -m opensora generate``, ``models``, ``doctor`` and ``users``.

Everything that takes long to import is imported inside the commands, so that ``--help`` is quick.
"""

import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opensora import __version__, log
from opensora.pipelines.terminal import FAILED, ProgressBar, duration, interruptible, sentences
from opensora.server import users_cli

if TYPE_CHECKING:
    from opensora.checkpoint.hub import DownloadProgress
    from opensora.models.zoo import Preset
    from opensora.pipelines.preflight import Cost
    from opensora.pipelines.request import GenerationRequest
    from opensora.pipelines.result import GenerationResult

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Text to video, image to video."
)

app.add_typer(users_cli.app, name="users")

Verbose = Annotated[bool, typer.Option("--verbose", help="Show log lines, and where an unexpected error came from.")]


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
) -> None:
    """Text to video and image to video with the Open-Sora networks."""


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to show; |0| … |1| … gives every loop its own text.")],
    image: Annotated[Path | None, typer.Option(help="Picture that the clip starts from.")] = None,
    last_image: Annotated[Path | None, typer.Option(help="Picture that the clip ends with, for models of 2.0.")] = None,
    video: Annotated[Path | None, typer.Option(help="Clip that is continued, for models of 2.0.")] = None,
    resolution: Annotated[str | None, typer.Option(help="Such as 144p or 256px; default: the model's own.")] = None,
    aspect_ratio: Annotated[str | None, typer.Option(help="Width:height; 9:16 is upright. Default: 16:9.")] = None,
    length: Annotated[str, typer.Option(help="Seconds (2s) or frames (49f), up to 15 s; 1f makes a picture.")] = "2s",
    motion_score: Annotated[str | None, typer.Option(help="Motion, 1 to 7, or dynamic: as the text suggests.")] = None,
    aesthetic_score: Annotated[float | None, typer.Option(help="Beauty, 0 to 10; 6.5 and more is excellent.")] = None,
    camera_motion: Annotated[
        str | None,
        typer.Option(help="static, pan left, pan right, tilt up, tilt down, zoom in or zoom out."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps; default: the model's.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How closely the text is followed; 1 is freely.")] = None,
    image_guidance: Annotated[float | None, typer.Option(help="How closely the image is followed.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What to move away from.")] = "",
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same clip; default: random.")] = None,
    num_videos: Annotated[int, typer.Option(help="Clips to make, each with the next seed.")] = 1,
    loops: Annotated[int, typer.Option(help="Parts of the clip; each continues the one before.")] = 1,
    model: Annotated[
        str | None, typer.Option(help="Name of a preset (see `models`), or a folder of weights, written with a slash.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="bf16 or fp32; default: what suits the device.")] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:0; default: the best.")] = None,
    offload: Annotated[
        bool | None, typer.Option(help="Networks on the GPU only while needed; default: where its memory is short.")
    ] = None,
    lora: Annotated[
        list[str] | None, typer.Option(metavar="FILE[:STRENGTH]", help="LoRA weights; may be given several times.")
    ] = None,
    refine_prompt: Annotated[bool, typer.Option(help="Have a language model write the prompt anew, see docs.")] = False,
    picture_model: Annotated[
        str | None, typer.Option(help="Paint the prompt first with these weights (flux.1-dev), for models of 2.0.")
    ] = None,
    cond_type: Annotated[str | None, typer.Option(help="Reference's place, such as i2v_tail or v2v_tail.")] = None,
    output: Annotated[
        str | None,
        typer.Option(help="File (replaced if it exists), or a folder with a slash at its end; default: outputs/."),
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Make a clip (MP4) or a picture (PNG) of a prompt."""
    log.setup(logging.DEBUG if verbose else logging.ERROR)
    with sentences(verbose):
        from opensora.pipelines import loras
        from opensora.pipelines.request import GenerationRequest

        request = GenerationRequest(
            _refined(prompt) if refine_prompt else prompt,
            model=_model(model),
            resolution=resolution,
            aspect_ratio=aspect_ratio,
            length=length,
            motion_score=int(motion_score) if motion_score in set("1234567") else motion_score,
            aesthetic_score=aesthetic_score,
            camera_motion=camera_motion,
            steps=steps,
            guidance=guidance,
            image_guidance=image_guidance,
            negative_prompt=negative_prompt,
            seed=seed,
            num_videos=num_videos,
            loops=loops,
            reference_image=image,
            last_image=last_image,
            reference_video=video,
            cond_type=cond_type,
            picture_model=_model(picture_model),
            loras=tuple(map(loras.parse, lora or [])),
            dtype=dtype,
            device=device,
            offload=offload,
        )
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

    before = _cost(estimate(request))
    typer.echo("\n".join(before))
    with interruptible() as cancel, ProgressBar() as bar:
        result = run(request, on_progress=bar, cancel=cancel)
    for line in _summary(result, result.save(path)):
        if line not in before:  # the same note was on the screen already
            typer.echo(line)


def _cost(cost: "Cost") -> list[str]:
    """What will be made and what it will take."""
    from opensora.checkpoint.errors import gigabytes

    low, high = cost.seconds_range
    length = "a picture" if cost.frames == 1 else f"{cost.frames} frames ({cost.seconds_of_video:.1f} s)"
    took = f"about {duration(cost.seconds)} ({duration(low)} to {duration(high)})"
    download = f", after a download of {gigabytes(cost.download_bytes)}" if cost.download_bytes else ""
    first = f"{cost.width}×{cost.height}, {length}: {took}{download}, {gigabytes(cost.bytes_memory)} of memory."
    return [first, *cost.notes]


def _summary(result: "GenerationResult", files: list[Path]) -> list[str]:
    """What was made."""
    frames, height, width, _ = result.frames.shape
    length = "picture" if frames == 1 else f"{frames} frames, {result.fps:g} fps ({frames / result.fps:.2f} s)"
    lines = [f"{file}  {width}×{height}, {length}, seed {seed}" for file, seed in zip(files, result.seeds, strict=True)]
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


def _model(name: str | None) -> str | Path | None:
    """A preset's name, or the folder of a bundle."""
    return Path(name) if name is not None and ("/" in name or "\\" in name) else name


@app.command()
def models(
    download: Annotated[str | None, typer.Option(metavar="NAME", help="Download the weights of a preset.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """List the weights: what is here, what would be downloaded, how large it is."""
    log.setup(logging.DEBUG if verbose else logging.ERROR)
    with sentences(verbose):
        from opensora.models import zoo

        if download is not None:
            _fetch(zoo.PRESETS.get(download) or zoo.find(download))
            return
        if as_json:
            typer.echo(json.dumps([_facts(preset) for preset in zoo.PRESETS.values()], indent=2))
            return
        for preset in zoo.PRESETS.values():
            typer.echo(f"{preset.name:23}{preset.title}")
            typer.echo(f"{'':23}{', '.join(preset.modes)} at {', '.join(preset.resolutions)}; {_state(preset)}")


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
        finding = self_test(_model(model))
        typer.echo(f"{finding.state:8}{finding.name}: {finding.text}")
        if finding.state == "missing":
            raise typer.Exit(FAILED)
        typer.echo("This machine is ready.")
