"""Start the Open-Sora page: ``python app.py``, then open the printed address."""

import errno
import logging
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from opensora.pipelines.request import GenerationRequest
    from opensora.pipelines.result import GenerationResult, Progress

log = logging.getLogger("opensora")

HEAD_START = 2.0
"""Seconds in which the processor is left to the first page before torch is loaded."""


def main(
    host: Annotated[str, typer.Option(envvar="GRADIO_SERVER_NAME", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar="GRADIO_SERVER_PORT", help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 7860,
    output_dir: Annotated[
        Path, typer.Option(envvar="OPENSORA_OUTPUT_DIR", help="Folder of the generated files.")
    ] = Path("outputs"),
    model: Annotated[str, typer.Option(help="Model chosen when the page opens.")] = "tiny",
) -> None:
    """Serve the page until it is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    check_model(model)
    prepare_folder(output_dir)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        if "GRADIO_TEMP_DIR" not in os.environ:
            os.environ["GRADIO_TEMP_DIR"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="opensora-uploads-"))
        serve(listener, output_dir, model)


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


def serve(listener: socket.socket, output_dir: Path, model: str) -> None:
    """Run the page on a listening socket until Ctrl-C."""
    import uvicorn

    from opensora.jobs.queue import JobQueue
    from opensora.ui.web import create_app

    queue = JobQueue(generate, output_dir)
    app = create_app(queue, output_dir, model)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    host, port = listener.getsockname()[:2]
    typer.echo(f"Open-Sora is ready: http://{'localhost' if host in ('127.0.0.1', '0.0.0.0', '::') else host}:{port}")
    threading.Thread(target=warm_up, args=(model,), name="opensora-warm-up", daemon=True).start()
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        typer.echo("Stopping.")
        queue.close()


def generate(
    request: "GenerationRequest", *, on_progress: "Callable[[Progress], None]", cancel: threading.Event
) -> "GenerationResult":
    """The pipeline, loaded by the first request that comes before :func:`warm_up` has done it."""
    from opensora.pipelines import video

    return video.generate(request, on_progress=on_progress, cancel=cancel)


def warm_up(model: str) -> None:
    """Load torch, and the networks if they are bundled, while the visitor is still typing."""
    time.sleep(HEAD_START)
    from opensora.models import zoo
    from opensora.pipelines.build import build_models

    preset = zoo.PRESETS[model]
    if not preset.bundled or not zoo.status(preset).installed:
        return
    try:
        build_models(preset.modes[0], preset.resolutions[0], enable_optimization=True, model=model)
    except ValueError as error:  # the page says it when somebody generates
        log.warning("%s could not be loaded: %s", model, error)


if __name__ == "__main__":
    typer.run(main)
