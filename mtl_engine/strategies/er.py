"""Experience replay: stream rows and replayed rows in one loss."""

from __future__ import annotations

from mtl_engine.strategies.base import Step, Strategy, factor
from mtl_engine.strategies.loss import Loss


class ER(Strategy):
    """L = mean loss over stream and replayed rows, in one forward pass.

    Chaudhry et al. 2019, "On tiny episodic memories in continual learning" (arXiv 1902.10486).

    `adjust` > 0 adds adjust * log(share of the class in the step's rows) to the logits of classifications
    while training: the stream's classes, which come many times as often as old ones, no longer get larger
    logits for that alone. Menon et al. 2021 (arXiv 2007.07314); for streams Huang et al. 2023 (arXiv 2311.06460).
    """

    def __init__(self, adjust: float = 0.0) -> None:
        self.adjust = factor("adjust", adjust)

    def losses(self, step: Step) -> dict[str, Loss]:
        return {name: task.loss(task.prior(self.adjust)) for name, task in step.tasks.items()}
