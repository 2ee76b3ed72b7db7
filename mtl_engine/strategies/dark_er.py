"""Experience replay that also holds replayed rows to the outputs they were stored with."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mtl_engine.strategies.base import Step, Strategy, factor


class DarkER(Strategy):
    """L = mean over stream and replayed rows of loss + alpha [replayed] h(z - stored z), in one forward pass.

    h is Huber's loss in the scale of a square, d^2 up to |d| = `bound` and linear beyond, averaged over the columns
    that existed when the row was stored. It is DER++ (Buzzega et al. 2020, arXiv 2004.07211) with two changes: every
    row counts the same, so tasks that are only replayed weigh as much as they do in `ER`; and a row whose stored
    outputs are far away pulls with bounded force (Huber 1964), so a step size that suits one trunk does not make
    another one diverge. `adjust` as in `ER`.
    """

    keeps: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __init__(self, alpha: float = 0.5, bound: float = 1.0, adjust: float = 1.0) -> None:
        self.alpha = factor("alpha", alpha)
        self.bound = factor("bound", bound, 1e-6)
        self.adjust = factor("adjust", adjust)

    def losses(self, step: Step) -> dict[str, Tensor]:
        return {
            name: task.recalling_loss(self.alpha, self.bound, task.prior(self.adjust))
            for name, task in step.tasks.items()
        }
