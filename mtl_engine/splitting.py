"""Which stream rows are held out: decided by their content under the salt, the same for every task and every copy.

u = `contents.fraction` of the row's hash. A row is held out iff u < the largest `holdout` of the tasks that read rows of
its form, whether it carries labels or not. So a content is either trained on or scored on, however often it comes and
under whatever name. Contents that make up much of a task (`frequent`) would then be all in or all out: from the moment
they are found they are drawn copy by copy, by the place of each copy in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mtl_engine.contents import Contents, form, fraction
from mtl_engine.frequent import Frequent
from mtl_engine.registry import Registry
from mtl_engine.types import Array, Json, Rows


class Splitter:
    """Splits the rows of events; `large` contents are drawn copy by copy, `settled` ones are held out whatever their u.

    Bounds: a sketch a task; a content becomes large only with over 1 % of all rows so far, so their number grows with the
    logarithm of the stream; settled are the hold-outs of a state of before, and those that a retired task leaves: its
    own, and others' that only its `holdout` held out.
    """

    def __init__(self, registry: Registry, salt: str) -> None:
        self.contents = Contents(salt)
        self.large: dict[int, None] = {}
        self.settled: set[int] = set()
        self._frequent: dict[str, Frequent] = {}
        self._registry = registry

    def split(self, rows: Rows, place: str) -> tuple[Array, Array]:
        """Which rows are held out, bool [B], and the hash of each [B]; `place` is where the event stands in the log."""
        table = self._registry.tables[rows.table]
        limit = self.limit(form(table))
        if not limit and not self.settled:
            return np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.int64)
        hash_B = self.contents.of_rows(rows, table)
        listed: list[int] = hash_B.tolist()
        self._see(rows.targets, listed)
        held_B = fraction(hash_B) < limit
        if self.settled:
            held_B |= np.fromiter((content in self.settled for content in listed), np.bool_)
        if self.large:
            row_N = np.flatnonzero([content in self.large for content in listed])
            if row_N.size:
                copy_N = self.contents.of_copies(place, row_N)
                held_B[row_N] = fraction(copy_N) < limit
                hash_B = hash_B.copy()
                hash_B[row_N] = copy_N
        return held_B, hash_B

    def limit(self, form_: str) -> float:
        """The largest `holdout` of the tasks whose rows have this form."""
        registry = self._registry
        tables = {name for name, table in registry.tables.items() if form(table) == form_}
        return max(
            (task.spec.holdout for task in registry.tasks.values() if task.table in tables),
            default=0.0,
        )

    def settle(self, contents: Iterable[int]) -> None:
        """These contents are held out for ever."""
        self.settled.update(contents)

    def settle_beyond(self, contents: Iterable[int], table: str) -> None:
        """Of these contents of one input table's rows, those that would be trained on from now on stay held out."""
        content_N = np.array([*contents], np.int64)
        limit = self.limit(form(self._registry.tables[table]))
        self.settle(content_N[fraction(content_N) >= limit].tolist())

    def forget(self, task: str) -> None:
        """A task was removed."""
        self._frequent.pop(task, None)

    def _see(self, tasks: Iterable[str], listed: Sequence[int]) -> None:
        for name in tasks:
            if name not in self._frequent:
                self._frequent[name] = Frequent()
            for content in self._frequent[name].see(listed):
                if content not in self.large:
                    self.large[content] = None
                    self.settled.discard(content)

    def state(self) -> tuple[Json, dict[str, Array]]:
        meta: Json = {"salt": self.contents.salt, "frequent": {}}
        arrays = {
            "large": np.fromiter(self.large, np.int64, len(self.large)),
            "settled": np.array(sorted(self.settled), np.int64),
        }
        for name, frequent in self._frequent.items():
            meta["frequent"][name], counts = frequent.state()
            arrays |= {f"{name}.{key}": value for key, value in counts.items()}
        return meta, arrays

    def load_state(self, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Take over a state, the salt included: which rows were held out is known under that one only."""
        self.contents = Contents(str(meta["salt"]))
        self.large = dict.fromkeys(arrays["large"].tolist())
        self.settled = set(arrays["settled"].tolist())
        self._frequent = {}
        for name, counted in meta["frequent"].items():
            frequent = self._frequent[name] = Frequent()
            frequent.load_state(
                counted, {key: arrays[f"{name}.{key}"] for key in ("content", "count")}
            )
