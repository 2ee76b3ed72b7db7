"""What a strategy sees of a step, and what it answers: one scalar loss for every task present."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl_engine import losses
from mtl_engine.errors import EngineError
from mtl_engine.tasks.base import TaskType
from mtl_engine.types import Array


@dataclass(frozen=True, slots=True)
class Stored:
    """Outputs that the model had when rows were stored, with `valid` False where the head was narrower."""

    z_MC: Tensor
    valid_MC: Tensor | None  # None = everything is valid


@dataclass(frozen=True, slots=True)
class TaskStep:
    """One task's rows in a step: stream rows first, then replayed ones. `weight` None = all ones.

    Rows without a label of this task have weight 0 and are there only for strategies with a teacher.
    """

    name: str
    kind: TaskType
    z_BC: Tensor
    y: Tensor
    weight: Tensor | None
    num_stream: int
    stream_y: Array  # host labels of the labelled stream rows, for strategies that decide by class
    stored: Stored | None
    teacher: Callable[[], Tensor | None]  # outputs of the teacher [B, C'], None where it does not know the task
    rows: Array | None = None  # positions in the joined batch; None = all of it

    @property
    def num_memory(self) -> int:
        return self.z_BC.shape[0] - self.num_stream

    def loss(self) -> Tensor:
        """Mean over all rows."""
        return self.kind.loss(self.z_BC, self.y, self.weight)

    def stream_loss(self, allowed_C: Tensor | None = None) -> Tensor:
        """Mean over the stream rows, in the softmax over `allowed_C` only."""
        s = self.num_stream
        return self.kind.loss(self.z_BC[:s], self.y[:s], None if self.weight is None else self.weight[:s], allowed_C)

    def memory_loss(self) -> Tensor:
        """Mean over the replayed rows."""
        s = self.num_stream
        return self.kind.loss(self.z_BC[s:], self.y[s:], None if self.weight is None else self.weight[s:])

    def stored_loss(self) -> Tensor | None:
        """Mean squared difference of the replayed rows' outputs to those stored with them."""
        if self.stored is None or not self.num_memory:
            return None
        stored_MC = self.kind.standard(self.stored.z_MC.float())
        return losses.stored_error(self.z_BC[self.num_stream :], stored_MC, self.stored.valid_MC)

    def distillation(self, temperature: float) -> Tensor | None:
        """Distance of all rows' outputs from the teacher's, in the columns that the teacher had."""
        teacher_BC = self.teacher()
        if teacher_BC is None or not teacher_BC.shape[1]:
            return None
        return self.kind.distil(self.z_BC, teacher_BC, temperature)


@dataclass(frozen=True, slots=True)
class Step:
    """All tasks with rows in this step, in the order in which they were added."""

    tasks: Mapping[str, TaskStep]


class Strategy(ABC):
    """Losses of a step. A strategy holds no state of its own: what it keeps is in replay and in the teacher."""

    replays: ClassVar[bool] = True
    keeps: ClassVar[frozenset[str]] = frozenset()  # {"logits"}: outputs are stored with the rows
    distils: ClassVar[str] = ""  # rows the teacher sees: "" none, "stream" stream rows, "all" replayed ones too

    @abstractmethod
    def losses(self, step: Step) -> dict[str, Tensor]: ...


def mask(allowed_C: Array, like: Tensor) -> Tensor:
    """A host mask on the device of `like`."""
    return torch.from_numpy(allowed_C).to(like.device, non_blocking=True)


def factor(name: str, value: object, low: float = 0.0, high: float = 1e6) -> float:
    """A factor of a strategy, checked."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
        raise EngineError(f"{name} of a strategy is {value!r}: allowed are numbers from {low:g} to {high:g}")
    return float(value)
