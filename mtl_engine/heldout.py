"""Rows never trained on, of two kinds: *judge* rows for verdicts and numbers, *select* rows to choose by; nothing reads both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_engine import rng
from mtl_engine.columns import Place
from mtl_engine.kept import CONTENT, Kept
from mtl_engine.policies.balanced import Balanced
from mtl_engine.policies.slots import Slots
from mtl_engine.registry import Registry, Task
from mtl_engine.replay_table import ReplayTable, no_outputs
from mtl_engine.splitting import Splitter
from mtl_engine.types import Array, Json, Rows, Target
from mtl_engine.waiting import PHASE, STEP, Waiting, runs

HELD_OUT_ROWS = 500  # of one task and kind, at most
KINDS = ("select", "judge")  # a row's is bit 0 of its content's hash
WAITING_ROWS = 256  # that are given their places together
_PHASES = 100  # phases of one task that are scored apart; later ones count as the last


@dataclass(frozen=True, slots=True)
class Sample:
    """A task's held-out rows of one kind: inputs, labels, and for each its phase, the step it was kept at and its hash."""

    rows: Rows
    target: Target
    phase_H: Array
    step_H: Array
    content_H: Array

    def take(self, row_N: Array) -> Sample:
        return Sample(
            self.rows.take(row_N), self.target.take(row_N), self.phase_H[row_N],
            self.step_H[row_N], self.content_H[row_N],
        )  # fmt: skip


class HeldOut:
    """For every task and kind a sample of each class's contents, one copy each with its newest label.

    A content that is not kept is offered again with each of its copies, so what comes often is likelier to be kept.
    """

    def __init__(self, registry: Registry, splitter: Splitter, seed: int) -> None:
        self._registry, self._splitter, self._seed = registry, splitter, seed
        self.tables: dict[str, ReplayTable] = {}  # by `_key`
        self.phases: dict[str, list[str | None]] = {}
        self.changes = 0  # grows with whatever scores depend on
        self._kept: dict[str, Kept] = {}
        self._waiting: list[Waiting] = []
        self._num_waiting = 0

    @property
    def tasks(self) -> list[str]:
        """Tasks with judge rows, in the order in which they got some."""
        self.place()
        return [key for key in self.tables if "@" not in key and self.tables[key].num_rows]

    def keep(self, rows: Rows, content_B: Array, step: int) -> None:
        """Keep the labelled ones among held-out rows; `content_B` are their hashes, `step` is that of the training."""
        self.changes += 1
        phases: dict[str, int] = {}
        for name, target in rows.targets.items():
            self._registry.tasks[name].kind.count_held_out(target)
            phases[name] = max(len(self.phases.get(name, ())) - 1, 0)
        self._waiting.append(Waiting(rows, content_B, step, phases))
        self._num_waiting += len(rows)
        if self._num_waiting >= WAITING_ROWS:
            self.place()

    def place(self) -> None:
        """Give the rows that wait their places: many at once cost little more than few, and the outcome is the same."""
        waiting, self._waiting, self._num_waiting = self._waiting, [], 0
        for run in runs(waiting):
            for name, target in run.rows.targets.items():
                task, labelled = self._registry.tasks[name], target.labelled()
                for number, kind in enumerate(KINDS):
                    mine = np.flatnonzero(labelled & ((run.content_B & 1) == number))
                    if mine.size:
                        self._keep(task, kind, run.marked(name, mine))

    def sample(self, task: str, kind: str = "judge") -> Sample:
        """A task's rows of one kind; LookupError if there are none."""
        self.place()
        table = self.tables[_key(task, kind)]
        slot_H = table.slots.used()
        x, length_H, targets = table.batch(slot_H)
        target, content_H = targets[task], targets[CONTENT].y
        phase_H, step_H = targets[PHASE].y, targets[STEP].y
        rows = Rows(self._registry[task].table or "", x.numpy(), length_H)
        return Sample(rows, target, phase_H, step_H, content_H)

    def count(self, task: str, kind: str = "judge") -> int:
        """How many rows of one kind a task has."""
        self.place()
        table = self.tables.get(_key(task, kind))
        return 0 if table is None else table.num_rows

    def enter(self, task: str, phase: str | None) -> None:
        """Rows of `task` kept from now on belong to `phase`."""
        self.changes += 1
        names = self.phases.setdefault(task, [])
        if (not names or names[-1] != phase) and len(names) < _PHASES:
            names.append(phase)

    def part(self, task: str, number: int) -> str:
        """The name of a task's rows of one phase: `task/phase`, or `task` before the first switch."""
        names = self.phases.get(task, [])
        phase = names[number] if number < len(names) else None
        return task if phase is None else f"{task}/{phase}"

    def remove_task(self, task: str) -> None:
        """Its rows go. Their contents, and those of others that its `holdout` held out, are not trained on later."""
        self.changes += 1
        for kind in KINDS:
            key = _key(task, kind)
            if key in self.tables:
                self._splitter.settle(self._kept_in(key).slot_of)
                del self.tables[key], self._kept[key]
        self.phases.pop(task, None)
        self._splitter.forget(task)
        for key in self.tables:
            table = self._registry[key.partition("@")[0]].table
            if table is not None:
                self._splitter.settle_beyond(self._kept_in(key).slot_of, table)

    def _keep(self, task: Task, kind: str, rows: Rows) -> None:
        """Offer new contents; a known one only counts if its label is another, and then that one is kept.

        As row by row; stretches of new contents are offered together.
        """
        key = _key(task.spec.name, kind)
        if key not in self.tables:
            self.tables[key] = self._made(key)
        fresh: dict[int, int] = {}  # content: row
        for row, content in enumerate(rows.targets[CONTENT].y.tolist()):
            if content in fresh or content in self._kept_in(key).slot_of:
                self._offer_fresh(task, key, rows, fresh)
                fresh = {}
                if content in self._kept_in(key).slot_of:
                    self._renew(task, key, rows.take(np.array([row])), content)
                    continue
            fresh[content] = row
        self._offer_fresh(task, key, rows, fresh)

    def _offer_fresh(self, task: Task, key: str, rows: Rows, fresh: Mapping[int, int]) -> None:
        if fresh:
            self._offer(task, key, rows.take(np.array([*fresh.values()])), certain=False)

    def _renew(self, task: Task, key: str, row: Rows, content: int) -> None:
        """Another copy of a content that is kept: the row takes its place if its label is another."""
        table, kept, name = self.tables[key], self._kept_in(key), task.spec.name
        slot = kept.slot_of[content]
        slot_N = np.array([slot])
        before = table.targets[name].take(slot_N)
        if _same(row.targets[name], before):
            return
        if task.kind.group_B(before)[0] == task.kind.group_B(row.targets[name])[0]:
            table.keep(row, slot_N, np.zeros(1, np.int64), no_outputs)
            return
        kept.remove(table, slot)
        self._offer(task, key, row, certain=True)

    def _offer(self, task: Task, key: str, rows: Rows, *, certain: bool) -> None:
        """Offer rows of new contents; `certain` that the one row is kept, in the place of another of its class if need be."""
        table = self.tables[key]
        offered = int(table.slots.seen_G.sum())
        uniform_B = rng.uniform(self._seed, f"holdout:{key}", 0, len(rows), start=offered)
        owner_B = np.full(len(rows), task.number, np.int64)
        class_B = task.kind.group_B(rows.targets[task.spec.name])
        if certain:
            uniform_B = uniform_B * _chance(table.slots, table.slots.policy.key_B(owner_B, class_B))
        before = table.slots.rearranged
        slot_B, _ = table.allocation.place(owner_B, class_B, uniform_B)
        row_N = np.flatnonzero(slot_B >= 0)
        if row_N.size:
            table.keep(rows, slot_B[row_N], row_N, no_outputs)
        if table.slots.rearranged != before:
            self._kept[key] = Kept(table)
        else:
            self._kept_in(key).put(slot_B, rows.targets[CONTENT].y)

    def _kept_in(self, key: str) -> Kept:
        if key not in self._kept:
            self._kept[key] = Kept(self.tables[key])
        return self._kept[key]

    def _made(self, key: str) -> ReplayTable:
        place = Place(torch.device("cpu"))
        return ReplayTable(f"holdout:{key}", HELD_OUT_ROWS, Balanced(), self._seed, place)

    def state(self) -> tuple[Json, dict[str, Any]]:
        self.place()
        phases = {name: list(names) for name, names in self.phases.items()}
        meta: Json = {"phases": phases, "tables": {}}
        arrays: dict[str, Any] = {}
        for key, table in self.tables.items():
            meta["tables"][key], mine = table.state()
            arrays |= {f"{key}.{name}": value for name, value in mine.items()}
        meta["split"], mine = self._splitter.state()
        return meta, arrays | {f"@split.{name}": value for name, value in mine.items()}

    def segments(self) -> dict[str, tuple[int, dict[str, Tensor]]]:
        self.place()
        return {
            f"{key}.{name}": segment
            for key, table in self.tables.items()
            for name, segment in table.segments().items()
        }

    def load_state(
        self, meta: Json, arrays: Mapping[str, Any], segments: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.changes += 1
        self.phases = {name: list(names) for name, names in meta["phases"].items()}
        self.tables, self._kept = {}, {}
        self._waiting, self._num_waiting = [], 0
        for key, saved in meta["tables"].items():
            table = self.tables[key] = self._made(key)
            table.load_state(saved, _below(key, arrays), _below(key, segments))
        if "split" in meta:
            self._splitter.load_state(meta["split"], _below("@split", arrays))
        else:
            self._adopt()

    def _adopt(self) -> None:
        """Hold-outs of a state of before: parted into the two kinds by their contents, which count as held out from now on."""
        old, self.tables = self.tables, {}
        for name, table in old.items():
            if table.x is None:
                continue
            task = self._registry.tasks[name]
            slot_H = table.slots.used()
            x, length_H, targets = table.batch(slot_H)
            rows = Rows(task.table or "", x.numpy(), length_H, targets)
            content_H = self._splitter.contents.of_rows(rows, self._registry.tables[rows.table])
            self._splitter.settle(content_H.tolist())
            for number, kind in enumerate(KINDS):
                mine = np.flatnonzero((content_H & 1) == number)
                if mine.size:
                    part = rows.take(mine)
                    marks = {**part.targets, CONTENT: Target(content_H[mine])}
                    self._keep(task, kind, Rows(rows.table, part.x, part.length, marks))
                    _assume(self.tables[_key(name, kind)].slots, table.slots)


def _key(task: str, kind: str) -> str:
    return task if kind == "judge" else f"{task}@{kind}"


def _chance(slots: Slots, key_B: Array) -> float:
    """How likely the next row of a group is kept."""
    group = np.flatnonzero(slots.key_G == key_B[0])
    if not group.size:
        return 1.0
    return min(1.0, float(slots.quota_G[group[0]] / (slots.seen_G[group[0]] + 1)))


def _assume(slots: Slots, old: Slots) -> None:
    """Half of what the groups of an old table were offered counts as offered to those of one kind."""
    seen_of = dict(zip(old.key_G.tolist(), (old.seen_G // 2).tolist(), strict=True))
    seen = [seen_of.get(key, 0) for key in slots.key_G.tolist()]
    slots.seen_G = np.maximum(np.array(seen, np.int64), slots.filled_G)


def _same(one: Target, other: Target) -> bool:
    """Whether one row has the same labels in both."""
    width = max(one.y.shape[-1], other.y.shape[-1])
    one, other = one.padded(width), other.padded(width)
    return bool((one.y == other.y).all() and (one.ones() == other.ones()).all())


def _below(key: str, named: Mapping[str, Any]) -> dict[str, Any]:
    start = f"{key}."
    return {name[len(start) :]: value for name, value in named.items() if name.startswith(start)}
