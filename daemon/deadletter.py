"""Refused events: list them, show one with its payload, send one again after its cause is mended, delete some.

A dead letter holds the reason and where the event lies in the log, not its payload. A replay keeps the event's
id and raises the extension `mtlhop`, which is part of its identity, so it is not taken for a duplicate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from daemon.errors import Refused
from daemon.sources.link import Keys, Link, checked, is_error, pairs
from daemon.types import Entry

MAX_HOPS = 3  # replays of one event; after that it is the event that is wrong, not the world
PURGED_AT_ONCE = 500  # dead letters; a command of 10,000 would hold up the daemon's own
COUNTED = (b"length", b"entries-added")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused event; `fields` are reason, message, event_id, source, type, subject, hop, rows, at and id."""

    letter_id: str  # in the stream of dead letters
    fields: Mapping[str, str]

    @property
    def entry_id(self) -> str:
        """Where the event lies in the log."""
        return self.fields["id"]


class DeadLetters:
    """The dead letters of one namespace; reads, appends to the log only on `replay`, deletes only on `purge`."""

    def __init__(self, link: Link, namespace: str) -> None:
        self._link = link
        self._keys = Keys.of(namespace)

    @classmethod
    def open(cls, url: str, namespace: str, *, password_file: Path | None = None) -> Self:
        """The dead letters at a URL."""
        return cls(Link.open(url, password_file=password_file), namespace)

    def newest(self, count: int) -> list[DeadLetter]:
        """The last dead letters, newest first."""
        rows = self._link.call("XREVRANGE", self._keys.dead, "+", "-", "COUNT", count)
        return [_letter(row) for row in rows]

    def totals(self) -> tuple[int, int]:
        """How many are kept, and how many were evicted by newer ones or purged."""
        return totals(self._link, self._keys.dead)

    def letter(self, letter_id: str) -> DeadLetter:
        """One dead letter; Refused where there is none."""
        rows = self._link.call("XRANGE", self._keys.dead, letter_id, letter_id)
        if not rows:
            msg = f"there is no dead letter {letter_id}; `dead list` shows those that are kept"
            raise Refused(msg)
        return _letter(rows[0])

    def original(self, letter: DeadLetter) -> Entry | None:
        """The event itself, while the log still has it."""
        rows = self._link.call("XRANGE", self._keys.events, letter.entry_id, letter.entry_id)
        entry = Entry(rows[0][0].decode(), pairs(rows[0][1])) if rows else None
        if entry is None or _start(entry, b"id") != letter.fields.get("event_id", ""):
            return None  # trimmed, or the stream was made anew and another event has this id
        return entry

    def replay(self, letter_id: str) -> str:
        """Append the event to the log again, one hop further; returns its new place."""
        letter = self.letter(letter_id)
        entry = self.original(letter)
        if entry is None:
            msg = (
                f"the event of dead letter {letter_id} is no longer in the log (it lay at {letter.entry_id}); "
                f"push it again from where it came; checkpoint.keep_hourly and log_retain_hours say how long the log stays"
            )
            raise Refused(msg)
        hop = entry.fields.get(b"mtlhop", b"0")
        if not hop.isdigit() or int(hop) >= MAX_HOPS:
            shown = hop[:16].decode("ascii", "replace")
            msg = f"dead letter {letter_id} has mtlhop {shown}; at most {MAX_HOPS} replays are allowed, push it as a new event"
            raise Refused(msg)
        fields = dict(entry.fields) | {b"mtlhop": str(int(hop) + 1).encode()}
        flat = [part for pair in fields.items() for part in pair]
        return bytes(self._link.call("XADD", self._keys.events, "*", *flat)).decode()

    def purge(self, letter_ids: Sequence[str]) -> int:
        """Delete dead letters; returns how many there were. The events they name stay in the log."""
        pages = range(0, len(letter_ids), PURGED_AT_ONCE)
        return sum(
            self._link.call("XDEL", self._keys.dead, *letter_ids[start : start + PURGED_AT_ONCE])
            for start in pages
        )

    def close(self) -> None:
        """Disconnect."""
        self._link.close()


def totals(link: Link, key: str) -> tuple[int, int]:
    """Length of a capped stream, and how many entries newer ones have pushed out or somebody deleted."""
    reply = link.exchange([("XINFO", "STREAM", key)])[0]
    if is_error(reply, "no such key"):
        return 0, 0
    length, added = (int(pairs(checked(reply))[name]) for name in COUNTED)
    return length, added - length


def _letter(row: Any) -> DeadLetter:
    return DeadLetter(row[0].decode(), _text(row[1]))


def _text(flat: list[bytes]) -> dict[str, str]:
    """The fields of a row that only we write, readable."""
    return {name.decode(): value.decode("utf-8", "replace") for name, value in pairs(flat).items()}


def _start(entry: Entry, field: bytes) -> str:
    return entry.fields.get(field, b"").decode("utf-8", "replace")[:256]
