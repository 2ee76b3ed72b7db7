"""Rows in log order become stream batches.

Which rows form which batch is a function of the log and the settings alone: pending rows are part of the
checkpoint, and no clock is read here.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Literal

import numpy as np

from mtl_engine.types import Rows

if TYPE_CHECKING:
    from daemon.types import Json

Mix = Literal["log", "task"]


class Batcher:
    """The pending queue. `mix="log"` takes rows over all tasks in order; `"task"` gathers them per task.

    Bound: less than `batch_size` rows a lane plus the rows of one event.
    """

    def __init__(self, batch_size: int, mix: Mix = "log") -> None:
        self.batch_size = batch_size
        self.mix: Mix = mix
        self._lanes: dict[str, deque[Rows]] = {}

    def __len__(self) -> int:
        return sum(_count(lane) for lane in self._lanes.values())

    def enter(self, rows: Rows) -> None:
        """Append the rows of one event."""
        if len(rows):
            lane = "+".join(sorted(rows.targets)) if self.mix == "task" else ""
            self._lanes.setdefault(lane, deque()).append(rows)

    def full_batch(self) -> list[Rows] | None:
        """The next `batch_size` rows, or None while no lane has as many."""
        for name, lane in self._lanes.items():
            if _count(lane) >= self.batch_size:
                return self._take(name, self.batch_size)
        return None

    def rest(self) -> list[Rows] | None:
        """What is pending in the oldest lane, at most `batch_size` rows; None when nothing is."""
        for name in self._lanes:
            return self._take(name, self.batch_size)
        return None

    def _take(self, name: str, num_rows: int) -> list[Rows]:
        lane = self._lanes.pop(name)
        parts: list[Rows] = []
        left = num_rows
        while left and lane:
            rows = lane.popleft()
            if len(rows) > left:
                lane.appendleft(rows.take(slice(left, None)))
                rows = rows.take(slice(0, left))
            parts.append(rows)
            left -= len(rows)
        if lane:
            self._lanes[name] = lane  # what is left came last, so its lane is the youngest
        return _joined(parts)

    def state(self) -> tuple[dict[str, np.ndarray], Json]:
        """Pending rows as arrays and JSON; nobody changes a pending row, so the arrays are read-only views."""
        arrays: dict[str, np.ndarray] = {}
        chunks: list[Json] = []
        for lane, queue in self._lanes.items():
            for rows in queue:
                prefix = f"pending-{len(chunks)}"
                found, meta = rows.to_arrays()
                arrays |= {f"{prefix}/{name}": _frozen(array) for name, array in found.items()}
                chunks.append({"lane": lane, "prefix": prefix, "rows": meta})
        return arrays, {"chunks": chunks}

    def load_state(self, arrays: dict[str, np.ndarray], meta: Json) -> None:
        """Take over saved pending rows."""
        self._lanes = {}
        for chunk in meta["chunks"]:
            start = f"{chunk['prefix']}/"
            own = {
                name.removeprefix(start): array
                for name, array in arrays.items()
                if name.startswith(start)
            }
            self._lanes.setdefault(chunk["lane"], deque()).append(
                Rows.from_arrays(own, chunk["rows"])
            )


def _frozen(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _count(lane: deque[Rows]) -> int:
    return sum(len(rows) for rows in lane)


def _joined(parts: list[Rows]) -> list[Rows]:
    """One Rows per table, in order of first appearance; rows keep their order within it."""
    by_table: dict[str, list[Rows]] = {}
    for rows in parts:
        by_table.setdefault(rows.table, []).append(rows)
    return [found[0] if len(found) == 1 else Rows.concat(found) for found in by_table.values()]
