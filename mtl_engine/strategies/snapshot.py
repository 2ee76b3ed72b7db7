"""Replay and distillation from the model's previous snapshot."""

from __future__ import annotations

from typing import ClassVar

from mtl_engine.strategies.base import Step, Strategy, factor
from mtl_engine.strategies.loss import Loss


class Snapshot(Strategy):
    """L = loss(stream and replayed) + strength * T^2 KL(teacher / T || model / T) over the same rows.

    The teacher is the model at the last switch (or `teacher_every` steps ago); each row is distilled in
    the heads it belongs to, in the columns the teacher had. Unlabelled rows are distilled too. Combines
    replay with Li and Hoiem 2016 (arXiv 1606.09282), as in Rebuffi et al. 2017 (iCaRL, arXiv 1611.07725).
    """

    distils: ClassVar[str] = "all"

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
