"""Which slots of a table hold rows, of which tasks, and in which order a draw finds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mtl_engine.policies.base import TASK_SHIFT, Policy
from mtl_engine.policies.slots import Slots
from mtl_engine.policies.strata import Strata
from mtl_engine.types import Array, Json


class Order(NamedTuple):
    """Rows in use: those of stretch s, of one task (by number), are in `slot_P`[start_s : start_s + count_s]."""

    owner_S: Array
    start_S: Array
    count_S: Array
    slot_P: Array


class Allocation:
    """The slots of a policy, and beside them strata where its groups mix tasks."""

    def __init__(self, policy: Policy, capacity: int, seed: int, purpose: str) -> None:
        self.slots = Slots(policy, capacity, seed, purpose)
        self.strata = Strata(capacity) if policy.mixes else None

    @property
    def order(self) -> Order:
        found = self.strata
        if found is not None:
            return Order(found.owner_S, found.start_S, found.count_S, found.slot_P)
        slots = self.slots
        return Order(slots.key_G >> TASK_SHIFT, slots.start_G, slots.filled_G, slots.slot_P)

    def owners(self) -> Array:
        """The number of the task that the row in each slot is kept for, int64 [M], -1 = empty.

        Takes time in proportion to the capacity.
        """
        owner_S, start_S, count_S, slot_P = self.order
        owner_M = np.full(self.slots.capacity, -1, np.int64)
        for owner, start, kept in zip(owner_S, start_S, count_S, strict=True):
            owner_M[slot_P[start : start + kept]] = owner
        return owner_M

    def place(self, owner_B: Array, class_B: Array, uniform_B: Array) -> tuple[Array, bool]:
        """The slot of each row, -1 = not kept, and whether the order changed."""
        before = self.slots.moves
        slot_B = self.slots.place(self.slots.policy.key_B(owner_B, class_B), uniform_B)
        changed = self.slots.moves != before
        if self.strata is not None:
            self._free_evicted(self.strata)
            kept = slot_B >= 0
            changed |= self.strata.move(slot_B[kept], owner_B[kept])
        return slot_B, changed

    def resize(self, capacity: int) -> tuple[Array, Array]:
        """Change the number of slots; returns the slots of all kept rows before and after."""
        source, target = self.slots.resize(capacity)
        if self.strata is not None:
            self._free_evicted(self.strata)
            self.strata.resize(capacity, source, target)
        after_U = self.slots.used().astype(np.int64)
        before_M = np.arange(capacity)
        before_M[target] = source
        return before_M[after_U], after_U

    def remove_task(self, number: int) -> None:
        """Empty a task's slots."""
        if self.strata is None:
            key_G = self.slots.key_G
            mine = np.flatnonzero(self.owners() == number)
            self.slots.remove(mine, key_G[key_G >> TASK_SHIFT == number])
        else:
            mine = self.strata.slots_of(number)
            self.strata.drop(number)
            self.slots.remove(mine, np.zeros(0, np.int64))
            self._free_evicted(self.strata)

    def _free_evicted(self, strata: Strata) -> None:
        for slot_N in self.slots.evicted:
            strata.move(slot_N, -1)

    def state(self) -> tuple[Json, dict[str, Array]]:
        """Everything but `orders`."""
        meta, arrays = self.slots.state()
        arrays |= {} if self.strata is None else self.strata.state()
        del arrays["slot_P"]
        return meta, arrays

    def orders(self) -> dict[str, tuple[int, Array]]:
        """Slots in the order of groups and of strata, and a number that differs whenever they do."""
        found = {"order": (self.slots.rearranged, self.slots.slot_P)}
        if self.strata is not None:
            found["strata"] = (self.strata.version, self.strata.slot_P)
        return found

    def load_state(
        self, meta: Json, arrays: Mapping[str, Any], orders: Mapping[str, Array]
    ) -> None:
        """A table that never had a row has no `orders`."""
        fresh = np.arange(int(meta["capacity"]))
        self.slots.load_state(meta, {**arrays, "slot_P": orders.get("order", fresh)})
        if self.strata is not None:
            self.strata.load_state({**arrays, "slot_P": orders.get("strata", fresh)})
