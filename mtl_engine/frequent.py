"""Which contents make up a large part of a task's rows: a sketch of bounded size that misses none of them.

Misra and Gries 1982, "Finding repeated elements": K counters. A content that has one counts up; a new one takes a free
counter, and if there is none every counter goes down by one. A count is at most n / (K + 1) below the true one, n being
the rows seen, and never above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtl_engine.types import Array, Json

COUNTERS = 1000  # so that a count is less than 0.1 % of the rows too low
COPIES = 20  # a content that came less often is not large,
PART = 0.01  # nor is one that makes up no more of the rows


class Frequent:
    """Counts of one task's contents; which of them are large is told by `see`."""

    def __init__(self) -> None:
        self.rows = 0
        self._counts: dict[int, int] = {}

    def see(self, contents: Sequence[int]) -> list[int]:
        """Count the contents of some rows; returns those among them that are large now."""
        counts = self._counts
        self.rows += len(contents)
        for content in contents:
            if content in counts:
                counts[content] += 1
            elif len(counts) < COUNTERS:
                counts[content] = 1
            else:
                self._counts = counts = {c: n - 1 for c, n in counts.items() if n > 1}
        limit = max(COPIES, int(PART * self.rows) + 1)
        return [content for content in dict.fromkeys(contents) if counts.get(content, 0) >= limit]

    def state(self) -> tuple[Json, dict[str, Array]]:
        """In order of first appearance, which no count depends on but a state's bytes do."""
        arrays = {
            "content": np.fromiter(self._counts, np.int64, len(self._counts)),
            "count": np.fromiter(self._counts.values(), np.int64, len(self._counts)),
        }
        return {"rows": self.rows}, arrays

    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        self.rows = int(meta["rows"])
        counts = zip(arrays["content"].tolist(), arrays["count"].tolist(), strict=True)
        self._counts = dict(counts)
