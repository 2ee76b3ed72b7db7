"""The replay buffer: one preallocated table for each input table, filled by a policy and sampled by task.

Inputs and stored outputs lie on the training device in the dtype they came in, or in files; labels, lengths
and the book-keeping lie on the host, where deciding costs no wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtl_engine import rng
from mtl_engine.columns import Place, folder_of
from mtl_engine.errors import EngineError
from mtl_engine.policies.base import Policy
from mtl_engine.replay_table import Fresh, ReplayTable, no_outputs
from mtl_engine.types import Array, Json, Rows

Draw = Mapping[str, Array]
"""Slots drawn, by table, int64 [M]."""


class Replay:
    """`rows` slots in all, divided among input tables by their number of tasks when a task comes or goes.

    A draw costs what is drawn and an offer what is offered; only another division, a new group of the policy or a
    task that goes takes time in proportion to `rows`. With a `folder` inputs and stored outputs lie in files there.
    """

    def __init__(
        self,
        rows: int,
        make_policy: Callable[[], Policy],
        seed: int,
        device: torch.device,
        folder: str | Path | None = None,
    ) -> None:
        if not isinstance(rows, int) or not 0 <= rows <= 1_000_000_000:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise EngineError(f"buffer_rows is {rows!r}: allowed are whole numbers >= 0")
        self.rows = rows
        self.seed = seed
        self.place = Place(device, folder_of(folder))
        self.make_policy = make_policy
        make_policy()  # an unknown policy is refused now, not when the first rows come
        self.tables: dict[str, ReplayTable] = {}
        self._choice: _Choice | None = (
            None  # what a draw chooses from; made anew when a table's order changes
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
                    table, room, self.make_policy(), self.seed, self.place
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
        return self._choice.drawn(self.seed, step, n) if n and self._choice.kept else {}

    def offer(
        self, step: int, rows: Rows, owner: Array | int, class_B: Array, outputs: Fresh = no_outputs
    ) -> None:
        """Offer stream rows; `owner` is the number of the task that all rows, or each row, are kept for, -1 = not offered."""
        table, purpose = self.tables[rows.table], f"insert:{rows.table}"
        if isinstance(owner, int):
            if len(rows) <= rng.SHORT:
                draws = rng.listed(self.seed, purpose, step, len(rows))
                if table.replace(rows, owner, class_B, draws, outputs):
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
            order = table.allocation.order
            for number, kept in zip(order.owner_S.tolist(), order.count_S.tolist(), strict=True):
                if kept:
                    found[number] = found.get(number, 0) + kept
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
            f"{name}.{key}": segment
            for name, table in self.tables.items()
            for key, segment in table.segments().items()
        }

    def load_state(
        self, meta: Json, tensors: Mapping[str, Any], segments: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.tables.clear()
        for name, found in meta["tables"].items():
            table = ReplayTable(
                name, int(found["capacity"]), self.make_policy(), self.seed, self.place
            )
            mine = {
                key[len(name) + 1 :]: value
                for key, value in tensors.items()
                if key.startswith(f"{name}.")
            }
            parts = {
                key[len(name) + 1 :]: part
                for key, part in segments.items()
                if key.startswith(f"{name}.")
            }
            table.load_state(found, mine, parts)
            self.tables[name] = table
        if int(meta["rows"]) != self.rows:
            used = sum(table.capacity for table in self.tables.values())
            raise EngineError(
                f"the state has a buffer of {meta['rows']} rows ({used} in use), this engine one of {self.rows}: use the same"
            )
        self._choice = None


class _Choice:
    """Rows in use in (task, class) order, and how likely each task is.

    Letters: K tasks; S stretches of rows of one task and class; position in that order -> stretch -> slot.
    """

    def __init__(
        self, tables: Mapping[str, ReplayTable], shares: Mapping[int, tuple[float, float]]
    ) -> None:
        self.tables = list(tables)
        orders = [table.allocation.order for table in tables.values()]
        self.slot_P = [order.slot_P for order in orders]
        owner_S = _concatenated([order.owner_S for order in orders])
        count_S = _concatenated([order.count_S for order in orders])
        used = np.flatnonzero(count_S)
        used = used[np.argsort(owner_S[used], kind="stable")]
        self.table_S = np.repeat(np.arange(len(orders)), [len(order.owner_S) for order in orders])
        self.table_S = self.table_S[used]
        count_S, owner_S = count_S[used], owner_S[used]
        self.kept = int(count_S.sum())
        before_S = np.cumsum(count_S) - count_S
        self.before_S = before_S
        self.shift_S = _concatenated([order.start_S for order in orders])[used] - before_S
        first = np.flatnonzero(np.diff(owner_S, prepend=-1))
        self.first_K = before_S[first]
        self.count_K = np.diff(self.first_K, append=self.kept)
        self.upto_K = np.cumsum(_probabilities([shares[n] for n in owner_S[first].tolist()]))
        self.from_K = np.concatenate([[0.0], self.upto_K[:-1]])
        self._asked = False
        self._block: tuple[int, int] | None = None  # whose draws are known: (block of steps, n)
        self._draws: list[Draw] = []

    def drawn(self, seed: int, step: int, n: int) -> Draw:
        """A step's rows. Where what is chosen from stays as it is, those of a few steps are worked out together."""
        block = step // rng.STEPS
        if self._block == (block, n):
            return self._draws[step % rng.STEPS]
        if n > rng.SHORT or not self._asked:
            self._asked = True
            return self._slots((np.arange(n) + rng.uniform(seed, "replay", step, n)) / n)
        u_XM = (np.arange(n) + rng.together(seed, "replay", block, n)) / n
        self._draws, self._block = self._slots_of_all(u_XM), (block, n)
        return self._draws[step % rng.STEPS]

    def _slots_of_all(self, u_XM: Array) -> list[Draw]:
        """Draws of X steps."""
        if len(self.tables) == 1:
            return [{self.tables[0]: slot_M} for slot_M in self._slots(u_XM)[self.tables[0]]]
        return [self._slots(u_M) for u_M in u_XM]

    def _slots(self, u_M: Array) -> Draw:
        """Slots for draws in [0, 1), of any shape where there is only one table."""
        at_M = self._positions(u_M)
        stretch_M = self.before_S.searchsorted(at_M, side="right") - 1
        place_M = at_M + self.shift_S[stretch_M]
        if len(self.tables) == 1:
            return {self.tables[0]: self.slot_P[0][place_M].astype(np.int64)}
        table_M = self.table_S[stretch_M]
        return {
            name: self.slot_P[k][place_M[table_M == k]].astype(np.int64)
            for k, name in enumerate(self.tables)
            if (table_M == k).any()
        }

    def _positions(self, u_M: Array) -> Array:
        if len(self.count_K) == 1:
            return np.minimum((u_M * self.kept).astype(np.int64), self.kept - 1)
        k_M = np.minimum(np.searchsorted(self.upto_K, u_M, side="right"), len(self.upto_K) - 1)
        inside_M = (u_M - self.from_K[k_M]) / (self.upto_K[k_M] - self.from_K[k_M])
        return self.first_K[k_M] + np.clip(
            (inside_M * self.count_K[k_M]).astype(np.int64), 0, self.count_K[k_M] - 1
        )


def _concatenated(parts: Sequence[Array]) -> Array:
    return np.concatenate([np.zeros(0, np.int64), *parts])


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
