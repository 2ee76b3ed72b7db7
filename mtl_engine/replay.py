"""The replay buffer: one preallocated table for each input table, filled by a policy and sampled by task.

Inputs and stored outputs lie on the training device in the dtype they came in; labels, lengths and the
book-keeping lie on the host, where deciding costs no wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mtl_engine import rng
from mtl_engine.errors import EngineError
from mtl_engine.policies.base import Policy
from mtl_engine.replay_table import Outputs, ReplayTable
from mtl_engine.types import Array, Json, Rows

Draw = Mapping[str, Array]
"""Slots drawn, by table, int64 [M]."""


class Replay:
    """`rows` slots in all, divided among input tables by their number of tasks when a task comes or goes."""

    def __init__(
        self, rows: int, make_policy: Callable[[], Policy], seed: int, device: torch.device
    ) -> None:
        if not isinstance(rows, int) or not 0 <= rows <= 1_000_000_000:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise EngineError(f"buffer_rows is {rows!r}: allowed are whole numbers >= 0")
        self.rows = rows
        self.seed = seed
        self.device = device
        self.make_policy = make_policy
        make_policy()  # an unknown policy is refused now, not when the first rows come
        self.tables: dict[str, ReplayTable] = {}
        self._choice: _Choice | None = (
            None  # what a draw chooses from; made anew when slots change owner
        )

    def arrange(self, tasks_of: Mapping[str, Sequence[str]]) -> None:
        """Divide the capacity among tables; `tasks_of` names the tasks of every input table in use."""
        total = sum(len(tasks) for tasks in tasks_of.values())
        spare = self.rows
        for table, tasks in tasks_of.items():
            room = spare if total == len(tasks) else spare * len(tasks) // total
            spare, total = spare - room, total - len(tasks)
            if table not in self.tables:
                self.tables[table] = ReplayTable(
                    table, room, self.make_policy(), self.seed, self.device
                )
            elif self.tables[table].capacity != room:
                self.tables[table].resize(room)
        for table in set(self.tables) - set(tasks_of):
            del self.tables[table]
        self._choice = None

    def remove_task(self, task: str, number: int) -> None:
        """Forget a task's rows and labels; rows that serve other tasks too are forgotten with it."""
        for table in self.tables.values():
            table.remove_task(task, number)
        self._choice = None

    def draw(
        self, step: int, n: int, shares: Callable[[], Mapping[int, tuple[float, float]]]
    ) -> Draw:
        """Slots of `n` rows with replacement; `shares` answers (share, min_share) by task number.

        The draw is stratified: row i falls into the i-th of n equal parts of the (task, class)-ordered
        memory, so every task and class comes as often as expected, give or take one row.
        """
        if self._choice is None:
            self._choice = _Choice(self.tables, shares())
        if not self._choice.slot_N.size or not n:
            return {}
        at_M = self._choice.drawn(self.seed, step, n)
        slot_M = self._choice.slot_N[at_M]
        if len(self._choice.tables) == 1:
            return {self._choice.tables[0]: slot_M}
        table_M = self._choice.table_N[at_M]
        return {
            name: slot_M[table_M == k]
            for k, name in enumerate(self._choice.tables)
            if (table_M == k).any()
        }

    def offer(
        self,
        step: int,
        rows: Rows,
        owner: Array | int,
        class_B: Array,
        outputs: Mapping[str, Outputs],
    ) -> None:
        """Offer stream rows; `owner` is the number of the task that all rows, or each row, are kept for, -1 = not offered."""
        table, purpose = self.tables[rows.table], f"insert:{rows.table}"
        if isinstance(owner, int):
            least = rng.least(self.seed, purpose, step, len(rows))
            if table.pass_by(owner, class_B, least):
                return
            owner = np.full(len(rows), owner, np.int64)
        uniform_B = rng.uniform(self.seed, purpose, step, len(rows))
        if table.offer(rows, owner, class_B, uniform_B, outputs):
            self._choice = None

    def shares_changed(self) -> None:
        self._choice = None

    def counts(self) -> dict[int, int]:
        """Rows kept, by task number."""
        found: dict[int, int] = {}
        for table in self.tables.values():
            numbers, counts = np.unique(table.owner_M[table.owner_M >= 0], return_counts=True)
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                found[number] = found.get(number, 0) + count
        return found

    def state(self) -> tuple[Json, dict[str, Any]]:
        meta: Json = {"rows": self.rows, "tables": {}}
        tensors: dict[str, Any] = {}
        for name, table in self.tables.items():
            meta["tables"][name], found = table.state()
            tensors |= {f"{name}.{key}": value for key, value in found.items()}
        return meta, tensors

    def segments(self) -> dict[str, tuple[int, dict[str, torch.Tensor]]]:
        """Version and columns of every range of slots."""
        return {
            f"{name}.{k}": segment
            for name, table in self.tables.items()
            for k, segment in table.segments().items()
        }

    def load_state(
        self, meta: Json, tensors: Mapping[str, Any], segments: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.tables.clear()
        for name, found in meta["tables"].items():
            table = ReplayTable(
                name, int(found["capacity"]), self.make_policy(), self.seed, self.device
            )
            mine = {
                key[len(name) + 1 :]: value
                for key, value in tensors.items()
                if key.startswith(f"{name}.")
            }
            parts = {
                int(key[len(name) + 1 :]): part
                for key, part in segments.items()
                if key.startswith(f"{name}.")
            }
            table.load_state(found, mine, [parts[k] for k in sorted(parts)])
            self.tables[name] = table
        if int(meta["rows"]) != self.rows:
            used = sum(table.capacity for table in self.tables.values())
            raise EngineError(
                f"the state has a buffer of {meta['rows']} rows ({used} in use), this engine one of {self.rows}: use the same"
            )
        self._choice = None


class _Choice:
    """Occupied slots in (task, class) order (N in all), and how likely each task is (K tasks)."""

    def __init__(
        self, tables: Mapping[str, ReplayTable], shares: Mapping[int, tuple[float, float]]
    ) -> None:
        self.tables = list(tables)
        used = [np.flatnonzero(table.owner_M >= 0) for table in tables.values()]
        owner_N = np.concatenate(
            [t.owner_M[u] for t, u in zip(tables.values(), used, strict=True)]
            or [np.zeros(0, np.int64)]
        )
        group_N = np.concatenate(
            [t.slots.group_M[u] for t, u in zip(tables.values(), used, strict=True)] or [owner_N]
        )
        order = np.lexsort((group_N, owner_N))
        self.slot_N = np.concatenate(used or [owner_N])[order]
        self.table_N = np.repeat(np.arange(len(used)), [len(u) for u in used])[order]
        number_K, self.first_K, self.count_K = np.unique(
            owner_N[order], return_index=True, return_counts=True
        )
        self.upto_K = np.cumsum(_probabilities([shares[int(number)] for number in number_K]))
        self.from_K = np.concatenate([[0.0], self.upto_K[:-1]])
        self._block: tuple[int, int] | None = None  # whose positions are known: (block of steps, n)
        self._at_SM: Array = np.zeros((0, 0), np.int64)

    def drawn(self, seed: int, step: int, n: int) -> Array:
        """Positions in `slot_N` of a step's `n` rows; those of a few steps are worked out together."""
        if n > rng.SHORT:
            return self.positions((np.arange(n) + rng.uniform(seed, "replay", step, n)) / n)
        block = step // rng.STEPS
        if self._block != (block, n):
            u_SM = rng.together(seed, "replay", block, n)
            self._at_SM, self._block = self.positions((np.arange(n) + u_SM) / n), (block, n)
        return self._at_SM[step % rng.STEPS]

    def positions(self, u_M: Array) -> Array:
        """Positions in `slot_N` for draws in [0, 1), of any shape."""
        if len(self.count_K) == 1:
            return np.minimum((u_M * self.count_K[0]).astype(np.int64), self.count_K[0] - 1)
        k_M = np.minimum(np.searchsorted(self.upto_K, u_M, side="right"), len(self.upto_K) - 1)
        inside_M = (u_M - self.from_K[k_M]) / (self.upto_K[k_M] - self.from_K[k_M])
        return self.first_K[k_M] + np.clip(
            (inside_M * self.count_K[k_M]).astype(np.int64), 0, self.count_K[k_M] - 1
        )


def _probabilities(shares: Sequence[tuple[float, float]]) -> Array:
    """In proportion to the shares, but none below its minimum; equal where all shares are 0."""
    if not shares:
        return np.zeros(0)
    share_K: Array = np.array([share for share, _ in shares], np.float64)
    least_K: Array = np.array([least for _, least in shares], np.float64)
    total = float(share_K.sum())
    share_K = share_K / total if total > 0 else np.full(len(shares), 1 / len(shares))
    least_K = least_K / max(1.0, float(least_K.sum()))
    raised_K: Array = np.zeros(len(shares), np.bool_)
    while True:
        rest = (1 - float(least_K[raised_K].sum())) / max(float(share_K[~raised_K].sum()), 1e-300)
        scaled_K: Array = np.where(raised_K, least_K, share_K * rest)
        low_K: Array = ~raised_K & (scaled_K < least_K)
        if not low_K.any():
            break
        raised_K = raised_K | low_K
    scaled_K = np.maximum(scaled_K, 1e-12)  # never exactly 0: positions are divided by it
    return scaled_K / float(scaled_K.sum())
