"""Experience replay that also holds replayed rows to the outputs they were stored with."""

from __future__ import annotations

from typing import ClassVar

from mtl_engine.strategies.base import Step, Strategy, TaskStep, factor
from mtl_engine.strategies.loss import Loss


class DarkER(Strategy):
    """L = mean over stream and replayed rows of loss + alpha [replayed] sum_c h(z_c - stored z_c), in one forward pass.

    h is Huber's loss in the scale of a square, d^2 up to |d| = `bound` and linear beyond, summed over the columns that
    existed when the row was stored. It is DER++ (Buzzega et al. 2020, arXiv 2004.07211) with three changes. Every row
    counts the same, so a task that is only replayed weighs what it does in `ER`. A row far from its stored outputs
    pulls with bounded force (Huber 1964). And the sum is no stiffer for a head of two columns than for one of a
    hundred, where a mean is: a step size that suits one trunk does not make another diverge. `adjust` as in `ER`.
    """

    keeps: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __init__(self, alpha: float = 0.1, bound: float = 1.0, adjust: float = 1.0) -> None:
        self.alpha = factor("alpha", alpha)
        self.bound = factor("bound", bound, 1e-6)
        self.adjust = factor("adjust", adjust)

    def losses(self, step: Step) -> dict[str, Loss]:
        return {name: self._loss(task) for name, task in step.tasks.items()}

    def _loss(self, task: TaskStep) -> Loss:
        loss = task.loss(task.prior(self.adjust))
        recalled = task.recalled_loss(self.bound) if self.alpha else None
        return loss if recalled is None else loss + self.alpha * recalled
