"""Experience replay: stream rows and replayed rows in one loss."""

from __future__ import annotations

from torch import Tensor

from mtl_engine.strategies.base import Step, Strategy


class ER(Strategy):
    """L = mean loss over stream and replayed rows, in one forward pass.

    Chaudhry et al. 2019, "On tiny episodic memories in continual learning" (arXiv 1902.10486).
    """

    def losses(self, step: Step) -> dict[str, Tensor]:
        return {name: task.loss() for name, task in step.tasks.items()}
