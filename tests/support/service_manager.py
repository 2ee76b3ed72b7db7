"""A service manager as a daemon sees it: a datagram socket that keeps what it was told, and when."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from time import monotonic

from tests.support.waiting import wait_until


class ServiceManager:
    """Listens at `path` from a thread of its own until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._socket.recv(4096):
            at = monotonic()
            self.heard += [(at, line) for line in data.decode().splitlines()]

    def count(self, start: str) -> int:
        """How many messages begin so."""
        return sum(line.startswith(start) for _, line in list(self.heard))

    def wait(self, start: str, more_than: int = 0, timeout_s: float = 60.0) -> None:
        """Wait for the next message that begins so."""
        try:
            wait_until(lambda: self.count(start) > more_than, timeout_s)
        except AssertionError:
            raise AssertionError(f"no {start} within {timeout_s:g} s, heard {self.heard}") from None

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()
