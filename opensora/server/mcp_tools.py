"""The tools that assistants are offered at ``/mcp``, by the Model Context Protocol over streamable HTTP.

The protocol's library takes seconds to load, so it is loaded by the first request that needs it. The tools share their
schemas, their checks and their answers with the REST interface.
"""

import asyncio
import base64
import binascii
import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from opensora import __version__
from opensora.pipelines.errors import shown
from opensora.server import fields
from opensora.server.errors import ApiError
from opensora.server.uploads import new_folder
from opensora.server.videos import Videos

if TYPE_CHECKING:
    import mcp_types
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

INSTRUCTIONS = (
    "Makes short videos of text. generate_video queues one and returns its id; ask video_status until the status "
    "is done, failed or cancelled (wait a few seconds in between), then video_result for the addresses of the files."
)
MAX_BODY = 8 * 2**20
"""Bytes of one message, pictures and clips in base64 included."""
_ID: dict[str, Any] = {"type": "string", "description": "Id that generate_video returned."}


def _of_id(**more: Any) -> dict[str, Any]:
    return {"type": "object", "required": ["id"], "additionalProperties": False, "properties": {"id": _ID, **more}}


def _generate() -> dict[str, Any]:
    """Schema of ``generate_video``: the body of the REST interface, with pictures and clips inside it."""
    schema = fields.body_schema()
    files = {
        name: {"type": "string", "contentEncoding": "base64", "description": f"{text} The file itself, in base64."}
        for name, text in fields.UPLOADS.items()
    }
    return {**schema, "properties": {**schema["properties"], **files}}


TOOLS: Mapping[str, tuple[str, dict[str, Any]]] = MappingProxyType(
    {
        "generate_video": ("Queue a video, or with length 1f a picture; returns its id.", _generate()),
        "video_status": ("How far a video is.", _of_id()),
        "video_result": ("Addresses, hashes and settings of a video that is done.", _of_id()),
        "cancel_video": ("Stop a video that waits or runs.", _of_id()),
        "list_videos": (
            "Your videos, newest first.",
            {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
                    "after": {"type": ["string", "null"], "description": "Id of the last one of the page before."},
                },
            },
        ),
    }
)
"""Name -> what it does, and the schema of its arguments."""


class McpTools:
    """ASGI application of ``/mcp``.

    Args:
        videos: does what is asked.
    """

    def __init__(self, videos: Videos) -> None:
        self._videos = videos
        self._starting = asyncio.Lock()
        self._manager: StreamableHTTPSessionManager | None = None
        self._task: asyncio.Task[None] | None = None
        self._end = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        async with self._starting:
            if self._manager is None:
                self._manager = await self._start()
        await self._manager.handle_request(scope, receive, send)

    async def close(self) -> None:
        """End what the first request began."""
        self._end.set()
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _start(self) -> "StreamableHTTPSessionManager":
        server = await run_in_threadpool(self._server)
        from mcp.server.transport_security import TransportSecuritySettings

        # who may ask, and from where, is the guard's business
        security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        server.streamable_http_app(
            json_response=True, stateless_http=True, max_request_body_size=MAX_BODY, transport_security=security
        )
        manager, ready = server.session_manager, asyncio.Event()

        async def run() -> None:
            async with manager.run():
                ready.set()
                await self._end.wait()

        self._task = asyncio.create_task(run(), name="opensora-mcp")
        await ready.wait()
        return manager

    def _server(self) -> "Server[Any]":
        import mcp_types as types
        from mcp.server.lowlevel import Server

        async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
            tools = [
                types.Tool(name=name, description=text, input_schema=schema) for name, (text, schema) in TOOLS.items()
            ]
            return types.ListToolsResult(tools=tools)

        async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
            request: Request = context.request
            return await run_in_threadpool(self._call, request, params.name, params.arguments or {})

        return Server(
            "open-sora",
            version=__version__,
            title="Open-Sora",
            instructions=INSTRUCTIONS,
            on_list_tools=list_tools,
            on_call_tool=call_tool,
        )

    def _call(self, request: Request, name: str, values: dict[str, Any]) -> "mcp_types.CallToolResult":
        """One call of a tool; what cannot be done is told to the assistant as a sentence."""
        import mcp_types as types

        owner = request.state.identity.owner
        try:
            told = self._answer(owner, name, values)
        except ApiError as error:
            said: dict[str, Any] = {"type": error.kind, "message": str(error), "field": error.field}
            text = types.TextContent(type="text", text=str(error))
            return types.CallToolResult(content=[text], structured_content={"error": said}, is_error=True)
        for file in told.get("files", []):
            file["url"] = str(request.base_url).rstrip("/") + file["url"]
        content = types.TextContent(type="text", text=json.dumps(told))
        return types.CallToolResult(content=[content], structured_content=told)

    def _answer(self, owner: str, name: str, values: dict[str, Any]) -> dict[str, Any]:
        videos = self._videos
        if name == "generate_video":
            with _brought(values) as (plain, files):
                return videos.create(owner, plain, files)
        if name == "list_videos":
            return videos.list(owner, values.get("limit", 20), values.get("after"))
        calls: dict[str, Callable[[str, str], dict[str, Any]]] = {
            "video_status": videos.get,
            "video_result": videos.result,
            "cancel_video": videos.cancel,
        }
        if name not in calls:
            raise ApiError(404, "not_found", f"There is no tool {shown(name)}; the tools are {', '.join(TOOLS)}.")
        job_id = values.get("id")
        if not isinstance(job_id, str):
            raise ApiError(422, "invalid_request", f"Got the id {shown(job_id)}; expected one of generate_video.", "id")
        return calls[name](owner, job_id)


@contextmanager
def _brought(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Path]]]:
    """The arguments without pictures and clips, and these as files, for as long as the call lasts.

    Raises:
        ApiError: one is not in base64.
    """
    plain = {name: value for name, value in values.items() if name not in fields.UPLOADS or value is None}
    folder = new_folder()
    files: dict[str, Path] = {}
    try:
        for name in fields.UPLOADS:
            if values.get(name) is None:
                plain.pop(name, None)
                continue
            files[name] = folder / name
            files[name].write_bytes(_decoded(name, values[name]))
        yield plain, files
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _decoded(name: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        said = f"Got {shown(text)} for {name}; expected the file itself in base64, not a path or an address."
        raise ApiError(422, "invalid_request", said, name) from None
