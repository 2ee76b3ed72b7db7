"""Dark experience replay ++."""

from __future__ import annotations

from typing import ClassVar

from mtl_engine.strategies.base import Step, Strategy, TaskStep, factor
from mtl_engine.strategies.loss import Loss


class DERpp(Strategy):
    """L = loss(stream) + alpha * mean (z_R - stored z_R)^2 + beta * loss(replayed).

    Buzzega et al. 2020, "Dark experience for general continual learning" (arXiv 2004.07211). One replay
    draw serves both terms; the squared difference is averaged over the columns that existed when the row
    was stored (the authors' code divides by the whole width of a fixed head). `adjust` as in `ER`.
    """

    keeps: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __init__(self, alpha: float = 0.2, beta: float = 0.5, adjust: float = 0.0) -> None:
        self.alpha = factor("alpha", alpha)
        self.beta = factor("beta", beta)
        self.adjust = factor("adjust", adjust)

    def losses(self, step: Step) -> dict[str, Loss]:
        return {name: self._loss(task) for name, task in step.tasks.items()}

    def _loss(self, task: TaskStep) -> Loss:
        prior_C = task.prior(self.adjust)
        loss, stored = task.parted_loss(1.0, self.beta, prior_C, prior_C), task.stored_loss()
        return loss if stored is None else loss + self.alpha * stored
