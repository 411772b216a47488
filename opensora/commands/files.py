"""``python -m opensora show``, ``again`` and ``export``: what a finished file says, a second run of it, other forms."""

import json
import logging
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opensora import log
from opensora.commands.options import Verbose
from opensora.pipelines.terminal import BAD_REQUEST, FAILED, ProgressBar, interruptible, sentences

if TYPE_CHECKING:
    from opensora.pipelines.reproduce import Recorded

File = Annotated[Path, typer.Argument(help="An MP4 or PNG that was made here, or a WebM exported from one.")]

NOT_SHOWN = ("prompt", "texts", "parts")
"""Settings that the list leaves out, since they are shown by themselves or follow from others."""


class As(StrEnum):
    """Forms in which a request is shown."""

    LIST = "list"
    JSON = "json"
    PYTHON = "python"
    COMMAND = "command"
    TORCHRUN = "torchrun"
    CURL = "curl"


class Form(StrEnum):
    """Forms of a clip."""

    GIF = "gif"
    WEBM = "webm"
    ZIP = "zip"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(show)
    app.command()(again)
    app.command()(export)


def show(
    file: File,
    form: Annotated[
        As, typer.Option("--as", help="A list, JSON, or text that makes the clip again somewhere else.")
    ] = As.LIST,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder to write the pictures to that the clip began or ended with.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Print how a file was made: every setting, versions and hashes of weights."""
    log.setup(logging.DEBUG if verbose else logging.ERROR)
    with sentences(verbose):
        from opensora.pipelines.copy_as import TEXTS

        recorded = _read(file)
        if form is As.JSON:
            typer.echo(json.dumps(_plain(recorded.record), indent=1, ensure_ascii=False))
        elif form is As.LIST:
            typer.echo("\n".join(_lines(recorded)))
        else:
            typer.echo(TEXTS[form](recorded.request).rstrip())
            for need in recorded.needs:
                typer.echo(need.text, err=True)
        if pictures is not None:
            _write_pictures(recorded, pictures)


def again(
    file: File,
    image: Annotated[Path | None, typer.Option(help="The picture that the clip started from.")] = None,
    last_image: Annotated[Path | None, typer.Option(help="The picture that the clip ended with.")] = None,
    video: Annotated[Path | None, typer.Option(help="The clip that was continued.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of the weights, where no preset names them.")] = None,
    picture_model: Annotated[Path | None, typer.Option(help="Folder of the weights that painted the picture.")] = None,
    lora: Annotated[list[Path] | None, typer.Option(help="LoRA weights; may be given several times.")] = None,
    output: Annotated[str | None, typer.Option(help="Keep what the second run makes in this file.")] = None,
    verbose: Verbose = False,
) -> None:
    """Make a file again and say whether it is equal, or why it is not. What the file does not hold has to be given."""
    log.setup(logging.DEBUG if verbose else logging.ERROR)
    with sentences(verbose):
        from opensora.pipelines.again import run_again
        from opensora.pipelines.reproduce import supply
        from opensora.pipelines.result import check_destination

        recorded = _read(file)
        request = supply(
            recorded,
            reference_image=image,
            last_image=last_image,
            reference_video=video,
            model=model,
            picture_model=picture_model,
            loras=tuple(lora or ()),
        )
        if output is not None:
            with _bad_names():
                check_destination(output, still=request.mode == "t2i")
        with interruptible() as cancel, ProgressBar() as bar:
            verdict = run_again(recorded, request, file, on_progress=bar, cancel=cancel)
        typer.echo("\n".join(verdict.sentences()))
        if output is not None:
            for kept in verdict.result.save(output):
                typer.echo(str(kept))
        if not verdict.same_pixels:
            raise typer.Exit(FAILED)


def export(
    file: File,
    form: Annotated[Form, typer.Option("--format", help="gif (small), webm (VP9) or zip (every frame as PNG).")],
    output: Annotated[Path | None, typer.Option(help="The file; default: beside the clip.")] = None,
    verbose: Verbose = False,
) -> None:
    """Write a clip as GIF, as WebM, or its frames as a zip archive."""
    log.setup(logging.DEBUG if verbose else logging.ERROR)
    with sentences(verbose):
        from opensora.pipelines.export import export as write

        with _bad_names():
            made = write(file, form.value, output)
        typer.echo(f"{made}  {made.stat().st_size / 1000:,.0f} kB")


def _read(file: Path) -> "Recorded":
    from opensora.pipelines.reproduce import read_settings

    with _bad_names():
        return read_settings(file)


@contextmanager
def _bad_names() -> Iterator[None]:
    """End the command with the sentence of a file or a name that cannot be used."""
    from opensora.pipelines.errors import RequestError

    try:
        yield
    except RequestError:
        raise
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(BAD_REQUEST) from error
    except OSError as error:
        typer.echo(f"The file cannot be read or written: {error.strerror or error}.", err=True)
        raise typer.Exit(FAILED) from error


def _lines(recorded: "Recorded") -> list[str]:
    """The record for people."""
    settings, plan = recorded.record["settings"], recorded.record["plan"]
    lines = [_inert(str(settings.get("prompt", ""))), ""]
    if recorded.shows:
        lines = [f"This is {recorded.shows}, of a clip with these settings.", *lines]
    lines += [f"{name:22}{_short(value)}" for name, value in sorted(settings.items()) if name not in NOT_SHOWN]
    lines += ["", f"{'program':22}{recorded.record['program']}"]
    for name, value in plan.items():
        if not isinstance(value, dict):
            lines.append(f"{name:22}{_short(value)}")
    for group in ("versions", "weights"):
        entries = plan.get(group)
        if isinstance(entries, dict):
            lines += [f"{f'{group} {name}':22}{_short(value)}" for name, value in entries.items()]
    lines.append(f"{'pixels sha256':22}{_short(recorded.record.get('pixels_sha256', 'not recorded'))}")
    for name, told in (recorded.record.get("given") or {}).items():
        if isinstance(told, dict):
            where = "in this file" if "png" in told else "not in this file"
            lines.append(f"{name.replace('_', ' '):22}{_short(told.get('sha256'))} {where}")
    return [*lines, *([""] if recorded.needs else []), *(need.text for need in recorded.needs)]


def _short(value: Any) -> str:
    text = _inert(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _inert(text: str) -> str:
    """Text of a file that somebody else may have made, without letters that a terminal would obey."""
    return "".join(c if c == "\n" or unicodedata.category(c) != "Cc" else repr(c)[1:-1] for c in text)


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """The record without the bytes of pictures."""
    given = record.get("given")
    if not isinstance(given, dict):
        return record
    told = {n: {k: v for k, v in e.items() if k != "png"} if isinstance(e, dict) else e for n, e in given.items()}
    return {**record, "given": told}


def _write_pictures(recorded: "Recorded", folder: Path) -> None:
    """The pictures inside the file, under the names that the texts of :mod:`opensora.pipelines.copy_as` use."""
    from PIL import Image

    from opensora.pipelines.copy_as import FILES

    held = {name: getattr(recorded.request, name) for name in FILES}
    with _bad_names():
        for name, picture in held.items():
            if isinstance(picture, Image.Image):
                folder.mkdir(parents=True, exist_ok=True)
                picture.save(folder / FILES[name])
                typer.echo(str(folder / FILES[name]))
    if not any(isinstance(picture, Image.Image) for picture in held.values()):
        typer.echo("There is no picture in this file.", err=True)
