"""A log in memory with a good part and rows of permuted labels, for the tests of going back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from daemon.config import Checkpoint, Config
from daemon.sources.memory import MemoryLog
from tests.support.core import add_task, config, rows

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.core import Fields


def started() -> MemoryLog:
    """A log in which a task was added."""
    made = MemoryLog()
    made.add(add_task(holdout=0.4))
    return made


def settings(path: Path, **tables: Any) -> Config:
    return config(path, checkpoint=Checkpoint(keep=50), **tables)


def varied(number: int, count: int = 4) -> Fields:
    """Rows as `rows` makes them, of which no two are the same."""
    made = rows(number, count)
    told = json.loads(made["data"])
    x = [
        [*row[:2], 1 + (number + place) * 0.6180339887 % 1 / 10]
        for place, row in enumerate(told["x"])
    ]
    return {**made, "data": json.dumps({**told, "x": x})}


def spoilt(number: int) -> Fields:
    """Rows with permuted labels, as a broken exporter sends them."""
    made = varied(number)
    told = json.loads(made["data"])
    data = json.dumps({**told, "y": [(label + 1) % 3 for label in told["y"]]})
    return {**made, "data": data, "id": f"bad {number}"}


def good(log: MemoryLog, first: int, count: int = 5) -> None:
    for number in range(first, first + count):
        log.add(varied(number * 4))
