"""REST: ``/v1/videos``. A video is asked for, followed, fetched, cancelled and deleted; see docs/api.md."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

import anyio
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from opensora.pipelines import lora_folder
from opensora.server import fields
from opensora.server.errors import ApiError
from opensora.server.settings import Rates
from opensora.server.uploads import asked
from opensora.server.videos import Videos

LOOK = 0.5
"""Seconds between two looks for news of a job that somebody listens to."""
PULSE = 15.0
"""Seconds without news after which a comment is sent, so that nothing on the way thinks the connection dead."""

_ERROR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message", "field"],
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string", "description": "A sentence that says what to do."},
                "field": {"type": ["string", "null"], "description": "Field of the request that is to blame."},
            },
        }
    },
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
    for status, text in (
        (401, "No key, or one that is void."),
        (404, "No such video of yours."),
        (409, "Not possible in the present state of the video."),
        (422, "The request cannot be served; `field` names what is to blame."),
        (429, "Too many requests, or too many videos wait; see Retry-After."),
    )
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": fields.body_schema()},
            "multipart/form-data": {"schema": fields.multipart_schema()},
        },
    }
}
After = Annotated[str | None, Query(max_length=100, description="Id of the last one of the page before.")]
Variant = Annotated[
    Literal["gif", "webm", "zip"] | None,
    Query(description="Another form of a clip, written when it is first asked for; `zip` holds the frames."),
]
JobId = Annotated[str, Path(max_length=100, description="Id of the video.")]


def owner(request: Request) -> str:
    """Whose jobs a request is about; the guard lets nobody else through."""
    found: str = request.state.identity.owner
    return found


Owner = Annotated[str, Depends(owner)]


def rest_router(videos: Videos, rates: Rates) -> APIRouter:
    """All calls."""
    router = APIRouter(prefix="/v1/videos", tags=["videos"], responses=_REFUSALS)
    streams: dict[str, int] = {}
    one_by_one = CapacityLimiter(1)

    @router.post("", status_code=201, openapi_extra=_BODY)
    async def create_video(request: Request, owner: Owner) -> dict[str, Any]:
        """Ask for a video. It is queued; follow it with its id."""
        async with asked(request) as sent:
            return await run_in_threadpool(videos.create, owner, sent.values, sent.files)

    @router.get("")
    def list_videos(
        owner: Owner,
        limit: Annotated[int, Query(description="1 to 100.")] = 20,
        after: After = None,
    ) -> dict[str, Any]:
        """Your videos, newest first."""
        return videos.list(owner, limit, after)

    @router.get("/{video_id}")
    def get_video(video_id: JobId, owner: Owner) -> dict[str, Any]:
        """What is known of a video."""
        return videos.get(owner, video_id)

    @router.get("/{video_id}/events", response_class=StreamingResponse)
    async def video_events(video_id: JobId, owner: Owner) -> StreamingResponse:
        """Server-sent events: `status` with the video as data at every change; the stream ends with the job."""
        await run_in_threadpool(videos.get, owner, video_id)
        if streams.get(owner, 0) >= rates.streams:
            raise ApiError(429, "rate_limit", f"{rates.streams} event streams are open; close one first.")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_counted(videos, owner, video_id, streams), 200, headers, "text/event-stream")

    @router.get("/{video_id}/content", response_class=FileResponse)
    async def video_content(
        video_id: JobId,
        owner: Owner,
        index: Annotated[int, Query(description="Which one, where several were asked for.")] = 0,
        variant: Variant = None,
    ) -> FileResponse:
        """The MP4, or the PNG of a picture, or another form of a clip; parts of it by Range."""
        if variant is None:
            path, kind, sha256 = await run_in_threadpool(videos.file, owner, video_id, index)
        else:
            path, kind = await run_sync(videos.form, owner, video_id, index, variant, limiter=one_by_one)
            sha256 = ""
        return _sent(path, kind, f"{video_id}-{index}", sha256)

    @router.post("/{video_id}/cancel")
    def cancel_video(video_id: JobId, owner: Owner) -> dict[str, Any]:
        """Stop a video that waits or runs; a running one stops within a step. One that has ended stays as it is."""
        return videos.cancel(owner, video_id)

    @router.delete("/{video_id}")
    def delete_video(video_id: JobId, owner: Owner) -> dict[str, Any]:
        """Delete a video that has ended, and its files."""
        return videos.delete(owner, video_id)

    return router


def loras_router() -> APIRouter:
    """What may be chosen as ``loras`` of a video."""
    router = APIRouter(prefix="/v1/loras", tags=["videos"], responses={401: _REFUSALS[401]})

    @router.get("")
    def list_loras() -> dict[str, Any]:
        """The server's LoRAs by name, and the network that each seems to be for."""
        data = [{"name": lora.name, "object": "lora", "network": lora.network} for lora in lora_folder.listed()]
        return {"object": "list", "data": data}

    return router


def _sent(path: FilePath, kind: str, name: str, sha256: str) -> FileResponse:
    """A file that never changes, under a name without anything that a header could take for more."""
    name = re.sub(r"[^\w.-]", "", name + path.suffix, flags=re.ASCII)
    headers = {"Cache-Control": "private, max-age=86400, immutable"} | ({"ETag": f'"{sha256}"'} if sha256 else {})
    return FileResponse(path, media_type=kind, filename=name, headers=headers, content_disposition_type="inline")


async def _counted(videos: Videos, owner: str, job_id: str, streams: dict[str, int]) -> AsyncIterator[str]:
    streams[owner] = streams.get(owner, 0) + 1
    try:
        async for event in _events(videos, owner, job_id):
            yield event
    finally:
        streams[owner] -= 1
        if not streams[owner]:
            del streams[owner]


async def _events(videos: Videos, owner: str, job_id: str) -> AsyncIterator[str]:
    """The job at every change until it has ended."""
    before, silent, number = "", 0.0, 0
    while True:
        try:
            view = await run_in_threadpool(videos.get, owner, job_id)
        except ApiError as error:  # deleted meanwhile
            yield f"event: error\ndata: {json.dumps({'type': error.kind, 'message': str(error), 'field': None})}\n\n"
            return
        text = json.dumps(view)
        counted = json.dumps({k: v for k, v in view.items() if k not in ("seconds_left", "progress")})
        if counted != before:
            number += 1
            yield f"id: {number}\nevent: status\ndata: {text}\n\n"
            before, silent = counted, 0.0
        if view["finished_at"] is not None or view["status"] in ("done", "failed", "cancelled"):
            return
        await anyio.sleep(LOOK)
        silent += LOOK
        if silent >= PULSE:
            silent = 0.0
            yield ": still here\n\n"
