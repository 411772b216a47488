"""``python -m opensora worker``: makes the clips of a page that runs elsewhere."""

import logging
from pathlib import Path
from typing import Annotated

import typer


def worker(
    database: Annotated[
        str, typer.Option(envvar="OPENSORA_DATABASE", help="Address of the page's PostgreSQL, postgresql://….")
    ],
    output_dir: Annotated[
        Path,
        typer.Option(
            envvar="OPENSORA_OUTPUT_DIR",
            help="The page's output folder, if all machines share it; else a folder for files on their way.",
        ),
    ] = Path("outputs"),
    storage: Annotated[
        str | None,
        typer.Option(
            envvar="OPENSORA_STORAGE", help="Where files go, as fsspec writes it, such as s3://bucket/videos."
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option("--gpus", "--gpu", help="Its GPU by number, or with --span 2 two, 0,1. Default: what it finds."),
    ] = None,
    span: Annotated[
        int, typer.Option(help="GPUs that make each clip together; processes where there is no GPU.", min=1)
    ] = 1,
    attempts: Annotated[int, typer.Option(help="Attempts at a job that ends its worker.", min=1)] = 3,
    warm_up: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Load a bundled model before the first job.")
    ] = None,
    generate: Annotated[str | None, typer.Option(hidden=True, help="module:function that makes a result.")] = None,
) -> None:
    """Make the clips of a page that runs on another machine; one for each GPU or set of GPUs, on any machines."""
    import os

    from opensora.jobs.fleet import GPUS

    if not database.startswith(("postgresql://", "postgres://")):
        raise typer.BadParameter(
            f"Got {database.partition('@')[2] or database!r}; workers outside the page's machine need PostgreSQL, "
            "postgresql://user:password@host/name. On the page's machine, give the page --gpus instead.",
            param_hint="--database",
        )
    if gpus is not None:
        os.environ[GPUS] = own_gpus(gpus, span)
    from opensora.jobs.storage import check_storage
    from opensora.jobs.worker import GENERATE, Settings, Worker, run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("dbos").setLevel(logging.WARNING)
    settings = Settings(output_dir, database, storage, None, generate or GENERATE, attempts, warm_up, span)
    try:
        made = Worker(settings)
        check_storage(made.storage, storage)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--storage") from None
    except OSError as error:
        raise typer.BadParameter(f"Nothing can be written to {output_dir}: {error.strerror}.") from None
    typer.echo(f"Worker {made.id} is ready; Ctrl-C ends it, and the job that it is at goes to another.")
    run(made)


def own_gpus(gpus: str, span: int) -> str:
    """The GPUs of this worker, as many as make a clip together."""
    from opensora.jobs.fleet import gpu_sets

    try:
        sets = gpu_sets(gpus, span)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--gpus") from None
    if len(sets) > 1:
        count = gpus.count(",") + 1
        raise typer.BadParameter(
            f"Got {count} GPUs for a worker whose clips span {span}. Start a worker for each of {' and '.join(sets)}, "
            f"or let all make each clip together: --span {count}.",
            param_hint="--gpus",
        )
    return sets[0]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)
