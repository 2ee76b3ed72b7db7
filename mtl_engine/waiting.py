"""Held-out rows that wait for their places, and how those of many events become one block of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from mtl_engine.kept import CONTENT
from mtl_engine.types import Array, Rows, Target

PHASE, STEP = "@phase", "@step"  # beside a row's labels, as its `CONTENT`


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows of one event: their hashes, the step of the training, and by task the number of its phase."""

    rows: Rows
    content_B: Array
    step: int
    phases: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of successive events with labels of the same tasks."""

    rows: Rows
    content_B: Array
    step_B: Array
    phases: Mapping[str, Array]

    def marked(self, task: str, row_N: Array) -> Rows:
        """Some rows with one task's labels and what is kept beside them."""
        targets = {
            task: self.rows.targets[task].take(row_N),
            PHASE: Target(self.phases[task][row_N]),
            STEP: Target(self.step_B[row_N]),
            CONTENT: Target(self.content_B[row_N]),
        }
        length = None if self.rows.length is None else self.rows.length[row_N]
        return Rows(self.rows.table, self.rows.x[row_N], length, targets)


def runs(waiting: Sequence[Waiting]) -> Iterator[Run]:
    """What waits, in order, joined as far as it is of one table and the same tasks."""
    for _, group in groupby(waiting, lambda one: (one.rows.table, tuple(one.rows.targets))):
        parts = list(group)
        sizes = [len(part.rows) for part in parts]
        phases = {
            name: np.repeat(np.array([part.phases[name] for part in parts], np.int32), sizes)
            for name in parts[0].phases
        }
        yield Run(
            Rows.concat([part.rows for part in parts]),
            np.concatenate([part.content_B for part in parts]),
            np.repeat(np.array([part.step for part in parts], np.int32), sizes),
            phases,
        )
