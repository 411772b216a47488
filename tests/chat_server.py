"""A small server of chat completions on loopback, and the ways in which one fails."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Chat:
    """A running server."""

    url: str = ""
    mode: str = "fine"
    """fine; echo (answers the last message); html, empty, list, deep (200 with what is no completion); 401, 404, 429,
    500 (always that status, with the key in its body); 503-once (the first request only); large (more than anybody
    reads); never (keeps the connection and says nothing); drip (a byte now and then, for ever); broken (half an
    answer); garbage (no HTTP); redirect (to itself)."""
    answer: str = "A red ball rolls over wet grass."
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Bodies."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of every request, names in lower case."""
    stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve() -> Iterator[Chat]:
    """Run a server until the block ends."""
    chat = Chat()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"chat": chat}))
    server.daemon_threads = True
    server.block_on_close = False
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield chat
    finally:
        chat.stop.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    chat: Chat
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        chat = self.chat
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        chat.requests.append(body)
        chat.headers.append({name.lower(): value for name, value in self.headers.items()})
        answer = body["messages"][-1]["content"].upper() if chat.mode == "echo" else chat.answer
        fine = json.dumps({"choices": [{"message": {"role": "assistant", "content": answer}}]}).encode()
        nonsense = {"html": b"<html>Log in</html>", "empty": b"", "list": b"[1]", "deep": b"[" * 100_000}
        match chat.mode:
            case "401" | "404" | "429" | "500":
                self.reply(int(chat.mode), str(dict(self.headers)).encode())
            case "503-once" if len(chat.requests) == 1:
                self.reply(503, b"starting")
            case "html" | "empty" | "list" | "deep":
                self.reply(200, nonsense[chat.mode])
            case "large":
                self.reply(200, b" " * 1_000_000 + fine)
            case "never" | "drip":
                self.hang(drip=chat.mode == "drip")
            case "broken":
                self.reply(200, fine[:20], length=len(fine))
            case "garbage":
                self.wfile.write(b"220 ready for mail\r\n")
                self.close_connection = True
            case "redirect":
                self.reply(307, b"", location=self.path)
            case _:
                self.reply(200, fine)

    def reply(self, status: int, body: bytes, length: int | None = None, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True
        self.close_connection = self.close_connection or length is not None

    def hang(self, drip: bool) -> None:
        self.close_connection = True
        try:
            while not self.chat.stop.wait(0.05):
                if drip:
                    self.wfile.write(b"H")
                    self.wfile.flush()
        except OSError:
            pass
