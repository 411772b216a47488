"""Start the Open-Sora page: ``python app.py``, then open the printed address."""

import logging
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer


def main(
    host: Annotated[str, typer.Option(envvar="GRADIO_SERVER_NAME", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="GRADIO_SERVER_PORT", help="Port to listen on.")] = 7860,
    output_dir: Annotated[
        Path, typer.Option(envvar="OPENSORA_OUTPUT_DIR", help="Folder of the generated files.")
    ] = Path("outputs"),
    model: Annotated[str, typer.Option(help="Model chosen when the page opens.")] = "tiny",
) -> None:
    """Serve the page until it is stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("GRADIO_TEMP_DIR", tempfile.mkdtemp(prefix="opensora-uploads-"))
    import uvicorn

    from opensora.jobs.queue import JobQueue
    from opensora.pipelines.video import generate
    from opensora.ui.web import create_app

    output_dir.mkdir(parents=True, exist_ok=True)
    queue = JobQueue(generate, output_dir)
    app = create_app(queue, output_dir, model)
    typer.echo(f"Open-Sora is ready: http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{port}")
    try:
        uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=3)
    finally:
        queue.close()


if __name__ == "__main__":
    typer.run(main)
