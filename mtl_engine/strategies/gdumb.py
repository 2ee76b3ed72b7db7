"""Learns from remembered rows only: what a strategy must beat to have learned anything from the stream."""

from __future__ import annotations

from mtl_engine.strategies.base import Step, Strategy
from mtl_engine.strategies.loss import Loss


class GDumb(Strategy):
    """L = loss(replayed). Stream rows are remembered, or not, and never trained on.

    After Prabhu, Torr and Dokania 2020, "GDumb: a simple approach that questions our progress in continual
    learning" (ECCV), with two differences. The paper trains a new model from scratch whenever it is asked
    for one, over many epochs; here one model goes on, a replay draw a step, so that what it once learned from
    rows that have left the memory is not gone. The paper's memory keeps the first rows of every class until
    the classes have to share; here the engine's policy decides, by default equal uniform samples.
    """

    def losses(self, step: Step) -> dict[str, Loss]:
        return {name: task.memory_loss() for name, task in step.tasks.items() if task.num_memory}
