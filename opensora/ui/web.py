"""The web server around the page: health check, result files, and the page itself."""

from pathlib import Path

import gradio as gr
from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import FileResponse

from opensora.jobs.queue import JobQueue
from opensora.ui.layout import STYLE, create_demo, theme
from opensora.ui.picture import poster

MAX_UPLOAD = "64mb"
KINDS = {".mp4": "video/mp4", ".png": "image/png"}
"""Files that are served, and as what."""
QUEUE_SLEEP = 0.05
"""Seconds between two looks of gradio's queue for events. Its own 1 ms costs several percent of a core all the time."""
CACHE = {"Cache-Control": "private, max-age=86400, immutable"}
"""A result never changes, and is nobody else's."""


def create_app(queue: JobQueue, output_dir: Path, default_model: str = "tiny") -> FastAPI:
    """Page, ``/healthz``, ``/files/{job}/{name}`` and ``/posters/{job}/{name}``.

    A result's address holds the job's unguessable id: whoever was given the link can open it, nobody can list or guess.
    """
    app = FastAPI(title="Open-Sora", docs_url=None, redoc_url=None, openapi_url=None)
    root = output_dir.resolve()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/files/{job_id}/{name}")
    def result_file(job_id: str, name: str) -> FileResponse:
        path = result_path(root, job_id, name)
        return FileResponse(path, media_type=KINDS[path.suffix], headers=CACHE)

    @app.get("/posters/{job_id}/{name}")
    def result_poster(job_id: str, name: str) -> Response:
        try:
            return Response(poster(result_path(root, job_id, name)), media_type="image/jpeg", headers=CACHE)
        except (ValueError, OSError):
            raise HTTPException(404, "This file has no picture.") from None

    demo = create_demo(queue, default_model)
    demo._queue.sleep_when_free = demo._queue.progress_update_sleep_when_free = QUEUE_SLEEP
    return gr.mount_gradio_app(
        app,
        demo,
        path="/",
        footer_links=["settings"],
        run_history=False,
        max_file_size=MAX_UPLOAD,
        show_error=True,
        theme=theme(),
        css_paths=STYLE,
    )


def result_path(root: Path, job_id: str, name: str) -> Path:
    """A result's file; 404 for anything that is none.

    Raises:
        HTTPException: there is no such result.
    """
    path = (root / job_id / name).resolve()
    if path.parent.parent != root or name.startswith(".") or path.suffix not in KINDS or not path.is_file():
        raise HTTPException(404, "There is no such file; it may have been removed.")
    return path
