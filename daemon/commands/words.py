"""How verbs put things into words: values without brackets, tables and lines that fit a terminal, durations, sizes."""

from __future__ import annotations

import sys
from textwrap import wrap
from typing import TYPE_CHECKING, Any, cast

from daemon import finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from daemon.types import Json

WORD = 24  # letters; what is longer is no word and may be cut anywhere
WIDTH = 80  # columns that a table may take: the narrowest terminal an operator has at night


def fields(found: Json) -> Iterator[str]:
    """A name and a value a line, long values over several lines; nothing is cut off."""
    width = max(11, *map(len, found)) + 1
    for name, value in found.items():
        yield from hang(f"{name:<{width}}{plain(value)}", width)


def plain(value: object) -> str:
    """A value from JSON as people read it: no brackets, no quotes, numbers short, nothing for what is empty."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        parts = cast("Json", value).items()
        return ", ".join(f"{key} {plain(one)}" for key, one in parts if one not in ("", None))
    if isinstance(value, list):
        return ", ".join(plain(one) for one in cast("list[object]", value)) or "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def hang(line: str, indent: int) -> list[str]:
    """A line over as many lines as it needs, all but the first indented; nothing is cut off."""
    return wrap(line, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def several(count: int, word: str) -> str:
    """1 row, 2,000 rows."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def show(result: Any, table: Callable[[], Sequence[str]], *, as_json: bool) -> None:
    """Print a result: JSON as it is, or the lines that `table` makes of it."""
    if as_json:
        sys.stdout.write(finite.dumps(result, indent=2, default=str) + "\n")
    else:
        sys.stdout.write("".join(f"{printable(line)}\n" for line in table()))


def columns(rows: Sequence[Sequence[object]], headings: Sequence[str]) -> list[str]:
    """Rows under headings, as wide as their widest cell; numbers to the right, the last column cut at WIDTH."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(headings), *cells]) for i in range(len(headings))]
    right = [
        bool(rows) and all(isinstance(row[i], int | float | None) for row in rows)
        for i in range(len(headings))
    ]
    lines = [
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [list(headings), *cells]
    ]
    return [fit(line) for line in lines]


def fit(line: str) -> str:
    """A line cut at WIDTH, between words where there are words, and a mark where something is missing."""
    if len(line) <= WIDTH:
        return line
    kept, _, broken = line[: WIDTH - 1].rpartition(" ")
    return f"{kept.rstrip()} …" if len(broken) < WORD else f"{line[: WIDTH - 1]}…"


def printable(text: str) -> str:
    """Text on one line that cannot steer the terminal: names and messages come from whoever can write to the log."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def note(message: str) -> None:
    """Something the operator should read and a program should not parse: stderr."""
    sys.stderr.write(f"{printable(message)}\n")


def ago(seconds: float | None) -> str:
    """A duration as people say it: 3 s, 12 min, 5 h, 9 d."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def size(num_bytes: float | None) -> str:
    """A size in binary units: 512 B, 3.1 MiB."""
    if num_bytes is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GiB"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
