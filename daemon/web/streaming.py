"""The pulse: one look at the vitals a second, kept in the history and told to everybody who listens to `/events`."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from daemon import condition, finite
from daemon import vitals as vitals_file

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.types import Json
    from daemon.web.history import History

BEAT_S = 1.0
KEPT = 32  # messages; a listener who is further behind misses some


def report(state_dir: Path) -> Json:
    """What `mtld status -o json` prints, or why there is nothing to print."""
    path = state_dir / vitals_file.NAME
    vitals = vitals_file.read(path)
    if vitals is None:
        return {
            "running": False,
            "error": f"no daemon has written {path}; start one with `mtld run`",
        }
    return condition.judge(vitals, state_dir)


class Pulse:
    """Messages in the form of server-sent events, numbered; `beat` makes them, `after` waits for them."""

    def __init__(self, state_dir: Path, history: History) -> None:
        self._state_dir = state_dir
        self._history = history
        self._messages: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._number = 0
        self._changed = threading.Condition()
        self._stop = threading.Event()

    def run(self) -> None:
        """Beat until stopped."""
        while not self._stop.is_set():
            self.beat()
            self._stop.wait(BEAT_S)

    def stop(self) -> None:
        """End `run`, and everybody who waits."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()

    def beat(self) -> None:
        """Look once, and tell what was seen."""
        vitals = vitals_file.read(self._state_dir / vitals_file.NAME)
        point = self._history.look(vitals) if vitals is not None else None
        told = _message("status", report(self._state_dir))
        if point is not None:
            told += _message("point", point)
        with self._changed:
            self._number += 1
            self._messages.append((self._number, told))
            self._changed.notify_all()

    def newest(self) -> int:
        """The number that lets `after` return the newest message at once."""
        return max(0, self._number - 1)

    def after(self, number: int, timeout_s: float) -> tuple[int, bytes]:
        """All messages after that number, waiting for one at most so long; nothing where there was none."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > number or self.is_stopped, timeout_s)
            found = [message for of, message in self._messages if of > number]
            return self._number, b"".join(found)


def _message(event: str, body: Json) -> bytes:
    return f"event: {event}\ndata: {finite.dumps(body, default=str, separators=(',', ':'))}\n\n".encode()
