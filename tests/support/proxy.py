"""A proxy between a client and a server that does to the wire what networks do: once, at the request we name."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Self


class Fault(Enum):
    """What happens around one request."""

    LOSE_REQUEST = "the connection breaks before the server sees it"
    DROP_REPLY = "the server executes it, the connection breaks before its reply"
    HALF_CLOSE = "the server executes it, our side of the connection is closed for reading only"
    DELAY = "the reply comes late"
    SILENCE = "the reply never comes and the connection stays open"


class Proxy:
    """Forwards unix-socket connections to `target`; `arm` chooses the next fault."""

    def __init__(self, path: Path, target: Path) -> None:
        self.url = f"unix://{path}"
        self.fired = 0
        self.delay_s = 0.0
        self._target = target
        self._armed: tuple[Fault, bytes] | None = None
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def arm(self, fault: Fault, request: bytes, delay_s: float = 0.0) -> None:
        """The next packet from a client that contains `request` meets the fault."""
        with self._lock:
            self._armed, self.delay_s = (fault, request), delay_s

    def break_all(self) -> None:
        """Reset every connection that is open now."""
        with self._lock:
            while self._open:
                _shut(self._open.pop())

    def close(self) -> None:
        _shut(self._server)
        self.break_all()
        for thread in self._threads:
            thread.join(5.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._target))
            except OSError:
                _shut(client)
                server.close()
                continue
            wire = _Wire(self, client, server)
            with self._lock:
                self._open += [client, server]
            for pump in (wire.requests, wire.replies):
                self._threads.append(threading.Thread(target=pump, daemon=True))
                self._threads[-1].start()

    def take_fault(self, packet: bytes) -> Fault | None:
        """The armed fault, if this packet is the one it waits for."""
        with self._lock:
            if self._armed is None or self._armed[1] not in packet:
                return None
            fault, self._armed = self._armed[0], None
            self.fired += 1
            return fault


class _Wire:
    """One connection: two pumps that share the fault of the current request."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._fault: Fault | None = None

    def requests(self) -> None:
        with suppress(OSError):  # the other side is gone: the connection is over
            while packet := self._client.recv(1 << 16):
                self._fault = self._proxy.take_fault(packet) or self._fault
                if self._fault is Fault.LOSE_REQUEST:
                    break
                self._server.sendall(packet)
        self._end()

    def replies(self) -> None:
        with suppress(OSError):
            while packet := self._server.recv(1 << 16):
                if self._fault is Fault.DROP_REPLY:
                    break
                if self._fault is Fault.HALF_CLOSE:
                    self._client.shutdown(socket.SHUT_WR)
                    return
                if self._fault is Fault.SILENCE:
                    continue
                if self._fault is Fault.DELAY:
                    time.sleep(self._proxy.delay_s)
                    self._fault = None
                self._client.sendall(packet)
        self._end()

    def _end(self) -> None:
        _shut(self._client)
        _shut(self._server)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
