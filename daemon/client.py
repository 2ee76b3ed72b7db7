"""Asks a running daemon over its control socket and waits for the one line it answers."""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from daemon import finite
from daemon.errors import (
    BrokerFull,
    ConfigError,
    DaemonError,
    IntegrityError,
    NotRunning,
    Refused,
    TimedOut,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from daemon.types import Json

SOCKET = "control.sock"
MAX_REPLY_BYTES = (
    4 * 1024 * 1024
)  # a daemon's answer is a few KiB; beyond this something else is talking
MAX_ADDRESS_BYTES = 107  # sun_path holds 108 with its zero

_BY_EXIT_CODE: dict[int, type[DaemonError]] = {
    leaf.exit_code: leaf
    for leaf in (ConfigError, NotRunning, TimedOut, Refused, IntegrityError, BrokerFull)
}


@contextmanager
def address(path: Path) -> Generator[str]:
    """A name for a unix socket that fits the kernel's limit, however long the path to its folder is."""
    if len(os.fsencode(path)) <= MAX_ADDRESS_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def call(state_dir: Path, name: str, args: Json | None = None, timeout_s: float = 10.0) -> Json:
    """The daemon's answer to one command; raises what the daemon says went wrong, NotRunning or TimedOut."""
    path = state_dir / SOCKET
    deadline = time.monotonic() + timeout_s
    line = finite.dumps({"name": name, "args": args or {}}, separators=(",", ":")).encode() + b"\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            with address(path) as where:
                connection.connect(where)
            connection.sendall(line)
            answer = _line(connection, deadline)
        except (FileNotFoundError, ConnectionError):
            raise NotRunning(
                f"no daemon answers on {path}; start one with `mtld run`, or name its state directory with --state"
            ) from None
        except PermissionError:
            raise Refused(
                f"{path} belongs to another user; run this command as the daemon's user"
            ) from None
        except TimeoutError:
            raise TimedOut(
                f"the daemon did not answer {name!r} within {timeout_s:g} s; it may still carry it out, see `mtld status`"
            ) from None
    return _opened(answer, name)


def _line(connection: socket.socket, deadline: float) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        chunk = connection.recv(65_536)
        if not chunk:
            raise ConnectionResetError("closed before the answer")
        received += chunk
        if len(received) > MAX_REPLY_BYTES:
            raise Refused(
                f"the answer is longer than {MAX_REPLY_BYTES} bytes: this is not a daemon's control socket"
            )
    return bytes(received)


def _opened(answer: bytes, name: str) -> Json:
    try:
        reply: object = finite.loads(answer)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise Refused(
            f"the answer to {name!r} is not a JSON object: this is not a daemon's control socket"
        )
    found = cast("Json", reply)
    if "error" in found:
        raise _BY_EXIT_CODE.get(int(found.get("exit_code", 1)), DaemonError)(str(found["error"]))
    return found
