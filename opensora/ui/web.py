"""The web server around the page: health check, result files, and the page itself."""

from pathlib import Path

import gradio as gr
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse

from opensora.jobs.queue import JobQueue
from opensora.ui.layout import STYLE, create_demo, theme

MAX_UPLOAD = "64mb"


def create_app(queue: JobQueue, output_dir: Path, default_model: str = "tiny") -> FastAPI:
    """Page, ``/healthz`` and ``/files/{job}/{name}``.

    A result's address holds the job's unguessable id: whoever was given the link can open it, nobody can list or guess.
    """
    app = FastAPI(title="Open-Sora", docs_url=None, redoc_url=None, openapi_url=None)
    root = output_dir.resolve()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/files/{job_id}/{name}")
    def result_file(job_id: str, name: str) -> FileResponse:
        path = (root / job_id / name).resolve()
        if path.parent.parent != root or not path.is_file():
            raise HTTPException(404, "There is no such file; it may have been removed.")
        return FileResponse(path)

    return gr.mount_gradio_app(
        app,
        create_demo(queue, default_model),
        path="/",
        footer_links=["settings"],
        run_history=False,
        max_file_size=MAX_UPLOAD,
        show_error=True,
        theme=theme(),
        css_paths=STYLE,
    )
