"""What a strategy sees of a step, and what it answers: one loss for every task present."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mtl_engine import losses
from mtl_engine.columns import on
from mtl_engine.errors import EngineError
from mtl_engine.losses import Known
from mtl_engine.strategies.loss import Loss
from mtl_engine.tasks.base import TaskType
from mtl_engine.tasks.classification import Classification
from mtl_engine.types import Array, Json

_SMOOTH = 0.5  # rows added to every class's count, so that a class absent from a step is not closed


@lru_cache(maxsize=16)
def _logs(most: int, strength: float) -> Array:
    """strength * log(n + `_SMOOTH`) for n from 0 to `most`, float32."""
    return (strength * np.log(np.arange(most + 1) + _SMOOTH)).astype(np.float32)


_SHUT = np.array(
    [losses.CLOSED, 0.0], np.float32
)  # of a class that is not open, and of one that is


@lru_cache(maxsize=64)
def _factors(s: int, rows: int, stream: float, memory: float, device: torch.device) -> Tensor:
    """What rows of a mean over all `rows` are multiplied with for the factors to be those of two means."""
    factor_B = torch.full((rows,), memory * rows / (rows - s))
    factor_B[:s] = stream * rows / s
    return factor_B.to(device)


@dataclass(frozen=True, slots=True)
class Stored:
    """Outputs that the model had when rows were stored; `valid` is 0 where the head was narrower, elsewhere 1."""

    z_MC: Tensor
    valid_MC: Tensor | None  # float32; None = everything is valid
    entries: int  # how many are valid


@dataclass(slots=True)
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
    stream_y: Array  # labels of the labelled stream rows, on the host: for strategies that decide by class
    memory_y: Array  # and of the replayed rows
    stored: Stored | None
    teacher: Callable[
        [], Tensor | None
    ]  # outputs of the teacher [B, C'], None where it does not know the task
    rows: Array | None = None  # positions in the joined batch; None = all of it
    averaged: Callable[[], Tensor | None] | None = None  # outputs of averaged weights [M, C]

    @property
    def num_memory(self) -> int:
        return self.z_BC.shape[0] - self.num_stream

    def loss(self, shift_C: Array | None = None) -> Loss:
        """Mean over all rows; `shift_C` is added to the logits of a classification."""
        return self._mean(0, self.z_BC.shape[0], shift_C)

    def stream_loss(self, shift_C: Array | None = None) -> Loss:
        """Mean over the stream rows."""
        return self._mean(0, self.num_stream, shift_C)

    def memory_loss(self, shift_C: Array | None = None) -> Loss:
        """Mean over the replayed rows."""
        return self._mean(self.num_stream, self.z_BC.shape[0], shift_C)

    def parted_loss(
        self,
        stream: float,
        memory: float,
        stream_shift_C: Array | None = None,
        memory_shift_C: Array | None = None,
    ) -> Loss:
        """stream * `stream_loss` + memory * `memory_loss` in one pass; a part that has no rows is left out."""
        s, rows = self.num_stream, self.z_BC.shape[0]
        if s == rows:
            return stream * self.stream_loss(stream_shift_C)
        if not s:
            return memory * self.memory_loss(memory_shift_C)
        z_BC, weight, shift = self._z(), self.weight, stream_shift_C
        if stream_shift_C is not memory_shift_C:
            shift = np.zeros(z_BC.shape, np.float32)
            for part, shift_C in ((shift[:s], stream_shift_C), (shift[s:], memory_shift_C)):
                if shift_C is not None:
                    part[:] = shift_C
        each = stream * rows / s
        if each != memory * rows / (rows - s):
            factor = _factors(s, rows, stream, memory, z_BC.device)
            factor = factor if self.y.dim() == 1 else factor.unsqueeze(1).expand(self.y.shape)
            weight, each = factor if weight is None else weight * factor, 1.0
        found = self.kind.loss_by_hand(z_BC, self.y, weight, self._moved(shift), each)
        return Loss.of(self.name, 0, found)

    def _mean(self, start: int, stop: int, shift_C: Array | None) -> Loss:
        z_BC, y, weight = self._z(), self.y, self.weight
        if stop - start < z_BC.shape[0]:
            z_BC, y = z_BC[start:stop], y[start:stop]
            weight = None if weight is None else weight[start:stop]
        shift = self._moved(shift_C)
        return Loss.of(self.name, start, self.kind.loss_by_hand(z_BC, y, weight, shift))

    def _z(self) -> Tensor:
        """Outputs in float32 and without a graph."""
        z_BC = self.z_BC.detach() if self.z_BC.requires_grad else self.z_BC
        return z_BC if z_BC.dtype == torch.float32 else z_BC.float()

    def closed(self) -> Array | None:
        """A shift that closes classes which are known but not in this step's stream rows; None without classes."""
        if not isinstance(self.kind, Classification):
            return None
        open_C = self.kind.open_C(self.stream_y, self.z_BC.shape[1])
        return _SHUT.take(open_C.view(np.uint8))

    def prior(self, strength: float) -> Array | None:
        """A shift by strength * log(rows of the class in this step), which is log(share) to the softmax; None without classes."""
        if not isinstance(self.kind, Classification) or not strength:
            return None
        columns = self.z_BC.shape[1]
        count_C = np.bincount(self.stream_y, minlength=columns)
        count_C += np.bincount(self.memory_y, minlength=columns)
        return _logs(len(self.stream_y) + len(self.memory_y), strength).take(count_C)

    def _moved(self, shift: Array | None) -> Tensor | None:
        return None if shift is None else on(torch.from_numpy(shift), self.z_BC.device)

    def stored_loss(self) -> Loss | None:
        """Mean squared difference of the replayed rows' outputs to those stored with them."""
        if self.stored is None:
            return None
        return self._recalled(partial(losses.stored_error, entries=self.stored.entries))

    def recalled_loss(self, bound: float) -> Loss | None:
        """The replayed rows' part of a mean over all rows of `losses.stored_huber`."""
        found = self._recalled(partial(losses.stored_huber, bound=bound))
        return None if found is None else found * (self.num_memory / self.z_BC.shape[0])

    def _recalled(self, distance: Callable[[Tensor, Tensor, Tensor | None], Known]) -> Loss | None:
        if self.stored is None or not self.num_memory:
            return None
        stored_MC = self.kind.standard(self.stored.z_MC)
        found = distance(self._z(), stored_MC, self.stored.valid_MC)
        return Loss.of(self.name, self.num_stream, found)

    def averaged_loss(self) -> Loss | None:
        """Mean squared difference of the replayed rows' outputs to those that averaged weights give."""
        averaged_MC = self.averaged() if self.averaged is not None and self.num_memory else None
        if averaged_MC is None:
            return None
        found = losses.stored_error(self._z(), averaged_MC, None, averaged_MC.numel())
        return Loss.of(self.name, self.num_stream, found)

    def distillation(self, temperature: float) -> Loss | None:
        """Distance of all rows' outputs from the teacher's, in the columns that the teacher had."""
        teacher_BC = self.teacher()
        if teacher_BC is None or not teacher_BC.shape[1]:
            return None
        return Loss.of(self.name, 0, self.kind.distil_by_hand(self._z(), teacher_BC, temperature))


@dataclass(frozen=True, slots=True)
class Step:
    """All tasks with rows in this step, in the order in which they were added."""

    tasks: Mapping[str, TaskStep]
    age: int = 0  # steps since the model last changed, this one included


@dataclass(frozen=True, slots=True)
class Boundary:
    """The end of a phase: a task switch, or `teacher_every` steps after the last one where nobody marks any."""

    step: int  # steps so far
    parameters: Mapping[str, nn.Parameter]
    row_gradients: Callable[[int], Iterator[Mapping[str, Tensor]]]
    """For at most so many of the rows in memory, one by one: the gradient of the row's own loss, by parameter."""


class Strategy(ABC):
    """Losses of a step; most strategies are nothing else, and what they keep is in replay and in the teacher.

    Two methods more may be overridden, each called only where it is: `correct`, between backward and update, and
    `consolidate`, at a boundary. What such a strategy keeps for itself belongs into `state`.
    """

    adjust: float = (
        0.0  # what part of the log-shares of a step's classes `TaskStep.prior` took over
    )
    replays: ClassVar[bool] = True  # remembered rows are drawn in every step
    keeps: ClassVar[frozenset[str]] = frozenset()  # {"logits"}: outputs are stored with the rows
    distils: ClassVar[str] = (
        ""  # rows the teacher sees: "" none, "stream" stream rows, "all" replayed ones too
    )

    autograd: ClassVar[bool] = False  # losses are differentiated that are none of `TaskStep`'s
    averages: ClassVar[bool] = False  # averaged weights are kept, for `TaskStep.averaged_loss`
    corrects: ClassVar[bool] = False  # whether a class has a `correct` of its own
    consolidates: ClassVar[bool] = False  # and a `consolidate`
    remembers: ClassVar[bool] = True  # whether rows are kept: to be replayed or to consolidate from

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.corrects = cls.correct is not Strategy.correct
        cls.consolidates = cls.consolidate is not Strategy.consolidate
        cls.remembers = cls.replays or cls.consolidates

    @abstractmethod
    def losses(self, step: Step) -> Mapping[str, Loss | Tensor]:
        """What is trained on; a task may be left out. Tensors, in place of losses or added to them, need `autograd`."""

    def adjust_at(self, age: int) -> float:
        """How much of the class shares is taken over, so many steps after the model last changed."""
        return self.adjust

    def references(self, step: Step) -> Mapping[str, Loss | Tensor]:
        """Losses that are not trained on, but whose gradient `correct` is given."""
        return {}

    def correct(  # noqa: B027  (most strategies are done with their losses; so below)
        self, parameters: Mapping[str, nn.Parameter], reference: Mapping[str, Tensor]
    ) -> None:
        """Change gradients in place before the update. None in `grad`, or no entry in `reference`, stands for zeros."""

    def consolidate(self, boundary: Boundary) -> None:  # noqa: B027
        """Keep what will be needed of the model as it is now."""

    def forget(self, names: Collection[str]) -> None:  # noqa: B027  (nothing is kept)
        """Drop what is kept of parameters that were removed."""

    def state(self) -> tuple[Json, dict[str, Tensor]]:
        """What `load_state` needs to go on bit-equal, live."""
        return {}, {}

    def load_state(self, meta: Json, tensors: Mapping[str, Tensor]) -> None:  # noqa: B027  (the same)
        """Take over a state and its tensors; both are empty in a state from before there was one."""


def factor(name: str, value: object, low: float = 0.0, high: float = 1e6) -> float:
    """A factor of a strategy, checked."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high:
        raise EngineError(
            f"{name} of a strategy is {value!r}: allowed are numbers from {low:g} to {high:g}"
        )
    return float(value)
