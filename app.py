"""Start the Open-Sora page: ``python app.py``, then open the printed address."""

import errno
import logging
import os
import signal
import socket
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opensora.commands.options import choose_shardformer

if TYPE_CHECKING:
    from opensora.jobs.durable import DurableQueue
    from opensora.jobs.retention import Retention
    from opensora.server.settings import ServerSettings
    from opensora.space.place import Space


def main(
    host: Annotated[str, typer.Option(envvar="GRADIO_SERVER_NAME", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="GRADIO_SERVER_PORT", help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 7860,
    output_dir: Annotated[
        Path, typer.Option(envvar="OPENSORA_OUTPUT_DIR", help="Folder of the generated files.")
    ] = Path("outputs"),
    model: Annotated[str, typer.Option(help="Model chosen when the page opens.")] = "tiny",
    keep_days: Annotated[float | None, typer.Option(help="Delete clips of this age; without it none.")] = None,
    keep_gb: Annotated[float | None, typer.Option(help="Delete the oldest clips above this size in all.")] = None,
    users: Annotated[
        Path | None,
        typer.Option(envvar="OPENSORA_USERS", help="Ask for a login; made by: python -m opensora users add NAME."),
    ] = None,
    no_login: Annotated[
        bool,
        typer.Option(
            "--no-login", envvar="OPENSORA_NO_LOGIN", help="Let everybody in who reaches --host, without a login."
        ),
    ] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option(envvar="OPENSORA_ALLOW_HOSTS", help="Name under which browsers reach the page.")
    ] = None,
    webhook_host: Annotated[
        list[str] | None,
        typer.Option(envvar="OPENSORA_WEBHOOK_HOSTS", help="Host that may be told of finished clips, see docs/api.md."),
    ] = None,
    lora_dir: Annotated[
        Path | None,
        typer.Option(envvar="OPENSORA_LORA_DIR", help="Folder of LoRA files that the page and programs may choose."),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(help="A worker for each of these GPUs, such as 0,1; none: workers run elsewhere. Default: one."),
    ] = None,
    span: Annotated[
        int,
        typer.Option(help="GPUs of each worker that make each clip together; processes where there is no GPU.", min=1),
    ] = 1,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read a T5 that is published as a pickle only, see docs/weights.md.")
    ] = False,
    shardformer: Annotated[
        str,
        typer.Option(envvar="OPENSORA_SHARDFORMER", metavar="auto|on|off", help="colossalai's policy for T5."),
    ] = "auto",
    database: Annotated[
        str | None,
        typer.Option(
            envvar="OPENSORA_DATABASE", help="PostgreSQL for workers on several machines, see docs/deploy.md."
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(envvar="OPENSORA_STORAGE", help="Where files go between machines, such as s3://bucket/videos."),
    ] = None,
) -> None:
    """Serve the page until it is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    for library in ("httpx", "dbos"):
        logging.getLogger(library).setLevel(logging.WARNING)
    check_model(model)
    prepare_folder(output_dir)
    retention = what_to_keep(keep_days, keep_gb)
    offer_loras(lora_dir)
    if allow_pickle:
        os.environ["OPENSORA_ALLOW_PICKLE"] = "1"  # read in opensora/checkpoint/layout.py, by workers too
    choose_shardformer(shardformer)
    workers = who_works(gpus, span, database, storage)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        settings = who_may_come(listener, host, output_dir, users, no_login, allow_host or [], webhook_host or [])
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        if "GRADIO_TEMP_DIR" not in os.environ:
            from opensora.server.upload_folder import upload_folder

            os.environ["GRADIO_TEMP_DIR"] = str(stack.enter_context(upload_folder()))
        serve(listener, settings, model, retention, workers)


@dataclass(frozen=True)
class Workers:
    """Who makes the clips."""

    gpus: tuple[str | None, ...] = (None,)
    """GPUs of each worker of this machine."""
    span: int = 1
    """GPUs, or processes, that make each clip together."""
    database: str | None = None
    """Address of the PostgreSQL that workers elsewhere reach; ``None`` keeps jobs in the output folder."""
    storage: str | None = None
    """Where files go between machines; ``None`` for a shared folder."""


def who_works(gpus: str | None, span: int, database: str | None, storage: str | None) -> Workers:
    """The workers that the options ask for."""
    from opensora.jobs.fleet import gpu_sets

    if database is not None and not database.startswith(("postgresql://", "postgres://")):
        raise typer.BadParameter("It has to be like postgresql://user:password@host/name.", param_hint="--database")
    if gpus == "none" and database is None:
        raise typer.BadParameter(
            "Without a worker here the jobs need --database, where workers of other machines find them.",
            param_hint="--gpus",
        )
    try:
        chosen: tuple[str | None, ...] = (None,) if gpus is None else () if gpus == "none" else gpu_sets(gpus, span)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--gpus") from None
    if span > 1 and not chosen:
        raise typer.BadParameter(
            f"Got {span}, but no worker runs here; give it to the workers, python -m opensora worker --span {span}.",
            param_hint="--span",
        )
    return Workers(chosen, span, database, storage)


def offer_loras(folder: Path | None) -> None:
    """Let the page and programs choose the LoRAs of a folder; workers are told by the environment."""
    from opensora.pipelines.lora_folder import VARIABLE

    if folder is None:
        os.environ.pop(VARIABLE, None)  # set, but empty
        return
    if not folder.is_dir():
        raise typer.BadParameter(f"There is no folder {folder}; name one with LoRA files.", param_hint="--lora-dir")
    os.environ[VARIABLE] = str(folder.absolute())


def check_model(name: str) -> None:
    """Refuse a model that the page does not offer."""
    from opensora.models import zoo

    names = list(zoo.PRESETS)
    if name not in names:
        raise typer.BadParameter(f"Got {name!r}; choose one of {', '.join(names)}.", param_hint="--model")


def prepare_folder(folder: Path) -> None:
    """Make the output folder and make sure that files can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise typer.BadParameter(
            f"Nothing can be written to {folder}: {error.strerror}. Choose another folder.", param_hint="--output-dir"
        ) from None


def what_to_keep(days: float | None, gigabytes: float | None) -> "Retention":
    """How long and how much finished clips are kept."""
    from opensora.jobs.retention import Retention

    try:
        return Retention(days, None if gigabytes is None else round(gigabytes * 1e9))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--keep-days or --keep-gb") from None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, before anything slow is loaded: a browser that comes early waits instead of failing."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except socket.gaierror:
        raise typer.BadParameter(f"There is no address {host!r} on this machine.", param_hint="--host") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"Port {port} is in use. Stop the program that uses it, or choose another, such as {port + 1}."
        else:
            reason = f"Port {port} of {host} cannot be opened: {error.strerror}."
        raise typer.BadParameter(reason, param_hint="--port") from None


def who_may_come(
    listener: socket.socket,
    host: str,
    output_dir: Path,
    users: Path | None,
    no_login: bool,
    allow_hosts: list[str],
    webhook_hosts: list[str],
) -> "ServerSettings":
    """How the server is reached; refuses to be open to others by accident."""
    from opensora.server.settings import ServerSettings

    on_space = "SPACE_ID" in os.environ  # who may come there is set there, and its page is shown inside another
    framed_by = ("https://huggingface.co",) if on_space else ()
    if users is not None and not users.is_file():
        how = f"Make it with: python -m opensora users add NAME --file {users}"
        raise typer.BadParameter(f"There is no users file {users}. {how}", param_hint="--users")
    try:
        settings = ServerSettings(
            output_dir,
            listener.getsockname()[0],
            users,
            allow_hosts=(
                *allow_hosts,
                *([host] if host[:1].isalpha() else []),
                *os.environ.get("SPACE_HOST", "").split(),
            ),
            webhook_hosts=tuple(webhook_hosts),
            webhook_secret=os.environ.get("OPENSORA_WEBHOOK_SECRET"),
            framed_by=framed_by,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--allow-host or --webhook-host") from None
    if users is None and not (settings.local or no_login or on_space):
        raise typer.BadParameter(
            f"Without a login the page is for this machine alone, and {host} is reached by others. Ask them for a "
            "login: python -m opensora users add NAME, then --users users.json. Or let everybody in: --no-login.",
            param_hint="--host",
        )
    return settings


def open_queue(
    space: "Space | None", output_dir: Path, model: str, retention: "Retention", workers: Workers
) -> "DurableQueue":
    """The queue with its workers; on a Space with ZeroGPU the worker is in this process, where GPUs are asked for."""
    if space is not None and space.uses_zero_gpu:
        if workers != Workers():
            raise typer.BadParameter(
                "On ZeroGPU the page asks for GPUs itself; leave --gpus, --span, --database and --storage out."
            )
        from opensora.space.zero import ZeroGpu

        gpu = ZeroGpu()
        gpu.report()
        from opensora.space.queue import ZeroQueue

        return ZeroQueue(output_dir, gpu, retention)
    from sqlalchemy.exc import OperationalError

    from opensora.jobs.durable import DurableQueue

    try:
        return DurableQueue(
            output_dir,
            warm_up=model,
            retention=retention,
            database=workers.database,
            storage=workers.storage,
            gpus=workers.gpus,
            span=workers.span,
        )
    except OperationalError:
        place = (workers.database or "").rpartition("@")[2]
        raise typer.BadParameter(
            f"The database {place} does not answer, or refuses this user. Start it, or check the address.",
            param_hint="--database",
        ) from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--storage") from None


def prepare_space() -> None:
    """On a Hugging Face Space: let files go to its storage, unless the environment says another folder."""
    from opensora.space.place import settle

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        settle(os.environ)
    except (ValueError, OSError) as error:
        raise SystemExit(f"This Space cannot start: {error}") from None


def serve(
    listener: socket.socket, settings: "ServerSettings", model: str, retention: "Retention", workers: Workers
) -> None:
    """Run the page on a listening socket until Ctrl-C or SIGTERM; unfinished jobs go on at the next start."""
    import uvicorn

    from opensora.jobs.durable import FolderInUse
    from opensora.server.app import create_server
    from opensora.server.errors import ApiError
    from opensora.space.place import here
    from opensora.ui.surroundings import NOTHING, Surroundings
    from opensora.ui.web import CLOSED, add_page
    from opensora.ui.words import told

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # services and containers stop with it; ends as Ctrl-C
    space = here()
    try:
        queue = open_queue(space, settings.output_dir, model, retention, workers)
    except FolderInUse as error:
        raise typer.BadParameter(str(error), param_hint="--output-dir") from None
    try:
        surroundings = NOTHING if space is None else Surroundings(space.notice(), space.duplicate)
        app, videos = create_server(queue, settings, CLOSED, made_here=workers.database is None, tell=told)
        add_page(app, queue, settings.output_dir, model, (videos, ApiError), surroundings, workers.database is None)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
        host, port = listener.getsockname()[:2]
        name = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::") else host
        typer.echo(f"Open-Sora is ready: http://{name}:{port}")
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        typer.echo("Stopping.")
        queue.close()


if __name__ == "__main__":
    prepare_space()
    typer.run(main)
