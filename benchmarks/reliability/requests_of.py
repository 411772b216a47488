"""Requests that no client of ours would send: every endpoint with nonsense, and files that were mutated."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from benchmarks.reliability.parsers import BODIES, GOOD, TEXT, VALUES
from opensora.datasets.video_io import write_mp4
from opensora.server.fields import UPLOADS

METHODS = st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW"])
PLACES = (
    *("/v1/videos", "/v1/videos/x", "/v1/videos/x/content", "/v1/videos/x/cancel", "/v1/videos/x/events"),
    *("/v1/loras", "/login", "/logout", "/metrics", "/healthz", "/readyz", "/docs", "/openapi.json", "/docs/static/x"),
)
"""Addresses of programs."""
PAGE = (
    *("/", "/config", "/files/x/video.mp4", "/posters/x/video.mp4", "/gradio_api/upload", "/gradio_api/info"),
    *("/gradio_api/file=x", "/gradio_api/queue/join", "/gradio_api/call/generate_video", "/gradio_api/call/x/y"),
    *("/gradio_api/run/generate_video", "/gradio_api/reset", "/gradio_api/cancel", "/theme.css", "/manifest.json"),
)
"""Addresses of the page."""
KINDS = st.sampled_from(
    ["application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/plain", "", "/"]
)
MCP = ("initialize", "tools/list", "tools/call", "ping", "resources/list", "x")


@dataclass(frozen=True)
class Call:
    """A request."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    data: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes, str]] = field(default_factory=dict)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def calls(page: bool) -> st.SearchStrategy[Call]:
    """Requests without files.

    Args:
        page: whether gradio's page is in the application.
    """
    places = st.sampled_from([*PLACES, *(PAGE if page else ())])
    tails = st.sampled_from(["", "", "?limit=0", "?limit=x&after=y", "/../..", "/%2e%2e/%00", "?index=-9", "#", "%"])
    paths = st.builds(str.__add__, places, tails | TEXT.map(lambda text: f"/{text}"))
    bodies = st.binary(max_size=80) | VALUES.map(_json) | BODIES.map(_json) | BODIES.map(lambda b: _json(GOOD | b))
    names = st.sampled_from(["Range", "Accept", "Authorization", "Cookie", "If-None-Match", "X-Forwarded-For"])
    printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
    more = st.dictionaries(names, printable | st.sampled_from(["bytes=0-", "bytes=9-1", "Bearer os_x_y"]), max_size=2)

    def built(method: str, path: str, kind: str, body: bytes, more: dict[str, str]) -> Call:
        return Call(method, path, {**more, "Content-Type": kind}, None if method == "GET" else body)

    anything = st.builds(built, METHODS, paths, KINDS, bodies, more)
    asked = st.builds(
        lambda body: Call("POST", "/v1/videos", {"Content-Type": "application/json"}, _json(body)),
        BODIES.map(lambda body: GOOD | body) | VALUES,
    )
    return st.one_of(anything, anything, asked, _of_assistants())


def _of_assistants() -> st.SearchStrategy[Call]:
    message = st.fixed_dictionaries(
        {"jsonrpc": st.just("2.0") | st.just("1")},
        optional={
            "id": st.integers() | TEXT,
            "method": st.sampled_from(MCP) | TEXT,
            "params": VALUES
            | st.fixed_dictionaries(
                {"name": st.sampled_from(["generate_video", "video_status", "list_videos", "x"]), "arguments": VALUES}
            ),
        },
    )
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    return (message | VALUES).map(lambda value: Call("POST", "/mcp", headers, _json(value)))


def seeds(folder: Path) -> list[bytes]:
    """Whole files of every kind that people bring."""
    picture = Image.fromarray(np.linspace(0, 255, 24 * 32 * 3).reshape(24, 32, 3).astype(np.uint8))
    found = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        data = io.BytesIO()
        picture.save(data, kind)
        found.append(data.getvalue())
    clip = np.broadcast_to(np.arange(20, 200, 20, dtype=np.uint8)[:, None, None, None], (9, 32, 48, 3))
    write_mp4(folder / "seed.mp4", clip.copy(), 24, {"prompt": "a red ball"})
    return [*found, (folder / "seed.mp4").read_bytes()]


def mutated(whole: list[bytes]) -> st.SearchStrategy[Call]:
    """Uploads: whole files with bytes changed, cut or added, under any name and of any said type."""

    def changed(data: bytes, edits: list[tuple[int, int]], cut: int, end: bytes) -> bytes:
        out = bytearray(data)
        for place, value in edits:
            out[place % len(out)] = value
        return bytes(out[: len(out) - cut % len(out)]) + end

    edits = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=12)
    cuts = st.just(0) | st.integers(0, 2**16)
    contents = st.builds(changed, st.sampled_from(whole), edits, cuts, st.just(b"") | st.binary(max_size=40))
    names = st.sampled_from(["x.png", "../../x.sh", "/etc/passwd", "x.svg", "", "a\\b.mp4", "영상.mp4"])
    kinds = st.sampled_from(["image/png", "image/svg+xml", "video/mp4", "text/html", "x"])

    def built(part: str, name: str, data: bytes, kind: str, body: Any) -> Call:
        return Call("POST", "/v1/videos", {}, data={"request": json.dumps(body)}, files={part: (name, data, kind)})

    parts = st.sampled_from([*UPLOADS, *UPLOADS, "x"])
    return st.builds(built, parts, names, contents, kinds, st.just(GOOD) | BODIES.map(lambda body: GOOD | body))
