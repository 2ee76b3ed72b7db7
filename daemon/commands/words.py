"""How verbs put things into words: values without brackets, lines that hang over, one row and two rows."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, cast

from daemon.commands.shared import WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.types import Json


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
