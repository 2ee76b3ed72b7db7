"""A sidecar of the standard library for the page's tests: serves the real page and answers as a test tells it."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import daemon

if TYPE_CHECKING:
    from collections.abc import Callable

STATIC = Path(daemon.__path__[0]) / "web" / "static"
POLICY = "default-src 'self'"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}  # fmt: skip
EVENT_S = 0.2


class StandIn:
    """`answers` gives the JSON of each path; `events` off makes the event stream fail, `up` off everything."""

    def __init__(self, answers: dict[str, Callable[[], Any]]) -> None:
        self.answers = answers
        self.events = True
        self.up = True
        self.point: Any = None
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Handler", (_Handler,), {"told": self})
        )
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection for the stand-in that its server belongs to."""

    told: StandIn

    def do_GET(self) -> None:
        if not self.told.up:
            self.send_error(503)
        elif self.path == "/events":
            self._events()
        elif self.path in self.told.answers:
            self._send("application/json", json.dumps(self.told.answers[self.path]()).encode())
        else:
            self._file(self.path)

    def _file(self, path: str) -> None:
        file = STATIC / ("index.html" if path == "/" else path.removeprefix("/static/"))
        if file.is_file() and ".." not in path:
            self._send(KINDS.get(file.suffix, "text/plain"), file.read_bytes())
        else:
            self.send_error(404)

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _events(self) -> None:
        told = self.told
        if not told.events:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # the page was closed
            while told.events and told.up and not told.closing.is_set():
                self._event("status", told.answers["/api/status"]())
                if told.point is not None:
                    self._event("point", told.point)
                    told.point = None
                told.closing.wait(EVENT_S)

    def _event(self, kind: str, body: Any) -> None:
        self.wfile.write(f"event: {kind}\ndata: {json.dumps(body)}\n\n".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: a failing test shows what the browser saw."""
