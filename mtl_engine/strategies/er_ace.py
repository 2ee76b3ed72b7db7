"""Experience replay with asymmetric cross-entropy."""

from __future__ import annotations

from mtl_engine.strategies.base import Step, Strategy
from mtl_engine.strategies.loss import Loss


class ERACE(Strategy):
    """L = CE(z_B over classes in the stream batch or never seen, y_B) + CE(z_R over all classes, y_R).

    New classes do not push the logits of old ones down, which is what makes features drift at a switch.
    Caccia et al. 2022, "New insights on reducing abrupt representation change in online continual
    learning" (arXiv 2104.05025). "Never seen" is a true set here: the last old class is not left open.
    """

    def losses(self, step: Step) -> dict[str, Loss]:
        return {
            name: task.parted_loss(1.0, 1.0, task.closed()) for name, task in step.tasks.items()
        }
