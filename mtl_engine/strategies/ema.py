"""Replay that keeps the outputs of remembered rows near those of averaged weights."""

from __future__ import annotations

from typing import ClassVar

from mtl_engine.strategies.base import Step, Strategy, TaskStep, factor
from mtl_engine.strategies.loss import Loss


class EMA(Strategy):
    """L = loss(stream and replayed) + strength * mean (z_R - averaged z_R)^2.

    The teacher of every replayed row is the exponential moving average of the weights (`ema_decay` of the engine,
    warm-up and cadence as in `average`), which moves slowly and needs no boundary. Evaluate it as well: weights = "ema".
    After Arani, Sarfraz and Zonooz 2022, "Learning fast, learning slow" (CLS-ER, arXiv 2201.12604), which keeps two
    averages, updates them at random steps, and takes for each row the one that is surer of its label. `adjust` as in `er`.
    """

    averages: ClassVar[bool] = True

    def __init__(self, strength: float = 1.0, adjust: float = 0.0) -> None:
        self.strength = factor("strength", strength)
        self.adjust = factor("adjust", adjust)

    def losses(self, step: Step) -> dict[str, Loss]:
        return {name: self._loss(task) for name, task in step.tasks.items()}

    def _loss(self, task: TaskStep) -> Loss:
        loss, distance = task.loss(task.prior(self.adjust)), task.averaged_loss()
        return loss if distance is None else loss + self.strength * distance
