"""Tells systemd how the service is: one datagram to $NOTIFY_SOCKET, nothing where there is none (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from time import monotonic

STATUS_S = 1.0  # a state that changes more often than this is told at this pace
STOP_STEP_S = 30.0  # a drain that goes on asks for this much more time, again and again ...
LONGEST_STOP_S = (
    900.0  # ... but not for ever: a disk that hangs must not keep a host from shutting down
)


class Pulse:
    """What the loop tells its service manager from its barrier: that it goes on, its state, and that it drains.

    Only the loop beats. One that hangs in a step is silent, although other threads of the process still run, and
    systemd restarts it after WatchdogSec; nothing durable is lost by that.
    """

    def __init__(self) -> None:
        self._is_heard = bool(_path())
        self._every_s = (
            watchdog_s() / 2
        )  # twice as often as asked, so that one late beat kills nobody
        self._next_beat = 0.0
        self._next_status = 0.0
        self._told = ""
        self._stopping_since: float | None = None
        self._next_extension = 0.0

    def beat(self, state: str, reason: str) -> None:
        """Say what is due; costs a comparison where nobody listens."""
        if not self._is_heard:
            return
        now = monotonic()
        if self._every_s and now >= self._next_beat:
            self._next_beat = now + self._every_s
            _send("WATCHDOG=1")
        if state == "draining":
            self._stop(now)
        line = f"{state}: {reason}" if reason else state
        if line != self._told and now >= self._next_status:
            self._told, self._next_status = line, now + STATUS_S
            _send(f"STATUS={' '.join(line.split())[:200]}")

    def _stop(self, now: float) -> None:
        if self._stopping_since is None:
            self._stopping_since, self._next_status = now, now
            stopping()
        if now >= self._next_extension and now - self._stopping_since < LONGEST_STOP_S:
            self._next_extension = now + STOP_STEP_S / 3
            _send(f"EXTEND_TIMEOUT_USEC={STOP_STEP_S * 1e6:.0f}")


def ready() -> None:
    """Started: the state is loaded and the log can be read."""
    _send("READY=1")


def stopping() -> None:
    """The last checkpoint is being written."""
    _send("STOPPING=1")


def busy(at_most_s: float) -> None:
    """The loop does something announced that may take this long; neither a time-out nor the watchdog ends it before."""
    usec = f"{at_most_s * 1e6:.0f}"
    watched = f"\nWATCHDOG_USEC={usec}\nWATCHDOG=1" if watchdog_s() else ""
    _send(f"EXTEND_TIMEOUT_USEC={usec}{watched}")


def usual() -> None:
    """That is over: the watchdog waits as long as it was asked to."""
    if watchdog_s():
        _send(f"WATCHDOG_USEC={watchdog_s() * 1e6:.0f}\nWATCHDOG=1")


def watchdog_s() -> float:
    """Seconds within which the service manager wants to hear of us; 0 where it does not ask."""
    asked, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not asked.isdigit() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(asked) / 1e6


def _path() -> str:
    path = os.environ.get("NOTIFY_SOCKET", "")
    return path if path.startswith(("/", "@")) else ""


def _send(message: str) -> None:
    path = _path()
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)  # a manager whose queue is full must not hold up training
        try:
            channel.sendto(message.encode(), f"\0{path[1:]}" if path[0] == "@" else path)
        except OSError as error:
            # a supervisor that does not listen must not stop training; it sees a start-up timeout and says so
            os.write(2, f"mtld: {path} does not take {message}: {error}\n".encode())
