"""A loss together with its gradient, so that sums of losses whose derivatives are known need no autograd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtl_engine.errors import EngineError
from mtl_engine.losses import Known

Factor = float | Tensor
Value = Tensor | float


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """factor * g is a part of dloss/dz: for the rows of a task from `start` on, in the first columns of its head."""

    task: str
    start: int
    g_BC: Tensor
    factor: float = 1.0


class Loss:
    """A scalar and the terms of its gradient. Losses can be added, and multiplied by numbers.

    A value may have a graph: what a strategy makes of outputs beyond the losses of a `TaskStep`. Its gradient is
    then that of the graph and that of the terms.
    """

    __slots__ = ("_value", "parts", "terms")

    def __init__(
        self,
        value: Tensor | tuple[tuple[Value, float], ...],
        terms: tuple[Term, ...] = (),
    ) -> None:
        self.parts = ((value, 1.0),) if isinstance(value, Tensor) else value
        self.terms = terms
        self._value: Tensor | None = None

    @classmethod
    def of(cls, task: str, start: int, known: Known) -> Loss:
        """A loss of a task's rows from `start` on."""
        value, g_BC, factor, g_factor = known
        return cls(((value, factor),), (Term(task, start, g_BC, g_factor),))

    @property
    def value(self) -> Tensor:
        """The sum of its parts, which are added up when it is first asked for."""
        if self._value is None:
            with torch.set_grad_enabled(self.has_graph):
                self._value = summed(self.parts)
        return self._value

    @property
    def has_graph(self) -> bool:
        return any(isinstance(value, Tensor) and value.requires_grad for value, _ in self.parts)

    @property
    def trains(self) -> bool:
        """Whether anything can be learned from it."""
        return bool(self.terms) or self.has_graph

    def __add__(self, other: Loss | Tensor) -> Loss:
        if isinstance(other, Tensor):
            _check_graph()
            return Loss((*self.parts, (other, 1.0)), self.terms)
        return Loss(self.parts + other.parts, self.terms + other.terms)

    __radd__ = __add__

    def __mul__(self, factor: float) -> Loss:
        if factor == 1.0:
            return self
        scaled = (Term(one.task, one.start, one.g_BC, one.factor * factor) for one in self.terms)
        return Loss(tuple((value, f * factor) for value, f in self.parts), tuple(scaled))

    __rmul__ = __mul__


class Values(Mapping[str, Tensor]):
    """The values of losses by task, without a graph; one is worked out when it is first read, and most never are."""

    def __init__(self, losses: Mapping[str, Loss]) -> None:
        self._losses = losses

    def __getitem__(self, task: str) -> Tensor:
        return self._losses[task].value.detach()

    def __iter__(self) -> Iterator[str]:
        return iter(self._losses)

    def __len__(self) -> int:
        return len(self._losses)


Parts = Sequence[tuple[Loss, Factor]]
"""Losses and what each counts in the sum that is trained on."""


def summed(values: Sequence[tuple[Value, Factor]]) -> Tensor:
    """Sum of value * factor over at least one."""
    [(value, factor), *more] = values
    total = value * factor
    for value, factor in more:
        total = total + value * factor
    return total if isinstance(total, Tensor) else torch.tensor(total)


def all_losses(found: Mapping[str, Loss | Tensor]) -> dict[str, Loss]:
    """What a strategy answered, with tensors as losses that have no terms."""
    return {name: loss if isinstance(loss, Loss) else _of(loss) for name, loss in found.items()}


def _of(value: Tensor) -> Loss:
    _check_graph()
    return Loss(value)


def _check_graph() -> None:
    if not torch.is_grad_enabled():
        raise EngineError(
            "a strategy made a loss of its own while gradients are off, and it would train nothing: set `autograd = True` in its class"
        )


def total(parts: Parts) -> float:
    """What is trained on, as a number: the only wait for the device in a step."""
    values = [(value, f * factor) for loss, factor in parts for value, f in loss.parts]
    if all(not isinstance(value, Tensor) or value.is_cpu for value, _ in values):
        return sum(float(value) * float(factor) for value, factor in values)
    return summed(values).item()
