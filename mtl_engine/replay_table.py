"""The columns of one replay table, their slots, and the segments in which a checkpoint stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl_engine.errors import EngineError
from mtl_engine.policies.base import TASK_SHIFT, Policy
from mtl_engine.policies.slots import Slots
from mtl_engine.types import Array, Json, Rows, Target

SEGMENT_BYTES = (
    1 << 20
)  # of one segment's columns, about: what a checkpoint rewrites when one row in it changed


@dataclass(slots=True)
class Outputs:
    """Outputs that the model had for some rows [B, C]; in a table, `width` says how many columns are valid."""

    z: Tensor
    width: Array


class ReplayTable:
    """Rows of one input table. Letters as in `types`; a slot whose `owner_M` is -1 is empty."""

    def __init__(
        self, name: str, capacity: int, policy: Policy, seed: int, device: torch.device
    ) -> None:
        self.name = name
        self.device = device
        self.slots = Slots(policy, capacity, seed, name)
        self.owner_M = np.full(capacity, -1, np.int64)  # number of the task that a row is kept for
        self.x: Tensor | None = None
        self.length_M: Array | None = None
        self.targets: dict[str, Target] = {}  # with weights, 0 where a row has no label of the task
        self.plain: dict[str, bool] = {}  # every row of the table has weight 1 for this task
        self.outputs: dict[str, Outputs] = {}
        self.version = np.ones(1, np.int64)  # of each segment
        self.stride = capacity  # slots of a segment

    @property
    def capacity(self) -> int:
        return self.slots.capacity

    def pass_by(self, owner: int, class_B: Array, least: float) -> bool:
        """Whether rows of one task are only counted, since not even the smallest of their draws keeps one."""
        return self.slots.pass_by(self.slots.policy.key_B(owner, class_B), least)

    def offer(
        self,
        rows: Rows,
        owner_B: Array,
        class_B: Array,
        uniform_B: Array,
        outputs: Mapping[str, Outputs],
    ) -> bool:
        """Keep what the policy keeps; True when a slot changed its owner or group."""
        offered = np.flatnonzero(owner_B >= 0)
        if not offered.size or not self.capacity:
            return False
        if len(offered) < len(rows):
            owner_B, class_B, uniform_B = owner_B[offered], class_B[offered], uniform_B[offered]
        before = self.slots.rearranged
        slot_B = self.slots.place(self.slots.policy.key_B(owner_B, class_B), uniform_B)
        if self.slots.rearranged != before:
            self.owner_M[self.slots.group_M < 0] = -1
        kept = np.flatnonzero(slot_B >= 0)
        if not kept.size:
            return self.slots.rearranged != before
        self._prepare(rows, outputs)
        slot_N = slot_B[kept]
        changed = self.slots.rearranged != before or bool(
            (self.owner_M[slot_N] != owner_B[kept]).any()
        )
        self.owner_M[slot_N] = owner_B[kept]
        self._write(slot_N, rows.take(offered[kept]), offered[kept], outputs)
        self.version[np.unique(slot_N // self.stride)] += 1
        return changed

    def batch(self, slot_N: Array) -> tuple[Array | Tensor, Array | None, dict[str, Target]]:
        """Inputs (on CPU an array), lengths and labels of some slots; a label without weights is there for every row."""
        x = self._inputs()
        if self.device.type == "cpu":
            x = x.numpy().take(slot_N, 0)
        else:
            x = x.index_select(0, torch.from_numpy(slot_N).to(self.device))
        length_N = None if self.length_M is None else self.length_M[slot_N]
        targets = {
            name: Target(t.y[slot_N]) if self.plain[name] else Target(t.y[slot_N], t.ones()[slot_N])
            for name, t in self.targets.items()
        }
        return x, length_N, targets

    def resize(self, capacity: int) -> None:
        source, target = self.slots.resize(capacity)
        move = np.arange(capacity)
        move[target] = source
        move = (
            np.minimum(move, len(self.owner_M) - 1) if len(self.owner_M) else np.zeros(0, np.int64)
        )
        self.owner_M = _moved(self.owner_M, move, capacity)
        self.owner_M[self.slots.group_M < 0] = -1
        if self.x is not None:
            index = torch.from_numpy(move).to(self.device)
            self.x = _moved_tensor(self.x, index, capacity)
            for found in self.outputs.values():
                found.z = _moved_tensor(found.z, index, capacity)
        if self.length_M is not None:
            self.length_M = _moved(self.length_M, move, capacity)
        for name, t in self.targets.items():
            self.targets[name] = Target(
                _moved(t.y, move, capacity), _moved(t.ones(), move, capacity)
            )
        for found in self.outputs.values():
            found.width = _moved(found.width, move, capacity)
        self._cut()

    def remove_task(self, task: str, number: int) -> None:
        mine = np.flatnonzero(self.owner_M == number)
        keys = np.unique(self.slots.key_G[self.slots.key_G >> TASK_SHIFT == number])
        self.slots.remove(mine, keys)
        self.owner_M[mine] = -1
        for column in (self.targets, self.plain, self.outputs):
            column.pop(task, None)
        self.version += 1

    def _inputs(self) -> Tensor:
        if self.x is None:
            raise EngineError(f"replay table {self.name} never got a row: there is nothing to read")
        return self.x

    def _prepare(self, rows: Rows, outputs: Mapping[str, Outputs]) -> None:
        """Columns for what these rows bring for the first time, and room for wider labels and outputs."""
        n = self.capacity
        if self.x is None:
            self.x = torch.zeros(
                (n, *rows.x.shape[1:]), dtype=torch.from_numpy(rows.x[:1]).dtype, device=self.device
            )
            self.length_M = None if rows.length is None else np.zeros(n, np.int32)
            self._cut()
        for name, target in rows.targets.items():
            shape = (n, *target.y.shape[1:])
            if name not in self.targets:
                self.targets[name] = Target(
                    np.zeros(shape, target.y.dtype), np.zeros(shape, np.float32)
                )
                self.plain[name] = not (self.owner_M >= 0).any()
            elif self.targets[name].y.shape != shape:
                self.targets[name] = self.targets[name].padded(shape[-1])
        for name, new in outputs.items():
            if name not in self.outputs:
                zeros = torch.zeros((n, new.z.shape[1]), dtype=new.z.dtype, device=self.device)
                self.outputs[name] = Outputs(zeros, np.zeros(n, np.int32))
            known = self.outputs[name]
            if known.z.shape[1] < new.z.shape[1]:
                known.z = torch.nn.functional.pad(
                    known.z, (0, 2 * new.z.shape[1] - known.z.shape[1])
                )
                self.version += 1

    def _write(
        self, slot_N: Array, rows: Rows, row_N: Array, outputs: Mapping[str, Outputs]
    ) -> None:
        slots = torch.from_numpy(slot_N).to(self.device)
        self._inputs().index_copy_(0, slots, torch.from_numpy(rows.x).to(self.device))
        if self.length_M is not None and rows.length is not None:
            self.length_M[slot_N] = rows.length
        for name, kept in self.targets.items():
            new = rows.targets.get(name)
            weight_M = kept.ones()
            weight_M[slot_N] = 0.0
            if new is None:
                self.plain[name] = False
                continue
            new = new.padded(kept.y.shape[-1])
            kept.y[slot_N] = new.y
            weight_M[slot_N] = new.ones()
            self.plain[name] = self.plain[name] and (
                new.weight is None or bool((new.weight == 1).all())
            )
        for name, known in self.outputs.items():
            known.width[slot_N] = 0
            if name in outputs:
                z_NC = outputs[name].z[torch.from_numpy(row_N).to(self.device)]
                known.z[slots, : z_NC.shape[1]] = z_NC
                known.width[slot_N] = outputs[name].width[row_N]

    def state(self) -> tuple[Json, dict[str, Array]]:
        meta, arrays = self.slots.state()
        return {**meta, "plain": dict(self.plain)}, {**arrays, "owner_M": self.owner_M}

    def segments(self) -> dict[int, tuple[int, dict[str, Tensor]]]:
        if self.x is None:
            return {}
        columns = {"x": self.x}
        if self.length_M is not None:
            columns["length"] = torch.from_numpy(self.length_M)
        for name, t in self.targets.items():
            columns |= {
                f"y.{name}": torch.from_numpy(t.y),
                f"weight.{name}": torch.from_numpy(t.ones()),
            }
        for name, found in self.outputs.items():
            columns |= {f"z.{name}": found.z, f"width.{name}": torch.from_numpy(found.width)}
        cuts = [slice(k * self.stride, (k + 1) * self.stride) for k in range(len(self.version))]
        return {
            k: (int(self.version[k]), {name: column[cut] for name, column in columns.items()})
            for k, cut in enumerate(cuts)
        }

    def load_state(
        self, meta: Json, arrays: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]
    ) -> None:
        self.slots.load_state(meta, arrays)
        self.owner_M = np.array(arrays["owner_M"], np.int64)
        self.plain = {name: bool(plain) for name, plain in meta["plain"].items()}
        if not parts:
            return
        columns = {
            name: torch.cat([torch.as_tensor(part[name]) for part in parts]) for name in parts[0]
        }
        self.x = columns["x"].to(self.device, copy=True)
        self.length_M = columns["length"].numpy().copy() if "length" in columns else None
        for name in self.plain:
            self.targets[name] = Target(
                columns[f"y.{name}"].numpy().copy(), columns[f"weight.{name}"].numpy().copy()
            )
        for name in [key[2:] for key in columns if key.startswith("z.")]:
            self.outputs[name] = Outputs(
                columns[f"z.{name}"].to(self.device, copy=True),
                columns[f"width.{name}"].numpy().copy(),
            )
        self._cut()

    def _cut(self) -> None:
        """Divide the slots into segments; every version moves on, because every segment's content may be new."""
        row_bytes = 64 + (0 if self.x is None else self.x[:1].numel() * self.x.element_size())
        self.stride = max(1, min(SEGMENT_BYTES // row_bytes, max(self.capacity, 1)))
        newest = int(self.version.max(initial=0)) + 1
        self.version = np.full(max(1, -(-self.capacity // self.stride)), newest, np.int64)


def _moved(column: Array, move: Array, capacity: int) -> Array:
    return column[move] if len(column) else np.zeros((capacity, *column.shape[1:]), column.dtype)


def _moved_tensor(column: Tensor, index: Tensor, capacity: int) -> Tensor:
    return (
        column.index_select(0, index)
        if len(column)
        else column.new_zeros((capacity, *column.shape[1:]))
    )
