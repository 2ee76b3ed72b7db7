"""How far a push is: a bar that replaces itself, on a terminal only; and the brake that --rate asks for."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from daemon.commands.words import ago

if TYPE_CHECKING:
    from types import TracebackType

PROGRESS_S = 0.2
BAR = 24  # characters
CLEAR = "\r\033[K"


class Progress:
    """Follows the rows as they are sent, on stderr; sends no more than `rate` rows a second."""

    def __init__(self, rate: float | None = None) -> None:
        self._rate = rate
        self._begin = time.monotonic()
        self._next = 0.0
        self._shown = False

    def to(self, rows: int, done: float | None) -> None:
        """So many rows are sent, and this part of the file; returns when more may follow."""
        if self._rate is not None:
            time.sleep(max(0.0, self._begin + rows / self._rate - time.monotonic()))
        passed = time.monotonic() - self._begin
        if sys.stderr.isatty() and passed >= self._next:
            self._next, self._shown = passed + PROGRESS_S, True
            sys.stderr.write(f"{CLEAR}{line(rows, done, passed)}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar away, so that something else can be said."""
        if self._shown:
            sys.stderr.write(CLEAR)
            self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.clear()


def line(rows: int, done: float | None, passed_s: float) -> str:
    """The bar, what is sent, how fast, and how long the rest will take."""
    rate = f"{rows:,} rows, {rows / max(passed_s, 1e-9):,.0f} rows/s"
    if not done:
        return rate
    full = round(done * BAR)
    left = f", {ago(passed_s * (1 - done) / done)} left" if done < 1 else ""
    return f"[{'#' * full}{'.' * (BAR - full)}] {done:4.0%}  {rate}{left}"
