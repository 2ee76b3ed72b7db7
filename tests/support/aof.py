"""Reads back every write that a server ever took, from its append-only file: the log before anybody trimmed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.sources.link import Link

# A server that compacts its append-only file would forget what was trimmed.
KEEP_ALL = ("--auto-aof-rewrite-percentage", "0")


@dataclass(frozen=True, slots=True)
class Added:
    """One entry as it was added to a stream."""

    id: str
    fields: dict[bytes, bytes]


def added(directory: Path, key: str) -> list[Added]:
    """All entries ever added to a stream, in order, also those trimmed since."""
    files = (directory / "appendonlydir").glob("*.incr.aof")
    return [
        _entry(command[2:])
        for file in sorted(files, key=lambda path: int(path.name.split(".")[2]))
        for command in _commands(file.read_bytes())
        if command[0].upper() == b"XADD" and command[1].decode() == key
    ]


def copy(link: Link, entries: list[Added], key: str) -> str:
    """Add entries with their own ids to another stream; returns the last id."""
    for entry in entries:
        flat = [part for pair in entry.fields.items() for part in pair]
        link.call("XADD", key, entry.id, *flat)
    return entries[-1].id


def _entry(words: list[bytes]) -> Added:
    """`[MAXLEN|MINID [=|~] n] id field value ...`; a stream id is what looks like `ms-seq`."""
    place = 0
    if words[0].upper() in (b"MAXLEN", b"MINID"):
        place = 3 if words[1] in (b"=", b"~") else 2
        if words[place].upper() == b"LIMIT":
            place += 2
    flat = words[place + 1 :]
    return Added(words[place].decode(), dict(zip(flat[::2], flat[1::2], strict=True)))


def _commands(data: bytes) -> list[list[bytes]]:
    """RESP arrays of bulk strings, one a command; a torn last one was never answered and is left out."""
    found: list[list[bytes]] = []
    at = 0
    while at < len(data):
        words: list[bytes] = []
        line, at = _line(data, at)
        if line.startswith(b"#"):
            continue
        for _ in range(int(line[1:])):
            size, at = _line(data, at)
            if not size or at + int(size[1:]) + 2 > len(data):
                return found
            words.append(data[at : at + int(size[1:])])
            at += int(size[1:]) + 2
        found.append(words)
    return found


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\r\n", at)
    return (b"", len(data)) if end < 0 else (data[at:end], end + 2)
