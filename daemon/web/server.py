"""The HTTP server of the sidecar: loopback only, read-only, and bounded in connections, listeners and time.

The standard library's server suffices: a few requests a second from one machine, a thread each, and nothing to
install or to keep up to date.
"""

from __future__ import annotations

import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from daemon.errors import ConfigError, Refused
from daemon.web.answers import TEXT, Answer

if TYPE_CHECKING:
    from daemon.web.answers import Answers
    from daemon.web.streaming import Pulse

MAX_CONNECTIONS = 64  # at a time, of any kind; more are turned away at once
MAX_LISTENERS = 16  # of them to /events, each of which stays
TIMEOUT_S = 5.0  # that a client may take between two bytes
QUIET_S = 15.0  # after which a listener gets a comment, so that both sides notice a dead connection
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def address(listen: str) -> tuple[str, int]:
    """HOST:PORT as a pair; anything but an address of this machine alone is refused."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdigit() or int(port) > 65_535 or not host:
        raise ConfigError(f"--listen {listen!r} is not HOST:PORT; write for example 127.0.0.1:9464")
    if not _is_loopback(host):
        raise ConfigError(
            f"--listen {listen!r} would be reached from other machines; allowed are 127.0.0.1, [::1] and localhost: "
            "reach it through ssh or a proxy that knows who asks"
        )
    return ("127.0.0.1" if host == "localhost" else host), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Server(ThreadingHTTPServer):
    """Serves the answers and the pulse; `serve_forever` in one thread, `shutdown` from another."""

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, at: tuple[str, int], answers: Answers, pulse: Pulse) -> None:
        self.answers = answers
        self.pulse = pulse
        self.listeners = threading.BoundedSemaphore(MAX_LISTENERS)
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in at[0] else socket.AF_INET
        try:
            super().__init__(at, Handler)
        except OSError as error:
            raise Refused(
                f"cannot listen on {at[0]}:{at[1]}: {error.strerror}; stop what uses it, or choose another --listen"
            ) from None

    @property
    def url(self) -> str:
        """Where it is reached; with port 0 the one that the system chose."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        request.settimeout(TIMEOUT_S)
        request.sendall(
            b"HTTP/1.1 503 Too many connections\r\nContent-Length: 0\r\nRetry-After: 5\r\n\r\n"
        )
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line on stderr; the server goes on."""
        del request, client_address
        kind, error, _ = sys.exc_info()
        if not isinstance(
            error, ConnectionError | TimeoutError
        ):  # a client that went away is no error of ours
            sys.stderr.write(f"mtld sidecar: a request failed: {kind and kind.__name__}: {error}\n")


class Handler(BaseHTTPRequestHandler):
    """One connection, one request."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "mtld", ""
    timeout = TIMEOUT_S
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        """Answer, or stream events until the client leaves."""
        if not self._is_addressed_to_us():
            self._send(
                Answer(
                    b"this is not a name of this machine\n", TEXT, HTTPStatus.MISDIRECTED_REQUEST
                )
            )
            return
        path, _, query = self.path.partition("?")
        if path == "/events":
            self._stream()
            return
        answer = self.server.answers.to(path, query)
        self._send(answer or Answer(b"there is nothing here\n", TEXT, HTTPStatus.NOT_FOUND))

    do_HEAD = do_GET  # noqa: N815

    def _refuse(self) -> None:
        self._send(
            Answer(b"only GET and HEAD are answered\n", TEXT, HTTPStatus.METHOD_NOT_ALLOWED),
            Allow="GET, HEAD",
        )

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse  # noqa: N815

    def _is_addressed_to_us(self) -> bool:
        """A page of another site may have its name resolved to 127.0.0.1; its requests still carry that name."""
        told = self.headers.get("Host", "localhost")
        host = told[1:].partition("]")[0] if told.startswith("[") else told.partition(":")[0]
        return _is_loopback(host.lower())

    def _send(self, answer: Answer, **more: str) -> None:
        headers = {
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.body)),
            **more,
        }
        self._head(answer.status, headers)
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _stream(self) -> None:
        if not self.server.listeners.acquire(blocking=False):
            self._send(
                Answer(b"too many listeners\n", TEXT, HTTPStatus.SERVICE_UNAVAILABLE),
                **{"Retry-After": "5"},
            )
            return
        try:
            self._head(HTTPStatus.OK, {"Content-Type": "text/event-stream"})
            if self.command != "HEAD":
                self._tell()
        finally:
            self.server.listeners.release()

    def _tell(self) -> None:
        pulse = self.server.pulse
        self.wfile.write(b"retry: 3000\n\n")
        number = pulse.newest()
        while not pulse.is_stopped:
            number, told = pulse.after(number, QUIET_S)
            self.wfile.write(told or b": still here\n\n")

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the library refuses by itself: a request line that is none, headers that are too many."""
        del explain
        self.command = self.command or "GET"
        self.request_version = (
            self.protocol_version
        )  # else what is no HTTP gets an answer without headers
        self._send(
            Answer(f"{message or HTTPStatus(code).phrase}\n".encode("ascii", "replace"), TEXT, code)
        )

    def log_message(self, format: str, *args: object) -> None:
        """No line a request: probes and scrapes come every few seconds."""
