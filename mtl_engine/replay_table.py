"""The columns of one replay table, their slots, and the segments in which a checkpoint stores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_engine.columns import Place, after, copied, joined, moved, on, put
from mtl_engine.errors import EngineError
from mtl_engine.labels import Labels
from mtl_engine.policies.allocation import Allocation
from mtl_engine.policies.base import Policy
from mtl_engine.policies.slots import Slots
from mtl_engine.types import Array, Json, Rows, Target

SEGMENT_BYTES = 1 << 20  # of a segment's columns, about: rewritten when one row in it changed
_VERSIONS = count(1)  # never the same twice, so that a table made anew is not taken for an old one

Segments = dict[str, tuple[int, dict[str, Tensor]]]
"""Version and columns of every range of slots ("0", "1", ...) and of the order of slots ("order.0", ...)."""


@dataclass(slots=True)
class Outputs:
    """Outputs that the model had for some rows [B, C]; `width` says how many columns are valid."""

    z: Tensor
    width: Array


Fresh = Callable[[Array], Mapping[str, Outputs]]
"""Outputs that the model had for some of the offered rows (positions int64 [N]), by task: for those that are kept."""


def no_outputs(row_N: Array) -> Mapping[str, Outputs]:
    """Where the model's outputs are not kept."""
    del row_N
    return {}


class ReplayTable:
    """Rows of one input table. Letters as in `types`."""

    def __init__(self, name: str, capacity: int, policy: Policy, seed: int, place: Place) -> None:
        self.name = name
        self.place = place
        self.allocation = Allocation(policy, capacity, seed, name)
        self.x: Tensor | None = None
        self.length_M: Array | None = None
        self.targets: dict[str, Labels] = {}
        self.outputs: dict[str, Outputs] = {}
        self.version = np.full(1, next(_VERSIONS))  # of each segment
        self.stride = capacity  # slots of a segment
        self._views: list[dict[str, Tensor]] = []  # of the segments; empty = to be made
        self._orders: dict[str, tuple[int, int]] = {}  # (changes, version) of the order of slots

    @property
    def slots(self) -> Slots:
        return self.allocation.slots

    @property
    def capacity(self) -> int:
        return self.slots.capacity

    @property
    def num_rows(self) -> int:
        return int(self.slots.filled_G.sum())

    @property
    def num_bytes(self) -> int:
        """Of all columns; on the host their memory is taken as rows are written."""
        return sum(column.numel() * column.element_size() for column in self._columns().values())

    def replace(
        self, rows: Rows, owner: int, class_B: Array, draws: Sequence[float], outputs: Fresh
    ) -> bool:
        """As `offer` for rows of one task where no group is new and none has room; False, and nothing is done, elsewhere."""
        if self.allocation.strata is not None:
            return False
        taken = self.slots.replace(self.slots.policy.key_B(owner, class_B).tolist(), draws)
        if taken:
            self.keep(rows, np.array([*taken]), np.array([*taken.values()]), outputs)
        return taken is not None

    def offer(
        self, rows: Rows, owner_B: Array, class_B: Array, uniform_B: Array, outputs: Fresh
    ) -> bool:
        """Keep what the policy keeps; True when `order` changed."""
        offered = np.flatnonzero(owner_B >= 0)
        if not offered.size or not self.capacity:
            return False
        if len(offered) < len(rows):
            owner_B, class_B, uniform_B = owner_B[offered], class_B[offered], uniform_B[offered]
        slot_B, changed = self.allocation.place(owner_B, class_B, uniform_B)
        kept = np.flatnonzero(slot_B >= 0)
        if kept.size:
            self.keep(rows, slot_B[kept], offered[kept], outputs)
        return changed

    def keep(self, rows: Rows, slot_N: Array, row_N: Array, outputs: Fresh) -> None:
        """Write some of the rows into different slots."""
        fresh = outputs(row_N)
        if self._is_new(rows, fresh):
            self._prepare(rows, fresh)
        self._write(slot_N, rows, row_N, fresh)
        self.version[slot_N // self.stride] = next(_VERSIONS)

    def batch(
        self, slot_N: Array, before: Array | None = None
    ) -> tuple[Tensor, Array | None, dict[str, Target]]:
        """Inputs, after those `before`, lengths and labels of some slots; a label without weights is there for every row."""
        x = after(before, self._inputs(), slot_N)
        length_N = None if self.length_M is None else self.length_M[slot_N]
        return x, length_N, {name: labels.take(slot_N) for name, labels in self.targets.items()}

    def resize(self, capacity: int) -> None:
        from_U, used_U = self.allocation.resize(capacity)
        if self.x is not None:
            self.x = self._moved(self.x, self.x.shape[1:], from_U, used_U)
        for found in self.outputs.values():
            found.z = self._moved(found.z, found.z.shape[1:], from_U, used_U)
            found.width = moved(found.width, capacity, from_U, used_U)
        if self.length_M is not None:
            self.length_M = moved(self.length_M, capacity, from_U, used_U)
        for name, labels in self.targets.items():
            self.targets[name] = labels.moved(capacity, from_U, used_U)
        self._cut()

    def remove_task(self, task: str, number: int) -> None:
        self.allocation.remove_task(number)
        self.targets.pop(task, None)
        self.outputs.pop(task, None)
        self._cut()

    def _inputs(self) -> Tensor:
        if self.x is None:
            raise EngineError(f"replay table {self.name} never got a row: there is nothing to read")
        return self.x

    def _moved(
        self, column: Tensor, shape: tuple[int, ...], source: Array, target: Array
    ) -> Tensor:
        new = self.place.zeros((self.capacity, *shape), column.dtype)
        return copied(column, new, source, target)

    def _is_new(self, rows: Rows, outputs: Mapping[str, Outputs]) -> bool:
        known, kept = self.targets, self.outputs
        return (
            self.x is None
            or any(name not in known for name in rows.targets)
            or any(
                name not in kept or kept[name].z.shape[1] < new.z.shape[1]
                for name, new in outputs.items()
            )
        )

    def _prepare(self, rows: Rows, outputs: Mapping[str, Outputs]) -> None:
        """Columns for what these rows bring for the first time, and room for wider outputs."""
        n = self.capacity
        if self.x is None:
            dtype = torch.from_numpy(rows.x[:1]).dtype
            self.x = self.place.zeros((n, *rows.x.shape[1:]), dtype)
            self.length_M = None if rows.length is None else np.zeros(n, np.int32)
            self._cut()
        first = not self.targets
        for name, target in rows.targets.items():
            if name not in self.targets:
                self.targets[name] = Labels.empty(n, target, plain=first)
        for name, new in outputs.items():
            width = new.z.shape[1]
            if name not in self.outputs:
                z = self.place.zeros((n, width), new.z.dtype)
                self.outputs[name] = Outputs(z, np.zeros(n, np.int32))
            known = self.outputs[name]
            if known.z.shape[1] < width:
                width = max(width, known.z.shape[1] * 9 // 8)  # room for some classes more
                known.z = self._moved(known.z, (width,), np.arange(n), np.arange(n))
        self._views.clear()

    def _write(
        self, slot_N: Array, rows: Rows, row_N: Array, outputs: Mapping[str, Outputs]
    ) -> None:
        x = self._inputs()
        put(x, slot_N, on(torch.from_numpy(rows.x.take(row_N, 0)), x.device))
        if self.length_M is not None and rows.length is not None:
            self.length_M[slot_N] = rows.length[row_N]
        for name, labels in self.targets.items():
            before, target = (labels.y, labels.weight), rows.targets.get(name)
            labels.put(slot_N, None if target is None else target.take(row_N))
            if labels.y is not before[0] or labels.weight is not before[1]:
                self._views.clear()
        for name, known in self.outputs.items():
            new = outputs.get(name)
            if new is None:
                known.width[slot_N] = 0
                continue
            width = new.z.shape[1]
            to = known.z if width == known.z.shape[1] else known.z[:, :width]
            put(to, slot_N, on(new.z, to.device))
            known.width[slot_N] = new.width

    def state(self) -> tuple[Json, dict[str, Array]]:
        """Of the slots all but their order, which lies in segments."""
        meta, arrays = self.allocation.state()
        plain = {name: labels.plain for name, labels in self.targets.items()}
        return {**meta, "plain": plain, "outputs": list(self.outputs)}, arrays

    def segments(self) -> Segments:
        if self.x is None:
            return {}
        if not self._views:
            columns = self._columns()
            cuts = [slice(k * self.stride, (k + 1) * self.stride) for k in range(len(self.version))]
            self._views = [{name: column[cut] for name, column in columns.items()} for cut in cuts]
        versions = self.version.tolist()
        found: Segments = {
            str(k): (version, view)
            for k, (version, view) in enumerate(zip(versions, self._views, strict=True))
        }
        for name, (changes, slot_P) in self.allocation.orders().items():
            found |= self._order_segments(name, changes, slot_P)
        return found

    def _order_segments(self, name: str, changes: int, slot_P: Array) -> Segments:
        if self._orders.get(name, (-1, 0))[0] != changes:
            self._orders[name] = (changes, next(_VERSIONS))
        version, size = self._orders[name][1], SEGMENT_BYTES // slot_P.itemsize
        parts = [slot_P[start : start + size] for start in range(0, len(slot_P), size)]
        return {
            f"{name}.{k}": (version, {"slot": torch.from_numpy(part)})
            for k, part in enumerate(parts)
        }

    def _columns(self) -> dict[str, Tensor]:
        """All columns by name; those of the order are not among them."""
        columns = {} if self.x is None else {"x": self.x}
        if self.length_M is not None:
            columns["length"] = torch.from_numpy(self.length_M)
        for name, labels in self.targets.items():
            for key, column in labels.columns(name).items():
                columns[key] = torch.from_numpy(column)
        for name, found in self.outputs.items():
            columns |= {f"z.{name}": found.z, f"width.{name}": torch.from_numpy(found.width)}
        return columns

    def load_state(
        self, meta: Json, arrays: Mapping[str, Any], segments: Mapping[str, Mapping[str, Any]]
    ) -> None:
        orders = {
            name: np.concatenate([np.asarray(part["slot"]) for part in found])
            for name in self.allocation.orders()
            if (found := _numbered(segments, f"{name}."))
        }
        self.allocation.load_state(meta, arrays, orders)
        parts = _numbered(segments, "")
        if parts:
            self._load_columns(meta, parts)
        self._cut()

    def _load_columns(self, meta: Json, parts: list[Mapping[str, Any]]) -> None:
        sizes, host = [len(part["x"]) for part in parts], Place(torch.device("cpu"))
        self.x = joined(self.place, "x", parts, sizes)
        if "length" in parts[0]:
            self.length_M = joined(host, "length", parts, sizes).numpy()
        self.targets = {
            name: Labels.joined(name, parts, sizes, plain=plain)
            for name, plain in meta["plain"].items()
        }
        self.outputs = {
            name: Outputs(
                joined(self.place, f"z.{name}", parts, sizes),
                joined(host, f"width.{name}", parts, sizes).numpy(),
            )
            for name in meta["outputs"]
        }

    def _cut(self) -> None:
        """Divide the slots into segments; every version moves on, because every segment's content may be new."""
        row_bytes = 64 + (0 if self.x is None else self.x[:1].numel() * self.x.element_size())
        self.stride = max(1, min(SEGMENT_BYTES // row_bytes, max(self.capacity, 1)))
        self.version = np.full(max(1, -(-self.capacity // self.stride)), next(_VERSIONS))
        self._views.clear()


def _numbered(segments: Mapping[str, Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """Segments called `name` and a number, in the order of their numbers."""
    found = {
        int(key[len(name) :]): part
        for key, part in segments.items()
        if key.startswith(name) and key[len(name) :].isdigit()
    }
    return [found[k] for k in sorted(found)]
