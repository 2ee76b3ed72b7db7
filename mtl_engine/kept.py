"""Where every content of a table of hold-outs is."""

from __future__ import annotations

import numpy as np

from mtl_engine.replay_table import ReplayTable
from mtl_engine.types import Array

CONTENT = "@content"  # the column of the contents' hashes, beside a row's labels


class Kept:
    """The slot of every content; follows from the table, so it is no state."""

    def __init__(self, table: ReplayTable) -> None:
        self.slot_of: dict[int, int] = {}
        self._at: dict[int, int] = {}
        if table.x is not None:
            slot_H = table.slots.used()
            self.put(slot_H, table.targets[CONTENT].take(slot_H).y)

    def put(self, slot_B: Array, content_B: Array) -> None:
        """These contents went into these slots, -1 = nowhere."""
        for slot, content in zip(slot_B.tolist(), content_B.tolist(), strict=True):
            if slot >= 0:
                if slot in self._at:
                    del self.slot_of[self._at[slot]]
                self.slot_of[content], self._at[slot] = slot, content

    def remove(self, table: ReplayTable, slot: int) -> None:
        """Empty a slot."""
        del self.slot_of[self._at.pop(slot)]
        table.slots.remove(np.array([slot]), np.zeros(0, np.int64))
