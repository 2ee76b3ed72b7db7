"""The control socket: one thread turns lines into Requests and carries replies back; it never touches the engine.

One JSON object a line, `{"name": ..., "args": {...}}`; the answer is one object a line, `{"error", "exit_code"}` when
refused. A client's next line is read only after its last one was answered, so requests waiting are at most MAX_CLIENTS.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, cast

from daemon import finite
from daemon.client import address
from daemon.errors import Refused
from daemon.types import Json, Request

if TYPE_CHECKING:
    from pathlib import Path

MAX_CLIENTS = 32  # open connections; a further one is told so and closed
MAX_LINE_BYTES = 64 * 1024  # a command is a few hundred bytes
FLUSH_S = 1.0  # on close: time for the last answers to leave
SEND_S = 5.0  # a client that does not read its answer for this long is dropped


@dataclass(slots=True, eq=False)
class _Client:
    connection: socket.socket
    received: bytearray = field(default_factory=bytearray)
    answer: bytes = b""  # what is still to be sent
    answer_by: float = 0.0  # monotonic time at which sending is given up
    waiting: bool = False  # a request of this client is with the loop


class ControlServer:
    """Listens on `path` (mode 600); the loop takes from `requests` and calls each one's `reply` once, when it likes."""

    def __init__(self, path: Path) -> None:
        self.requests: SimpleQueue[Request] = SimpleQueue()
        self._path = path
        self._answers: SimpleQueue[tuple[_Client, bytes]] = SimpleQueue()
        self._closing = threading.Event()
        self._clients: set[_Client] = set()
        self._selector = selectors.DefaultSelector()
        self._listener = _listen(path)
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ, self._collect)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send the answers already given, then stop listening and remove the socket."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._nudge()
        self._thread.join(2 * FLUSH_S)
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._closing.is_set():
            self._turn(1.0)
        deadline = time.monotonic() + FLUSH_S
        self._collect()
        while any(client.answer for client in self._clients) and time.monotonic() < deadline:
            self._turn(0.05)
        for client in list(self._clients):
            self._drop(client)
        self._selector.close()
        for end in (self._listener, self._woken, self._wake):
            end.close()

    def _turn(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            if isinstance(key.data, _Client):
                self._exchange(key.data)
            else:
                key.data()
        now = time.monotonic()
        for client in [one for one in self._clients if one.answer and now > one.answer_by]:
            self._drop(client)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (
            OSError
        ):  # the client left before we came, or no descriptor is free: it sees a refusal either way
            return
        connection.setblocking(False)
        client = _Client(connection)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)
        if len(self._clients) > MAX_CLIENTS:
            self._answer(
                client, _error(f"{MAX_CLIENTS} clients are connected already; try again", 75)
            )
            self._exchange(client)
            self._drop(client)

    def _exchange(self, client: _Client) -> None:
        try:
            if client.answer:
                client.answer = client.answer[client.connection.send(client.answer) :]
            else:
                self._receive(client)
        except BlockingIOError:
            return  # the selector will say when
        except OSError:
            self._drop(client)
            return
        if client in self._clients:
            self._watch(client)

    def _receive(self, client: _Client) -> None:
        chunk = client.connection.recv(MAX_LINE_BYTES)
        if not chunk:
            self._drop(client)
            return
        client.received += chunk
        if not client.waiting:
            self._next_line(client)
        elif len(client.received) > MAX_LINE_BYTES:
            self._drop(client)  # talks on without waiting for answers

    def _next_line(self, client: _Client) -> None:
        line, newline, rest = client.received.partition(b"\n")
        if not newline and len(line) < MAX_LINE_BYTES:
            return
        client.received = rest
        if len(line) >= MAX_LINE_BYTES:
            self._answer(
                client,
                _error(f"a command of {len(line)} bytes; at most {MAX_LINE_BYTES} are read", 2),
            )
            return
        try:
            name, args = _parse(bytes(line))
        except Refused as error:
            self._answer(client, _error(str(error), 2))
            return
        client.waiting = True
        self.requests.put(Request(name, args, lambda reply: self._reply(client, reply)))

    def _reply(self, client: _Client, reply: Json) -> None:
        self._answers.put(
            (client, finite.dumps(reply, separators=(",", ":"), default=str).encode() + b"\n")
        )
        self._nudge()

    def _nudge(self) -> None:
        try:
            self._wake.send(b"x")
        except OSError:  # the thread has been told already, or is gone
            return

    def _collect(self) -> None:
        with suppress(BlockingIOError):  # closing looks for answers without having been told of one
            self._woken.recv(4096)
        while not self._answers.empty():
            client, answer = self._answers.get()
            if client in self._clients and client.waiting:
                self._answer(client, answer)
                self._watch(client)

    def _answer(self, client: _Client, answer: bytes) -> None:
        client.waiting = False
        client.answer = answer
        client.answer_by = time.monotonic() + SEND_S

    def _watch(self, client: _Client) -> None:
        """Wait for what comes next: room to send, the next line, or (with the loop) only for the client to leave."""
        if not client.answer and not client.waiting and client.received:
            self._next_line(client)
        events = selectors.EVENT_WRITE if client.answer else selectors.EVENT_READ
        self._selector.modify(client.connection, events, client)

    def _drop(self, client: _Client) -> None:
        self._clients.discard(client)
        self._selector.unregister(client.connection)
        client.connection.close()


def _listen(path: Path) -> socket.socket:
    """A listening socket that nobody else could connect to at any moment: mode first, then listen, then the name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with address(temporary) as where:
        listener.bind(where)
    temporary.chmod(0o600)
    listener.listen(MAX_CLIENTS)
    listener.setblocking(False)
    temporary.replace(path)
    return listener


def _parse(line: bytes) -> tuple[str, Json]:
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    command = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    name, args = command.get("name"), command.get("args", {})
    if not isinstance(name, str) or not isinstance(args, dict):
        raise Refused('a command is one line of JSON: {"name": "pause", "args": {}}')
    return name, cast("Json", args)


def _error(message: str, exit_code: int) -> bytes:
    return finite.dumps({"error": message, "exit_code": exit_code}).encode() + b"\n"
