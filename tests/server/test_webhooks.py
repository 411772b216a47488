"""Webhooks: signed, tried again, kept over a restart, and told to nobody who was not allowed."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fake_jobs
import pytest
from memory_queue import MemoryQueue
from serving import serving, until

from opensora.pipelines.request import GenerationRequest
from opensora.server.errors import ApiError
from opensora.server.videos import describe
from opensora.server.webhooks import Webhooks, signature

SECRET = "a secret of many characters"


@dataclass
class Host:
    """A server that is told; ``answers`` are what it says, the last one again and again."""

    port: int
    answers: list[int] = field(default_factory=lambda: [200])
    told: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=secret"


@pytest.fixture
def host() -> Iterator[Host]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            host.told.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(host.answers.pop(0) if len(host.answers) > 1 else host.answers[0])
            self.send_header("Location", f"http://127.0.0.1:{host.port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    host = Host(server.server_address[1])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield host
    server.shutdown()
    server.server_close()


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryQueue]:
    monkeypatch.setenv("FAKE_JOBS", str(tmp_path))
    queue = MemoryQueue(fake_jobs.generate, tmp_path / "outputs")
    yield queue
    (tmp_path / "go").touch()
    queue.close()


def telling(queue: MemoryQueue, folder: Path, *hosts: str) -> Webhooks:
    return Webhooks(queue, folder / "told", hosts, SECRET, describe, first_pause=0.05)


def test_a_program_is_told_of_its_video_with_a_signature(host: Host, tmp_path: Path) -> None:
    settings = {"webhook_hosts": (f"127.0.0.1:{host.port}",), "webhook_secret": SECRET}
    with serving(tmp_path, **settings) as running, running.client() as client:
        sent = {"prompt": "a red ball", "length": "17f", "webhook_url": host.url}
        job = client.post("/v1/videos", json=sent).json()["id"]
        until(lambda: bool(host.told))
        path, headers, body = host.told[0]
        assert path == "/hook?token=secret" and headers["content-type"] == "application/json"
        told = json.loads(body)
        assert told["type"] == "video.completed" and told["data"]["id"] == job and told["data"]["status"] == "done"
        own = signature(SECRET, headers["webhook-id"], headers["webhook-timestamp"], body)
        assert headers["webhook-signature"] == own and "authorization" not in headers
        until(lambda: not list((running.folder / ".webhooks").iterdir()))
        assert len(host.told) == 1


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # echo -n 'msg_1.1700000000.{"a":1}' | openssl dgst -sha256 -hmac key -binary | base64
    assert signature("key", "msg_1", "1700000000", b'{"a":1}') == "v1,KSgv0SSgWzG5LPnm9tfWJRfBlWqAqHz+OlObgspQi/g="


def test_a_host_that_is_busy_is_told_again_with_the_same_id(host: Host, queue: MemoryQueue, tmp_path: Path) -> None:
    host.answers = [503, 429, 200]
    hooks = telling(queue, tmp_path, f"127.0.0.1:{host.port}")
    job = queue.submit(GenerationRequest("flat", length="17f"), "me")
    hooks.watch(job, "me", hooks.checked(host.url))
    until(lambda: len(host.told) == 3)
    assert len({headers["webhook-id"] for _, headers, _ in host.told}) == 1
    assert json.loads(host.told[2][2])["type"] == "video.failed"
    hooks.close()
    assert list((tmp_path / "told").iterdir()) == []


@pytest.mark.parametrize("status", [302, 307, 400, 410])
def test_redirects_are_not_followed_and_refusals_are_final(
    host: Host, queue: MemoryQueue, tmp_path: Path, status: int
) -> None:
    host.answers = [status]
    hooks = telling(queue, tmp_path, f"127.0.0.1:{host.port}")
    job = queue.submit(GenerationRequest("flat", length="17f"), "me")
    hooks.watch(job, "me", host.url)
    until(lambda: not list((tmp_path / "told").iterdir()))
    hooks.close()
    assert [path for path, _, _ in host.told] == ["/hook?token=secret"]


def test_a_restart_forgets_nobody(host: Host, queue: MemoryQueue, tmp_path: Path) -> None:
    before = telling(queue, tmp_path, f"127.0.0.1:{host.port}")
    job = queue.submit(GenerationRequest("wait", length="17f"), "me")
    before.watch(job, "me", host.url)
    before.close()
    (tmp_path / "go").touch()
    queue.wait(job, "me", 60)
    after = telling(queue, tmp_path, f"127.0.0.1:{host.port}")
    until(lambda: bool(host.told))
    after.close()
    assert json.loads(host.told[0][2])["data"]["id"] == job


def test_a_host_that_is_no_longer_allowed_is_not_told(host: Host, queue: MemoryQueue, tmp_path: Path) -> None:
    hooks = telling(queue, tmp_path, "other.example")
    job = queue.submit(GenerationRequest("flat", length="17f"), "me")
    hooks.watch(job, "me", host.url)
    until(lambda: not list((tmp_path / "told").iterdir()))
    hooks.close()
    assert host.told == []


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x",
        "http://hooks.example.com/x",
        "https://hooks.example.com:8443/x",
        "https://hooks.example.com@evil.example/x",
        "https://user:word@hooks.example.com/x",
        "https://evil.example\\@hooks.example.com/x",
        "https://hooks.example.com.evil.example/x",
        "https://hooks.example.com#@evil.example/",
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/",
        "http://127.0.0.1:1/x",
        "http://2130706433:9/x",
        "http://0x7f.1:9/x",
        "http://127.1:9/x",
        "http://[::ffff:127.0.0.1]:9/x",
        "http://0.0.0.0:9/x",
        "file:///etc/passwd",
        "ftp://hooks.example.com/x",
        "gopher://127.0.0.1:9/_x",
        "//hooks.example.com/x",
        "https://hooks.example.com:99999/x",
        "https://[/x",
        "https://hooks.example.com/\r\nx: y",
        "https://hooks。example.com/",
        "",
        "https://",
        7,
        ["https://hooks.example.com/"],
        "https://hooks.example.com/" + "x" * 2000,
    ],
)
def test_no_other_address_is_told(queue: MemoryQueue, tmp_path: Path, url: Any) -> None:
    hooks = telling(queue, tmp_path, "hooks.example.com", "127.0.0.1:9")
    try:
        with pytest.raises(ApiError) as refused:
            hooks.checked(url)
        assert refused.value.status == 422 and refused.value.field == "webhook_url"
        assert hooks.checked("https://Hooks.Example.com/x?y=z") and hooks.checked("http://127.0.0.1:9/x")
    finally:
        hooks.close()


def test_a_port_that_nobody_listens_on_is_given_up(queue: MemoryQueue, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    hooks = Webhooks(queue, tmp_path / "told", [f"127.0.0.1:{port}"], SECRET, describe, first_pause=0.001)
    job = queue.submit(GenerationRequest("flat", length="17f"), "me")
    hooks.watch(job, "me", f"http://127.0.0.1:{port}/")
    until(lambda: not list((tmp_path / "told").iterdir()))
    hooks.close()
