"""``python -m opensora estimate``: what a request would take on this machine now, and the nearest that fits."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opensora.commands.options import takes_request
from opensora.pipelines.terminal import FAILED, duration

if TYPE_CHECKING:
    from opensora.pipelines.preflight import Cost
    from opensora.pipelines.request import GenerationRequest
    from opensora.pipelines.verdict import Preflight


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(takes_request(estimate))


def estimate(
    request: "GenerationRequest",
    make_it_fit: Annotated[bool, typer.Option("--fit", help="Propose the nearest settings that fit.")] = False,
    most_memory: Annotated[
        float | None, typer.Option(help="Gigabytes of memory that it may take; default: what is free.")
    ] = None,
    most_seconds: Annotated[float | None, typer.Option(help="Seconds that it may take.")] = None,
    output: Annotated[Path, typer.Option(help="Folder that results would go to.")] = Path("outputs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a clip would take: time, memory, disk and downloads; exit code 1 where it would not work."""
    from opensora.pipelines.copy_as import as_command
    from opensora.pipelines.fit import fit
    from opensora.pipelines.verdict import Limits, preflight

    limits = Limits(None if most_memory is None else int(most_memory * 1e9), most_seconds, output)
    found = preflight(request, limits)
    proposal = fit(request, limits) if make_it_fit and found.colour == "red" else None
    if as_json:
        told = _json(found) | ({"fit": _changes(proposal.changes)} if proposal is not None else {})
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        typer.echo("\n".join(_lines(found)))
        if proposal is not None:
            typer.echo("\n".join(["", "It fits with:", *proposal.sentences, *_lines(proposal.preflight)]))
            typer.echo(as_command(proposal.request))
    if found.colour == "red":
        raise typer.Exit(FAILED)


def cost_lines(cost: "Cost") -> list[str]:
    """What will be made and what it will take, and what a person should know."""
    from opensora.checkpoint.errors import gigabytes

    low, high = cost.seconds_range
    length = "a picture" if cost.frames == 1 else f"{cost.frames} frames ({cost.seconds_of_video:.1f} s)"
    took = f"about {duration(cost.seconds)} ({duration(low)} to {duration(high)})"
    download = f", after a download of {gigabytes(cost.download_bytes)}" if cost.download_bytes else ""
    first = f"{cost.width}×{cost.height}, {length}: {took}{download}, {gigabytes(cost.bytes_memory)} of memory."
    return [first, *cost.notes]


def _lines(found: "Preflight") -> list[str]:
    from opensora.checkpoint.errors import gigabytes

    first, *_ = cost_lines(found.cost)
    room = "" if found.memory is None else f", {gigabytes(found.memory.free)} of memory free"
    free = f"On {found.device}{room}, {gigabytes(found.disk_free)} of disk free."
    return [f"{found.colour}: {first}", free, *found.reasons, *found.notes]


def _json(found: "Preflight") -> dict[str, Any]:
    return {
        "verdict": found.colour,
        "reasons": found.reasons,
        "notes": found.notes,
        "seconds": round(found.cost.seconds, 2),
        "seconds_range": [round(seconds, 2) for seconds in found.cost.seconds_range],
        "stages": {name: round(seconds, 2) for name, seconds in found.cost.stages.items()},
        "bytes_memory": found.cost.bytes_memory,
        "bytes_memory_high": found.cost.bytes_memory_high,
        "bytes_download": found.cost.download_bytes,
        "bytes_files": found.disk_bytes,
        "device": found.device,
        "memory": None if found.memory is None else dataclasses.asdict(found.memory),
        "bytes_disk_free": found.disk_free,
        "width": found.cost.width,
        "height": found.cost.height,
        "frames": found.cost.frames,
    }


def _changes(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in changes.items()}
