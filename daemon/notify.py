"""Tells systemd how the service is: one datagram to $NOTIFY_SOCKET, nothing where there is none (sd_notify(3))."""

from __future__ import annotations

import os
import socket


def ready() -> None:
    """Started: the state is loaded and the log can be read."""
    _send("READY=1")


def stopping() -> None:
    """The last checkpoint is being written."""
    _send("STOPPING=1")


def _send(message: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(message.encode(), f"\0{path[1:]}" if path[0] == "@" else path)
        except OSError as error:
            # a supervisor that does not listen must not stop training; it sees a start-up timeout and says so
            os.write(2, f"mtld: {path} does not take {message}: {error}\n".encode())
