"""Start the Open-Sora page: ``python app.py``, then open the printed address."""

import errno
import logging
import os
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from opensora.jobs.retention import Retention


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
) -> None:
    """Serve the page until it is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    check_model(model)
    prepare_folder(output_dir)
    retention = what_to_keep(keep_days, keep_gb)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        if "GRADIO_TEMP_DIR" not in os.environ:
            os.environ["GRADIO_TEMP_DIR"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="opensora-uploads-"))
        serve(listener, output_dir, model, retention)


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


def serve(listener: socket.socket, output_dir: Path, model: str, retention: "Retention") -> None:
    """Run the page on a listening socket until Ctrl-C; unfinished jobs go on at the next start."""
    import uvicorn

    from opensora.jobs.durable import DurableQueue, FolderInUse
    from opensora.ui.web import create_app

    try:
        queue = DurableQueue(output_dir, warm_up=model, retention=retention)
    except FolderInUse as error:
        raise typer.BadParameter(str(error), param_hint="--output-dir") from None
    try:
        app = create_app(queue, output_dir, model)
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
    typer.run(main)
