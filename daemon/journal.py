"""What happened, for people: the newest lines of the journal, and new ones as they come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from daemon.identity import FIRST_ID
from daemon.sources.link import Keys, Link, pairs

BLOCK_S = 2.0  # of one wait for new lines; below the time-out of a reply
PAGE = 256  # lines fetched at a time


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its id in the stream, when it was written (RFC 3339), what kind, and its details as JSON."""

    id: str
    at: str
    kind: str
    detail: str


class Journal:
    """The journal of one namespace; reads only."""

    def __init__(self, link: Link, namespace: str) -> None:
        self._link = link
        self._key = Keys.of(namespace).journal

    @classmethod
    def open(cls, url: str, namespace: str, *, password_file: Path | None = None) -> Self:
        """The journal at a URL."""
        return cls(Link.open(url, password_file=password_file), namespace)

    def newest(self, count: int) -> list[Line]:
        """The last lines, oldest of them first."""
        rows = self._link.call("XREVRANGE", self._key, "+", "-", "COUNT", count)
        return [_line(row) for row in reversed(cast("list[Any]", rows))]

    def after(self, line_id: str = FIRST_ID, timeout_s: float = BLOCK_S) -> list[Line]:
        """Lines after one, waiting for the first of them at most `timeout_s` (and never longer than BLOCK_S)."""
        block_ms = max(1, int(min(timeout_s, BLOCK_S) * 1000))  # 0 would block for ever
        self._link.call("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", self._key, line_id)
        rows = self._link.call("XRANGE", self._key, f"({line_id}", "+", "COUNT", PAGE)
        return [_line(row) for row in rows]

    def close(self) -> None:
        """Disconnect."""
        self._link.close()


def _line(row: Any) -> Line:
    fields = {
        name.decode(): value.decode("utf-8", "replace") for name, value in pairs(row[1]).items()
    }
    return Line(
        row[0].decode(), fields.get("at", ""), fields.get("kind", ""), fields.get("detail", "")
    )
