"""The teacher of the averaged weights: what it says, that it moves with them, and that it need not be published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtl_engine.average import EVERY
from mtl_engine.strategies.base import Step, Strategy
from mtl_engine.types import TaskSpec
from tests.support.engines import blobs, differences, engine, loaded, parts, saved, task

if TYPE_CHECKING:
    from mtl_engine.engine import Engine
    from mtl_engine.trainer import Trainer


class Asking(Strategy):
    """Plain replay that compares the averaged outputs it gets with those of the averaged model on the same slots."""

    averages = True

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.compared: list[int] = []

    def losses(self, step: Step) -> dict[str, Tensor]:
        for name, one in step.tasks.items():
            found = one.averaged() if one.averaged is not None and one.num_memory else None
            if found is not None:
                torch.testing.assert_close(found, self._wanted(name, one.num_memory), rtol=1e-4, atol=1e-5)  # fmt: skip
                assert not found.requires_grad
                self.compared.append(one.num_memory)
        return {name: one.loss() for name, one in step.tasks.items()}

    @torch.no_grad()
    def _wanted(self, name: str, rows: int) -> Tensor:
        """The same draw once more, through the model with the averages for its weights."""
        trainer = self.trainer
        table = trainer.model.table_of[name]
        drawn = trainer.replay.draw(trainer.step_count + 1, trainer.settings.replay_batch, trainer.shares)  # fmt: skip
        memory = trainer.replay.tables[table]
        mine = np.array(
            [memory.targets[name].take(np.array([slot])).ones().any() for slot in drawn[table]]
        )
        x, length, _ = memory.batch(drawn[table][mine])
        assert len(x) == rows
        assert trainer.average is not None
        with trainer.model.using(trainer.average.values):
            given = None if length is None else torch.from_numpy(length)
            return trainer.model(name, torch.as_tensor(x), given)


def asked(**settings: Any) -> tuple[Engine, Asking]:
    one = engine("ema", **settings)
    strategy = Asking(parts(one))
    parts(one).strategy = strategy
    return one, strategy


@pytest.mark.parametrize("how", ["raw", "ema"])
def test_it_says_what_the_averaged_weights_say_through_growth_and_removal(how: str) -> None:
    one, strategy = asked(weights=how)
    one.add_task(task("a"))
    one.add_task(task("b"))
    one.add_task(TaskSpec("t", modality="text"))
    for step in range(3 * EVERY):
        one.observe("a", blobs([0, 1, 2 + step // 6], step), [0, 1, 2 + step // 6])
        one.observe("b", blobs([1, 2], step), ["x", "y"])
        one.observe("t", [f"one {step % 5}", "two"], ["x", "y"])
        if step == 2 * EVERY:
            one.remove_task("b")
            one.add_task(task("b"))
    assert len(strategy.compared) > 100


def test_statistics_of_an_encoder_are_the_models_own() -> None:
    one, strategy = asked()
    one.add_task(TaskSpec("t", modality="table"))
    for step in range(2 * EVERY):
        one.observe("t", np.full((4, 3), float(step)) * [[1], [2], [3], [5]], [0, 1, 0, 1])
    assert len(strategy.compared) == 2 * EVERY - 1


def test_raw_weights_stay_what_is_evaluated() -> None:
    one = engine("ema", ema_decay=0.9)
    one.add_task(task("a"))
    for step in range(2 * EVERY):
        one.observe("a", blobs([0, 1], step), [0, 1])
    trainer = parts(one)
    assert trainer.average is not None
    assert trainer.weights() == {}
    with torch.no_grad():
        z_BC = trainer.model("a", torch.from_numpy(blobs([0, 1])))
    np.testing.assert_allclose(
        one.predict_proba("a", blobs([0, 1])), torch.softmax(z_BC, 1).numpy(), atol=1e-6
    )
    assert not any(torch.equal(trainer.average.values[n], p) for n, p in trainer.model.named_parameters())  # fmt: skip


def test_a_loaded_engine_asks_the_averages_it_loaded() -> None:
    """Also one that had a follower of other averages before."""
    one, other = engine("ema"), engine("ema")
    for each, first in ((one, 0), (other, 50)):
        each.add_task(task("a"))
        for step in range(first, first + EVERY + 3):
            each.observe("a", blobs([0, 1, 2], step), [0, 1, 2])
    other.load_state_dict(saved(one))
    resumed = loaded(saved(one), "ema")
    for each in (one, other, resumed):
        for step in range(EVERY):
            each.observe("a", blobs([0, 1, 3], step), [0, 1, 3])
    assert differences(one, other) == []
    assert differences(one, resumed) == []
