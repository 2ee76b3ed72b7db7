"""Slots in the order of the tasks that their rows are kept for, where the groups of a policy mix tasks.

All slots stand in one array: those of the first task, of the second and so on, then the free ones. A row that
comes to another task shifts the boundaries between the two, and a boundary shifts by moving as many slots
from one end of a stretch to the other. That costs at most rows x tasks, whatever the capacity.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtl_engine.types import Array


class Strata:
    """Letters: S strata in ascending order of their task's number, then that of the free slots; P places, N slots."""

    def __init__(self, capacity: int) -> None:
        self.owner_S = np.zeros(0, np.int64)
        self.count_S = np.zeros(0, np.int64)
        self.slot_P = np.arange(capacity, dtype=np.int32)
        self.version = 0  # moves when `slot_P` changes
        self._index()

    @property
    def start_S(self) -> Array:
        return np.cumsum(self.count_S) - self.count_S

    def move(self, slot_N: Array, owner_N: Array | int) -> bool:
        """Make different slots belong to tasks by their numbers, -1 = free; whether any belonged to another one."""
        owner_N = np.broadcast_to(np.asarray(owner_N, np.int64), slot_N.shape)
        self._add(owner_N)
        place_N = self.place_M[slot_N].astype(np.int64)
        start_S = np.append(self.start_S, int(self.count_S.sum()))
        old_N = start_S.searchsorted(place_N, side="right") - 1
        free = len(self.owner_S)
        new_N = np.where(owner_N < 0, free, self.owner_S.searchsorted(owner_N))
        changed = np.flatnonzero(old_N != new_N)
        if not changed.size:
            return False
        self._shift(slot_N[changed], place_N[changed], old_N[changed], new_N[changed], start_S)
        self.version += 1
        return True

    def _shift(
        self, slot_N: Array, place_N: Array, old_N: Array, new_N: Array, start_S: Array
    ) -> None:
        """Give arriving slots and those pushed out at a moving boundary the places left or newly won in their strata."""
        end_S = np.append(start_S[1:], len(self.slot_P))
        strata = len(start_S)
        change_S = np.bincount(new_N, minlength=strata) - np.bincount(old_N, minlength=strata)
        after_S = np.cumsum(end_S - start_S + change_S)
        before_S = after_S - (end_S - start_S + change_S)
        stratum_V, vacant_V = _ranges(before_S, after_S, start_S, end_S)  # newly won
        stratum_L, leaving_L = _ranges(start_S, end_S, before_S, after_S)  # pushed out
        leaves = ~np.isin(leaving_L, place_N)
        inside = (place_N >= before_S[old_N]) & (place_N < after_S[old_N])
        stratum_V = np.concatenate([stratum_V, old_N[inside]])
        vacant_V = np.concatenate([vacant_V, place_N[inside]])[np.argsort(stratum_V, kind="stable")]
        arriving = np.concatenate([stratum_L[leaves], new_N])
        slots = np.concatenate([self.slot_P[leaving_L[leaves]], slot_N])
        slots = slots[np.argsort(arriving, kind="stable")]
        self.slot_P[vacant_V] = slots
        self.place_M[slots] = vacant_V
        self.count_S = (self.count_S + change_S[:-1]).astype(np.int64)

    def _add(self, owner_N: Array) -> None:
        """Empty strata for tasks that have none."""
        new = np.setdiff1d(owner_N[owner_N >= 0], self.owner_S)
        if new.size:
            at = self.owner_S.searchsorted(new)
            self.owner_S = np.insert(self.owner_S, at, new)
            self.count_S = np.insert(self.count_S, at, 0)

    def slots_of(self, owner: int) -> Array:
        """A task's slots."""
        at = int(self.owner_S.searchsorted(owner))
        if at == len(self.owner_S) or self.owner_S[at] != owner:
            return np.zeros(0, np.int32)
        start = int(self.start_S[at])
        return self.slot_P[start : start + int(self.count_S[at])].copy()

    def drop(self, owner: int) -> None:
        """Free a task's slots and forget it."""
        self.move(self.slots_of(owner), -1)
        stay_S = self.owner_S != owner
        self.owner_S, self.count_S = self.owner_S[stay_S], self.count_S[stay_S]

    def resize(self, capacity: int, source: Array, target: Array) -> None:
        """Follow slots that were moved when the capacity changed."""
        used_U = self.slot_P[: int(self.count_S.sum())].copy()
        used_U[self.place_M[source]] = target
        free_M = np.ones(capacity, np.bool_)
        free_M[used_U] = False
        self.slot_P = np.concatenate([used_U, np.flatnonzero(free_M).astype(np.int32)])
        self.version += 1
        self._index()

    def state(self) -> dict[str, Array]:
        return {"owner_S": self.owner_S, "count_S": self.count_S, "slot_P": self.slot_P}

    def load_state(self, arrays: Mapping[str, Array]) -> None:
        self.owner_S, self.count_S = (
            np.array(arrays[name], np.int64) for name in ("owner_S", "count_S")
        )
        self.slot_P = np.array(arrays["slot_P"], np.int32)
        self._index()

    def _index(self) -> None:
        self.place_M = np.empty_like(self.slot_P)
        self.place_M[self.slot_P] = np.arange(len(self.slot_P))


def _ranges(
    first_S: Array, last_S: Array, other_first_S: Array, other_last_S: Array
) -> tuple[Array, Array]:
    """Strata and places that are in [first, last) but not in the other stretch of the same stratum."""
    left = np.maximum(np.minimum(last_S, other_first_S) - first_S, 0)
    right_first_S = np.maximum(first_S + left, np.maximum(first_S, other_last_S))
    right = np.maximum(last_S - right_first_S, 0)
    start = np.stack([first_S, right_first_S], axis=1).ravel()
    count = np.stack([left, right], axis=1).ravel()
    stratum = np.repeat(np.repeat(np.arange(len(first_S)), 2), count)
    offset = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return stratum, np.repeat(start, count) + offset
