"""What a program sends to ask for a clip: a JSON object, or one beside pictures and clips in a multipart body.

Files are written under names of our own into a folder that vanishes with the request; what they are is told by their
bytes, when the request is validated.
"""

import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from opensora.pipelines.errors import shown
from opensora.server.errors import ApiError
from opensora.server.fields import UPLOADS

MAX_JSON = 2**20
"""Bytes of the JSON object."""
MAX_BODY = 200 * 2**20
"""Bytes of a body with files; what a picture may have is less, see :mod:`opensora.datasets.image_io`."""
REQUEST = "request"
"""Part of a multipart body that holds the JSON object."""


@dataclass(frozen=True)
class Asked:
    """What was sent."""

    values: Any
    """The JSON value."""
    files: dict[str, Path] = field(default_factory=dict)
    """Files by field, for as long as the request lasts."""


@asynccontextmanager
async def asked(request: Request) -> AsyncIterator[Asked]:
    """Read a body.

    Raises:
        ApiError: it is neither of the two kinds, damaged or too large.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        yield Asked(await run_in_threadpool(_decoded, await _body(request)))
    elif kind == "multipart/form-data":
        folder = await run_in_threadpool(new_folder)
        try:
            yield await _parts(request, folder)
        finally:
            await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)
    else:
        raise ApiError(
            415, "invalid_request", f"Got the type {shown(kind)}; send application/json or multipart/form-data."
        )


def new_folder() -> Path:
    """A new folder, in the server's own where it has one, which is removed also after a kill."""
    own = os.environ.get("GRADIO_TEMP_DIR")
    return Path(tempfile.mkdtemp(prefix="opensora-given-", dir=own if own and Path(own).is_dir() else None))


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_JSON:
            raise ApiError(413, "too_large", f"The JSON body is larger than {MAX_JSON // 1024} KB.")
    return bytes(body)


def _decoded(body: bytes | str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ApiError(400, "invalid_request", f"The body is no JSON{where}; send an object such as {{}}.") from None


async def _parts(request: Request, folder: Path) -> Asked:
    values: Any = None
    files: dict[str, Path] = {}
    try:
        async with request.form(max_files=len(UPLOADS), max_fields=1, max_part_size=MAX_JSON) as form:
            for name, part in form.multi_items():
                if name == REQUEST and isinstance(part, str):
                    values = await run_in_threadpool(_decoded, part)
                elif name in UPLOADS and isinstance(part, UploadFile) and name not in files:
                    files[name] = await run_in_threadpool(_stored, part, folder / name)
                else:
                    raise _unexpected(name)
    except HTTPException as error:  # of the parser: not multipart, or too much of something
        status = error.status_code if error.status_code == 413 else 400
        raise ApiError(status, "invalid_request", f"The body cannot be read: {error.detail}") from None
    if values is None:
        raise ApiError(422, "invalid_request", f"The part {REQUEST} with the JSON object is missing.", REQUEST)
    return Asked(values, files)


def _stored(part: UploadFile, path: Path) -> Path:
    with path.open("xb") as file:
        shutil.copyfileobj(part.file, file)
    return path


def _unexpected(name: str) -> ApiError:
    expected = f"{REQUEST} with the JSON object and at most one file each as {', '.join(UPLOADS)}"
    return ApiError(422, "invalid_request", f"Got the part {shown(name)}; expected {expected}.", name[:80])
