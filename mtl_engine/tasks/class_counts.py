"""How many rows of every class the stream brought: for ever, and in about the last 10,000."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtl_engine.types import Array, Json

BLOCK_ROWS = 1000
BLOCKS = 10  # the last of them is being filled, so the recent counts are of 9,000 to 10,000 rows, and of more if events are large


class ClassCounts:
    """Counts by column of a classification task, trained and held-out rows alike; the prior of its probabilities.

    Hold-outs have as many rows of a rare class as of a common one. Where the accuracy or a probability *of the stream*
    is meant, a class counts as often as it came.
    """

    def __init__(self) -> None:
        self._ever_C = np.zeros(8, np.int64)
        self._recent_KC = np.zeros((BLOCKS, 8), np.int64)
        self._rows = 0  # in the newest block
        self._waiting: list[Array] = []  # labels that came since
        self._num_waiting = 0

    @property
    def ever_C(self) -> Array:
        """Rows since the task was added, int64 [C]."""
        self._count()
        return self._ever_C

    @property
    def recent_C(self) -> Array:
        """Of about the last 10,000 rows, int64 [C]; events are never parted, so at most `BLOCKS` of the largest more."""
        self._count()
        return self._recent_KC.sum(0)

    def add(self, y_B: Array) -> None:
        """Columns of rows that came together. Counted many at once: in the middle of a step that would cost more."""
        if len(y_B):
            self._waiting.append(y_B)
            self._num_waiting += len(y_B)
            if self._num_waiting >= BLOCK_ROWS:
                self._count()

    def _count(self) -> None:
        """Count what waits, with the outcome of counting each at once; rows that came together stay in one block."""
        waiting, self._waiting, self._num_waiting = self._waiting, [], 0
        while waiting:
            if self._rows >= BLOCK_ROWS:
                fresh_1C = np.zeros_like(self._recent_KC[:1])
                self._recent_KC, self._rows = np.concatenate([self._recent_KC[1:], fresh_1C]), 0
            parts: list[Array] = []
            while waiting and self._rows < BLOCK_ROWS:
                parts.append(waiting.pop(0))
                self._rows += len(parts[-1])
            count_C = np.bincount(np.concatenate(parts))
            gap = max(0, len(count_C) - len(self._ever_C))
            if gap:
                self._ever_C = np.pad(self._ever_C, (0, gap))
                self._recent_KC = np.pad(self._recent_KC, ((0, 0), (0, gap)))
            self._ever_C[: len(count_C)] += count_C
            self._recent_KC[-1, : len(count_C)] += count_C

    def share(self, class_K: Array) -> Array:
        """The classes' parts of the stream so far, float64 [K]; one that never came counts as one row."""
        count_C, beyond = self.ever_C, int(class_K.max(initial=0)) + 1 - len(self._ever_C)
        if beyond > 0:
            count_C = np.pad(count_C, (0, beyond))
        count_K = np.maximum(count_C[class_K], 1).astype(np.float64)
        return count_K / count_K.sum()

    def state(self) -> tuple[Json, dict[str, Array]]:
        self._count()
        return {"recent_rows": self._rows}, {"stream_C": self._ever_C, "recent_KC": self._recent_KC}

    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """A state of before there were such counts brings those of the trained rows as `stream_C`."""
        self._waiting, self._num_waiting = [], 0
        self._ever_C = np.array(arrays["stream_C"], np.int64)
        self._rows = int(meta.get("recent_rows", 0))
        fresh_KC = np.zeros((BLOCKS, len(self._ever_C)), np.int64)
        self._recent_KC = np.array(arrays.get("recent_KC", fresh_KC), np.int64)
