"""Experience replay that also holds replayed rows to the outputs they were stored with."""

from __future__ import annotations

from typing import ClassVar

from mtl_engine.strategies.base import Step, Strategy, TaskStep, factor
from mtl_engine.strategies.loss import Loss

_SETTLED = 100  # steps after which half of what `early` leaves out counts again


class DarkER(Strategy):
    """L = mean over stream and replayed rows of loss + alpha [replayed] sum_c h(z_c - stored z_c), in one forward pass.

    h is Huber's loss in the scale of a square, d^2 up to |d| = `bound` and linear beyond, summed over the columns that
    existed when the row was stored. It is DER++ (Buzzega et al. 2020, arXiv 2004.07211) with three changes. Every row
    counts the same, so a task that is only replayed weighs what it does in `ER`. A row far from its stored outputs
    pulls with bounded force (Huber 1964). And the sum is no stiffer for a head of two columns than for one of a
    hundred, where a mean is: a step size that suits one trunk does not make another diverge.

    `adjust` as in `ER`, and it may begin at `early`: n steps after the model last changed (a new head or column, a new
    phase) it is adjust - (adjust - early) / (1 + n / 100). The log of a class's share is what the output of a class is to
    be moved by once it is learned. Before that it keeps a new class from being answered: less of it, and the new is
    there after a fraction of the rows; more of it later, and a long phase forgets less.
    """

    keeps: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __init__(
        self,
        alpha: float = 0.1,
        bound: float = 1.0,
        adjust: float = 1.0,
        early: float | None = None,
    ) -> None:
        self.alpha = factor("alpha", alpha)
        self.bound = factor("bound", bound, 1e-6)
        self.adjust = factor("adjust", adjust)
        self.early = self.adjust if early is None else factor("early", early)

    def losses(self, step: Step) -> dict[str, Loss]:
        strength = self.adjust_at(step.age)
        return {name: self._loss(task, strength) for name, task in step.tasks.items()}

    def adjust_at(self, age: int) -> float:
        """In hundredths where it changes: shifts are kept for reuse."""
        if self.early == self.adjust:
            return self.adjust
        return round(self.adjust - (self.adjust - self.early) / (1 + age / _SETTLED), 2)

    def _loss(self, task: TaskStep, strength: float) -> Loss:
        loss = task.loss(task.prior(strength))
        recalled = task.recalled_loss(self.bound) if self.alpha else None
        return loss if recalled is None else loss + self.alpha * recalled
