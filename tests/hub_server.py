"""A small hub on loopback: what huggingface_hub's client asks of one, and the ways in which one fails.

Metadata and small files come from `http://127.0.0.1:PORT`; large files redirect (302) to `http://localhost:OTHER`,
another host name and port, as the public hub does with its storage.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

Mode = Literal["fine", "slow", "broken", "broken-once", "corrupt", "gated", "private", "missing", "error", "portal"]
TOKEN = "hf_accepted"
LARGE = 1024
"""Files from this size on are stored as LFS: sha256 known, served by the other host."""


@dataclass
class Repository:
    """One model repository at one commit."""

    files: dict[str, bytes]
    mode: Mode = "fine"
    """fine; slow (10 ms per 64 kB); broken (every transfer of a large file ends half-way); broken-once (the first does,
    Range works); corrupt (right length, one byte changed); gated (401 without the token); private (as if absent
    without the token); missing (404); error (500); portal (every address answers with a page, as in a hotel)."""

    @property
    def commit(self) -> str:
        text = "".join(f"{name}:{hashlib.sha256(data).hexdigest()}\n" for name, data in sorted(self.files.items()))
        return hashlib.sha1(text.encode()).hexdigest()

    def describe(self, name: str) -> dict[str, object]:
        """The entry of paths-info."""
        data = self.files[name]
        entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": git_id(data)}
        if len(data) >= LARGE:
            entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
        return entry


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    host: Literal["hub", "storage"]
    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""


@dataclass
class Hub:
    """A running pair of servers."""

    endpoint: str = ""
    storage: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    cut: set[str] = field(default_factory=set)
    """Files whose transfer was cut once."""

    def add(self, repo_id: str, files: dict[str, bytes], mode: Mode = "fine") -> Repository:
        self.repositories[repo_id] = Repository(files, mode)
        return self.repositories[repo_id]

    def transfers(self) -> list[str]:
        """Paths of the bodies that were asked for."""
        return [request.path for request in self.requests if request.method == "GET" and "/api/" not in request.path]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serve() -> Iterator[Hub]:
    """Run an empty hub until the block ends."""
    hub = Hub()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, kind)) for kind in (_HubHandler, _StorageHandler)]
    hub.endpoint = f"http://127.0.0.1:{servers[0].server_port}"
    hub.storage = f"http://localhost:{servers[1].server_port}"
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def note(self, host: Literal["hub", "storage"]) -> str:
        """Record the request; returns its path."""
        self.hub.requests.append(
            Request(host, self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        )
        return unquote(urlsplit(self.path).path)

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, b'{"error": "refused"}', {"X-Error-Code": code} if code else {})


class _HubHandler(_Handler):
    def do_HEAD(self) -> None:
        self.handle_request()

    def do_GET(self) -> None:
        self.handle_request()

    def do_POST(self) -> None:
        self.handle_request()

    def handle_request(self) -> None:
        path = self.note("hub")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|paths-info)/(.+))?", path)
        resolve = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = match or resolve
        repository = self.hub.repositories.get(found[1]) if found else None
        if repository is None or repository.mode == "missing":
            return self.refuse(404, "RepoNotFound")
        if repository.mode == "error":
            return self.refuse(500, "")
        if repository.mode == "portal":
            return self.answer(200, b"<html>Welcome! Please log in.</html>", {"Content-Type": "text/html"})
        accepted = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository.mode == "private" and not accepted:
            return self.refuse(401, "RepoNotFound")
        revision = (match[3] if match else resolve[2] if resolve else None) or "main"
        if revision not in ("main", repository.commit):
            return self.refuse(404, "RevisionNotFound")
        if resolve:
            return self.resolve(repository, resolve[1], resolve[3], accepted)
        if match and match[2] == "paths-info":
            names = parse_qs(body.decode())["paths"]
            entries = [repository.describe(name) for name in names if name in repository.files]
            return self.answer(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})
        siblings = [{"rfilename": name} for name in repository.files]
        info = {"id": found[1] if found else "", "sha": repository.commit, "siblings": siblings, "tags": []}
        return self.answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def resolve(self, repository: Repository, repo_id: str, name: str, accepted: bool) -> None:
        commit = {"X-Repo-Commit": repository.commit}
        if repository.mode == "gated" and not accepted:
            return self.refuse(401, "GatedRepo")
        if name not in repository.files:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", **commit})
        data = repository.files[name]
        if len(data) < LARGE:
            return self.answer(200, data, {"ETag": f'"{git_id(data)}"', **commit})
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{sha256(data)}"', "ETag": '"behind"'}
        location = {"Location": f"{self.hub.storage}/{repo_id}/{name}?signature=secret-of-the-storage"}
        return self.answer(302, b"", {**linked, **location, **commit})


class _StorageHandler(_Handler):
    def do_GET(self) -> None:
        path = self.note("storage")
        match = re.fullmatch(r"/([^/]+/[^/]+)/(.+)", path)
        repository = self.hub.repositories.get(match[1]) if match else None
        if match is None or repository is None:
            return self.refuse(404, "")
        data = repository.files[match[2]]
        if repository.mode == "corrupt":
            data = data[:-1] + bytes([data[-1] ^ 1])
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        self.body(repository, path, data, start)

    def body(self, repository: Repository, path: str, data: bytes, start: int) -> None:
        end = len(data)
        if repository.mode == "broken" or (repository.mode == "broken-once" and path not in self.hub.cut):
            self.hub.cut.add(path)
            end = len(data) // 2
            self.close_connection = True
        try:
            for at in range(start, end, 1 << 16):
                self.wfile.write(data[at : min(end, at + (1 << 16))])
                if repository.mode == "slow":
                    time.sleep(0.01)
        except OSError:
            self.close_connection = True


def _handler(hub: Hub, kind: type[_Handler]) -> type[_Handler]:
    return type(kind.__name__, (kind,), {"hub": hub})
