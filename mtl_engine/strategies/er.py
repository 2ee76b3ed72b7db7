"""Experience replay: stream rows and replayed rows in one loss."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mtl_engine.strategies.base import Step, Strategy, factor
from mtl_engine.strategies.loss import Loss
from mtl_engine.types import Json

_BEFORE = 0.0  # what `adjust` was in states that do not tell it


class ER(Strategy):
    """L = mean loss over stream and replayed rows, in one forward pass.

    Chaudhry et al. 2019, "On tiny episodic memories in continual learning" (arXiv 1902.10486).

    `adjust` > 0 adds adjust * log(share of the class in the step's rows) to the logits of classifications
    while training: the stream's classes, which come many times as often as old ones, no longer get larger
    logits for that alone. Menon et al. 2021 (arXiv 2007.07314); for streams Huang et al. 2023 (arXiv 2311.06460).
    0 is the loss as it was published. None is 1 where training begins; a state goes on with what it began with,
    which was 0 in states that do not tell it: those of older versions, and those of other strategies.
    """

    def __init__(self, adjust: float | None = None) -> None:
        self._chosen = adjust is not None
        self.adjust = factor("adjust", 1.0 if adjust is None else adjust)

    def losses(self, step: Step) -> dict[str, Loss]:
        return {name: task.loss(task.prior(self.adjust)) for name, task in step.tasks.items()}

    def state(self) -> tuple[Json, dict[str, Tensor]]:
        return {"adjust": self.adjust}, {}

    def load_state(self, meta: Json, tensors: Mapping[str, Tensor]) -> None:
        if not self._chosen:
            self.adjust = factor("adjust", meta.get("adjust", _BEFORE))
