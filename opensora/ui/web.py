"""The page in a web application: result files, posters, the page itself, and its functions for programs."""

import re
from pathlib import Path, PurePath

import gradio as gr
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse

from opensora.jobs.queue import JobQueue
from opensora.ui import examples
from opensora.ui.given_files import only_uploads
from opensora.ui.layout import STYLE, create_demo, theme
from opensora.ui.named import Jobs, add_named
from opensora.ui.picture import poster
from opensora.ui.room import Room
from opensora.ui.surroundings import NOTHING, Surroundings

MAX_UPLOAD = "64mb"
KINDS = {".mp4": "video/mp4", ".png": "image/png"}
"""Files that are served, and as what."""
FORMS = {".gif": "image/gif", ".webm": "video/webm", ".zip": "application/zip"}
"""Other forms of a clip: written beside it when somebody asks for one, and kept as long as it."""
QUEUE_SLEEP = 0.05
"""Seconds between two looks of gradio's queue for events. Its own 1 ms costs several percent of a core all the time."""
CACHE = {"Cache-Control": "private, max-age=86400, immutable"}
"""A result never changes, and is nobody else's."""
CLOSED = re.compile(
    r"/(gradio_api/(proxy=|file=\s*[a-z][a-z0-9+.-]+:|stream/|dev/|vibe|undo-vibe|run-history|runs|process_recording"
    r"|component_server|profiling|deep_link)|monitoring)",
    re.IGNORECASE,
)
"""Addresses of gradio that this page does not use: those that fetch other addresses, and tools of developers."""


def add_page(
    app: FastAPI,
    queue: JobQueue,
    output_dir: Path,
    default_model: str = "tiny",
    programs: tuple[Jobs, type[Exception]] | None = None,
    surroundings: Surroundings = NOTHING,
    made_here: bool = True,
) -> FastAPI:
    """Add the page, ``/files/{job}/{name}``, ``/forms/{job}/{name}`` and ``/posters/{job}/{name}``.

    A result's address holds the job's unguessable id: whoever was given the link can open it, nobody can list or guess.
    Where people log in, ``request.state.person`` is the owner of their jobs, and a link opens for that person only.

    Args:
        surroundings: where the page runs.
        made_here: whether all clips are made on this machine, so that its memory decides what is taken.
        programs: jobs of programs and their refusals; with them the page has functions that programs call by name.
    """
    root = output_dir.resolve()

    @app.get("/files/{job_id}/{name}", include_in_schema=False)
    def result_file(request: Request, job_id: str, name: str) -> FileResponse:
        path = _own(request, queue, root, job_id, name)
        return FileResponse(path, media_type=KINDS[path.suffix], headers=CACHE)

    one_by_one = CapacityLimiter(1)

    @app.get("/forms/{job_id}/{name}", include_in_schema=False)
    async def other_form(request: Request, job_id: str, name: str) -> FileResponse:
        kind = PurePath(name).suffix
        if kind not in FORMS:
            raise HTTPException(404, f"A clip has the forms {', '.join(form[1:] for form in FORMS)}.")
        clip = await run_sync(_own, request, queue, root, job_id, str(PurePath(name).with_suffix(".mp4")))
        path = await run_sync(_written, clip, kind[1:], limiter=one_by_one)
        return FileResponse(path, media_type=FORMS[kind], filename=f"opensora-{path.name}", headers=CACHE)

    @app.get("/posters/{job_id}/{name}", include_in_schema=False)
    def result_poster(request: Request, job_id: str, name: str) -> Response:
        try:
            content = poster(_own(request, queue, root, job_id, name))
        except (ValueError, OSError):
            raise HTTPException(404, "This file has no picture.") from None
        return Response(content, media_type="image/jpeg", headers=CACHE)

    _serve_examples(app)
    demo = create_demo(queue, default_model, surroundings, Room(output_dir, made_here, queue.processes))
    with demo:
        if programs is not None:
            add_named(*programs)
    only_uploads(demo)
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


def _serve_examples(app: FastAPI) -> None:
    """``/examples/{name}.mp4`` and ``.jpg``: the clips that come along, and their first frames."""

    @app.get("/examples/{name}", include_in_schema=False)
    def example(name: str) -> Response:
        known, kind = examples.BY_NAME.get(PurePath(name).stem), PurePath(name).suffix
        if known is None or kind not in (".mp4", ".jpg") or not known.clip.is_file():
            raise HTTPException(404, "There is no such example.")
        if kind == ".mp4":
            return FileResponse(known.clip, media_type="video/mp4", headers=CACHE)
        picture = examples.first_frame(known.clip, known.clip.stat().st_mtime)
        return Response(picture, media_type="image/jpeg", headers=CACHE)


def result_path(root: Path, job_id: str, name: str) -> Path:
    """A result's file; 404 for anything that is none.

    Raises:
        HTTPException: there is no such result.
    """
    path = (root / job_id / name).resolve()
    if path.parent.parent != root or name.startswith(".") or path.suffix not in KINDS or not path.is_file():
        raise HTTPException(404, "There is no such file; it may have been removed.")
    return path


def _written(clip: Path, kind: str) -> Path:
    """A clip in another form, or why there is none."""
    from opensora.pipelines.export import beside

    try:
        return beside(clip, kind)
    except ValueError as error:
        raise HTTPException(404, str(error)) from None
    except OSError as error:
        reason = f"The clip cannot be written as {kind.upper()}: {error.strerror}. Make room on the server's disk."
        raise HTTPException(503, reason) from None


def _own(request: Request, queue: JobQueue, root: Path, job_id: str, name: str) -> Path:
    """A result's file, for a person who logged in only if it is theirs."""
    person = getattr(request.state, "person", None)
    if person is not None and queue.view(job_id, person) is None:
        raise HTTPException(404, "There is no such file; it may have been removed.")
    return result_path(root, job_id, name)
