"""Who sent a row: the names of producers as numbers that the engine counts by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mtl_engine.senders import LARGEST_NUMBER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.types import Json
    from mtl_engine.types import Rows

OTHER = "other"  # all that come when there is no number left


class SenderNames:
    """A table of names in the order in which they first sent rows, the same for everybody who reads the log.

    A producer's source is its name and, after a "/", what tells its starts apart. Bound: `LARGEST_NUMBER` names.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def marked(self, rows: Rows, source: str) -> Rows:
        """The rows of an event, each with the number of who sent it."""
        return replace(rows, origin=np.full(len(rows), self._number(source), np.int32))

    def _number(self, source: str) -> int:
        name = source.partition("/")[0]
        known = self._numbers.get(name)
        if known is not None:
            return known
        if name == OTHER or len(self._numbers) >= LARGEST_NUMBER:
            return LARGEST_NUMBER
        return self._numbers.setdefault(name, len(self._numbers))

    def named(self, report: Mapping[str, Mapping[int, Json]]) -> dict[str, dict[str, Json]]:
        """What the engine tells by task and number, by task and name."""
        names = [*self._numbers]
        return {
            task: {names[n] if n < len(names) else OTHER: told for n, told in senders.items()}
            for task, senders in report.items()
        }

    def state(self) -> list[str]:
        return list(self._numbers)

    def load_state(self, names: Sequence[str]) -> None:
        """Take over saved names; a state from before there were any has none."""
        self._numbers = {name: number for number, name in enumerate(names)}
