"""The teacher: a frozen copy of the model as it was, distilled from while the model goes on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mtl_engine.average import Average
from mtl_engine.batch import Joined
from mtl_engine.model import Model, TrunkSpec
from mtl_engine.registry import Registry
from mtl_engine.tape import Tape
from mtl_engine.tasks.base import TaskType
from mtl_engine.types import Array, Json


class Teacher:
    """Answers in units that stay comparable: a regression's teacher has its own mean and deviation.

    None of its parameters needs a gradient, so no answer has a graph.
    """

    def __init__(
        self, model: Model, kinds: Mapping[str, TaskType], step: int, version: int
    ) -> None:
        self.model = model.requires_grad_(False)
        self.kinds = kinds
        self.step = step
        self.version = version

    @classmethod
    def of(
        cls, model: Model, values: Mapping[str, Tensor], registry: Registry, step: int, version: int
    ) -> Teacher:
        """A copy of `model` with `values` (averaged weights) for its parameters."""
        copied = copy.deepcopy(model)
        copied.load_tensors({**copied.tensors(), **values})
        kinds = {name: copy.deepcopy(registry.tasks[name].kind) for name in model.table_of}
        return cls(copied, kinds, step, version)

    @classmethod
    def following(cls, model: Model, values: Mapping[str, Tensor], registry: Registry) -> Teacher:
        """`model` with `values` for its parameters, which are not copied: the teacher moves with them, and with `model`'s buffers."""
        copied = copy.deepcopy(model)
        for name, parameter in copied.named_parameters():
            parameter.data = values[name]
        for name, buffer in model.named_buffers():
            copied.get_buffer(name).data = buffer
        return cls(copied, {name: registry.tasks[name].kind for name in model.table_of}, 0, 0)

    def knows(self, task: str) -> bool:
        return self.model.columns(task) > 0

    def features(self, table: str, x: Tensor, length_B: Tensor | None) -> Tensor:
        """Trunk features [B, D]."""
        dense = self.model.encoder(table).dense(x, length_B)
        if dense is None:
            h_BD = self.model.encode(table, x, length_B)
        else:  # past the layers' modules, whose calls cost more than what they calculate
            h_BD = Tape(dense[1]).forward(dense[0])
        return Tape(self.model.trunk.layers).forward(h_BD)

    def outputs(self, task: str, f_BD: Tensor) -> Tensor:
        """Outputs in the units of `TaskType.raw`."""
        return self.kinds[task].raw(self.model.head(task).forward(f_BD))

    def forget(self, task: str, version: int) -> None:
        if task in self.model.table_of:
            self.model.remove_head(task)
            self.kinds = {name: kind for name, kind in self.kinds.items() if name != task}
        self.version = version

    def state(self) -> tuple[Json, dict[str, Tensor]]:
        tensors = {f"model.{name}": value for name, value in self.model.tensors().items()}
        metas: Json = {}
        for name, kind in self.kinds.items():
            metas[name], arrays = kind.state()
            tensors |= {
                f"kind.{name}.{key}": torch.from_numpy(value) for key, value in arrays.items()
            }
        return {"step": self.step, "structure": self.model.structure(), "kinds": metas}, tensors

    @classmethod
    def from_state(
        cls,
        meta: Json,
        tensors: Mapping[str, Any],
        registry: Registry,
        trunk: TrunkSpec,
        device: torch.device,
    ) -> Teacher:
        model = Model(trunk, 0, device)
        model.restructure(meta["structure"])
        model.load_tensors(
            {
                name[6:]: torch.as_tensor(value)
                for name, value in tensors.items()
                if name.startswith("model.")
            }
        )
        kinds: dict[str, TaskType] = {}
        for name, found in meta["kinds"].items():
            start = f"kind.{name}."
            kinds[name] = copy.deepcopy(registry.tasks[name].kind)
            kinds[name].load_state(
                found,
                {
                    k[len(start) :]: torch.as_tensor(v).numpy()
                    for k, v in tensors.items()
                    if k.startswith(start)
                },
            )
        return cls(model, kinds, int(meta["step"]), 1)


class Follower:
    """A teacher with averaged weights, which moves with them; made anew where the model changes."""

    def __init__(self, average: Average) -> None:
        self._average = average
        self._values: Mapping[str, Tensor] | None = None
        self._teacher: Teacher | None = None

    def of(self, model: Model, registry: Registry) -> Teacher:
        if self._teacher is None or self._values is not self._average.values:
            self._values = self._average.values
            self._teacher = Teacher.following(model, self._values, registry)
        return self._teacher


class Lesson:
    """The teachers' answers for one batch, computed when they are first asked for."""

    def __init__(self, teacher: Teacher | None, follower: Teacher | None, joined: Joined) -> None:
        self._teacher, self._follower, self._joined = teacher, follower, joined
        self._f_BD: Tensor | None = None
        self._f_MD: Tensor | None = None

    def knows(self, task: str) -> bool:
        return self._teacher is not None and self._teacher.knows(task)

    def z(self, kind: TaskType, row_B: Array | None) -> Tensor | None:
        """Outputs for a task's rows (None = all), in the units of the model's present outputs."""
        if self._teacher is None or not self._teacher.knows(kind.name):
            return None
        if self._f_BD is None:
            j = self._joined
            self._f_BD = self._teacher.features(j.table, j.x, j.length_B)
        return _standard(self._teacher, kind, self._f_BD, row_B)

    def averaged(self, kind: TaskType, memory_M: Array | None) -> Tensor | None:
        """Outputs of averaged weights for a task's replayed rows, positions among them (None = all)."""
        if self._follower is None:
            return None
        if self._f_MD is None:
            j, s = self._joined, self._joined.num_stream
            length_M = None if j.length_B is None else j.length_B[s:]
            self._f_MD = self._follower.features(j.table, j.x[s:], length_M)
        return _standard(self._follower, kind, self._f_MD, memory_M)


def _standard(teacher: Teacher, kind: TaskType, f_BD: Tensor, row_B: Array | None) -> Tensor:
    if row_B is not None:
        f_BD = f_BD.index_select(0, torch.from_numpy(row_B).to(f_BD.device))
    return kind.standard(teacher.outputs(kind.name, f_BD))
