"""Learning without forgetting."""

from __future__ import annotations

from typing import ClassVar

from mtl_engine.strategies.base import Step, Strategy, factor
from mtl_engine.strategies.loss import Loss


class LwF(Strategy):
    """L = loss(stream) + lambda * T^2 KL(teacher / T || model / T) on the stream rows. Replays nothing.

    Li and Hoiem 2016, "Learning without forgetting" (arXiv 1606.09282); the teacher is the model at the
    last switch. Every old head that reads the same inputs is distilled, in the columns the teacher had.
    The factor T^2 keeps the gradient's size independent of T; several implementations leave it out.
    """

    replays: ClassVar[bool] = False
    distils: ClassVar[str] = "stream"

    def __init__(self, strength: float = 1.0, temperature: float = 2.0) -> None:
        self.strength = factor("strength", strength)
        self.temperature = factor("temperature", temperature, 0.01, 1000)

    def losses(self, step: Step) -> dict[str, Loss]:
        found: dict[str, Loss] = {}
        for name, task in step.tasks.items():
            distance = task.distillation(self.temperature)
            loss = task.loss()
            found[name] = loss if distance is None else loss + self.strength * distance
        return found
