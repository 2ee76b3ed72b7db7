"""No protection at all: the baseline that forgets."""

from __future__ import annotations

from typing import ClassVar

from mtl_engine.strategies.base import Step, Strategy
from mtl_engine.strategies.loss import Loss


class Finetune(Strategy):
    """L = loss(stream). Replays nothing."""

    replays: ClassVar[bool] = False

    def losses(self, step: Step) -> dict[str, Loss]:
        return {name: task.loss() for name, task in step.tasks.items()}
