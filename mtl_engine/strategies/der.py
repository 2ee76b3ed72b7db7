"""Dark experience replay: remembered rows pull the model's outputs to what they were, without their labels."""

from __future__ import annotations

from typing import ClassVar

from mtl_engine.strategies.base import Step, Strategy, TaskStep, factor
from mtl_engine.strategies.loss import Loss


class DER(Strategy):
    """L = loss(stream) + alpha * mean (z_R - stored z_R)^2.

    Buzzega et al. 2020, "Dark experience for general continual learning" (arXiv 2004.07211). The squared
    difference is averaged over the columns that existed when the row was stored, as in `derpp`. Columns that a
    head has grown since are not held back on old rows, and without labels nothing else does: where classes come
    one after the other, declare them (`classes` of the task), or accuracy falls to that of `finetune`.
    """

    keeps: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = factor("alpha", alpha)

    def losses(self, step: Step) -> dict[str, Loss]:
        found = {name: self._loss(task) for name, task in step.tasks.items()}
        return {name: loss for name, loss in found.items() if loss is not None}

    def _loss(self, task: TaskStep) -> Loss | None:
        loss = task.stream_loss() if task.num_stream else None
        stored = task.stored_loss()
        if stored is None:
            return loss
        return self.alpha * stored if loss is None else loss + self.alpha * stored
