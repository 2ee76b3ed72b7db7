"""Rows of a .jsonl file: one object a line, {"x": ..., "y": ...} or {"text": ..., "label": ...}."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from daemon.commands.rows.part import COLUMNS, Part, Reading, inputs
from daemon.commands.rows.text import lines
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daemon.types import Json


def read(path: Path, reading: Reading) -> Iterator[Part]:
    """Neighbours with the same columns share an event."""
    with lines(path) as file:
        waiting: list[Json] = []
        for line in file:
            if not line.strip():
                continue
            row = _row(line, file.place)
            full = len(waiting) == reading.num_rows
            if waiting and (full or _shape(row) != _shape(waiting[0])):
                yield _part(waiting, file.done)
                waiting = []
            waiting.append(row)
        if waiting:
            yield _part(waiting, file.done)


def _row(line: str, place: str) -> Json:
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DaemonError(
            f'{place}: not a JSON object; write {{"x": ..., "y": ...}} or {{"text": ..., "label": ...}}'
        )
    given = cast("Json", found)
    row = {{"text": "x", "label": "y"}.get(key, key): value for key, value in given.items()}
    extra = sorted(set(row) - set(COLUMNS))
    if "x" not in row or extra or len(row) != len(given):
        raise DaemonError(
            f"{place}: columns {', '.join(given)}; allowed are x or text, y or label, mask, weight"
        )
    return row


def _shape(row: Json) -> list[tuple[str, tuple[str, ...]]]:
    """Which columns a row has, and for which tasks: only rows alike go into one event."""
    return sorted(
        (key, tuple(cast("Json", value)) if isinstance(value, dict) else ())
        for key, value in row.items()
    )


def _part(rows: list[Json], done: float) -> Part:
    columns = {name: _gathered([row[name] for row in rows]) for name in rows[0]}
    return Part(**{**columns, "x": inputs(columns["x"])}, done=done)


def _gathered(values: list[Any]) -> Any:
    """One list a column, or one a task where the rows name tasks."""
    if not isinstance(values[0], dict):
        return values
    return {task: [value[task] for value in values] for task in cast("Json", values[0])}
