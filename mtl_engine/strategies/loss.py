"""A loss together with its gradient, so that sums of losses whose derivatives are known need no autograd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from mtl_engine.losses import Known


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """factor * g is a part of dloss/dz: for the rows of a task from `start` on, in the first columns of its head."""

    task: str
    start: int
    g_BC: Tensor
    factor: float = 1.0


class Loss:
    """A scalar `value` and the terms of its gradient. Losses can be added, and multiplied by numbers.

    A value may have a graph: what a strategy makes of outputs beyond the losses of a `TaskStep`. Its gradient is
    then that of the graph and that of the terms.
    """

    __slots__ = ("terms", "value")

    def __init__(self, value: Tensor, terms: tuple[Term, ...] = ()) -> None:
        self.value = value
        self.terms = terms

    @classmethod
    def of(cls, task: str, start: int, known: Known) -> Loss:
        """A loss of a task's rows from `start` on."""
        value, g_BC = known
        return cls(value, (Term(task, start, g_BC),))

    @property
    def trains(self) -> bool:
        """Whether anything can be learned from it."""
        return bool(self.terms) or self.value.requires_grad

    def __add__(self, other: Loss | Tensor) -> Loss:
        if isinstance(other, Tensor):
            return Loss(self.value + other, self.terms)
        return Loss(self.value + other.value, self.terms + other.terms)

    __radd__ = __add__

    def __mul__(self, factor: float) -> Loss:
        if factor == 1.0:
            return self
        scaled = (Term(one.task, one.start, one.g_BC, one.factor * factor) for one in self.terms)
        return Loss(self.value * factor, tuple(scaled))

    __rmul__ = __mul__


def all_losses(found: Mapping[str, Loss | Tensor]) -> dict[str, Loss]:
    """What a strategy answered, with tensors as losses that have no terms."""
    return {name: loss if isinstance(loss, Loss) else Loss(loss) for name, loss in found.items()}
