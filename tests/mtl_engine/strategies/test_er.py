"""Whose logits `er` adjusts: a state goes on with what it began with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mtl_engine.errors import EngineError
from tests.support.engines import blobs, differences, engine, loaded, parts, saved, task

if TYPE_CHECKING:
    from mtl_engine.engine import Engine
    from mtl_engine.state import EngineState

PLAIN = {"name": "er", "adjust": 0.0}


def trained(one: Engine, first: int = 0, phases: int = 2) -> Engine:
    """Phases of two classes each, four steps a phase."""
    if "a" not in one.tasks:
        one.add_task(task("a"))
    for phase in range(first, first + phases):
        labels = [2 * phase, 2 * phase + 1] * 4
        for step in range(4):
            one.observe("a", blobs(labels, seed=10 * phase + step), labels)
    return one


def from_before(one: Engine) -> EngineState:
    """Its state as versions wrote it in which `er` had nothing to keep."""
    state = saved(one)
    state.meta["strategy"] = {}
    return state


def adjust(one: Engine) -> float:
    return parts(one).strategy.adjust


def test_where_training_begins_the_shares_of_classes_are_taken_out() -> None:
    assert adjust(engine("er")) == 1.0
    assert not differences(trained(engine("er")), trained(engine({"name": "er", "adjust": 1.0})))


def test_a_state_goes_on_bit_equal_with_what_it_began_with() -> None:
    one = trained(engine("er"))
    other = loaded(saved(one), "er")
    assert adjust(other) == 1.0
    assert not differences(trained(one, 2), trained(other, 2))


def test_a_state_of_before_goes_on_with_the_loss_as_published_and_keeps_it() -> None:
    one = trained(engine(PLAIN))
    other = loaded(from_before(one), "er")
    assert adjust(other) == 0.0
    assert not differences(trained(one, 2), trained(other, 2))
    assert adjust(loaded(saved(other), "er")) == 0.0


@pytest.mark.parametrize("chosen", [0.0, 0.5])
def test_what_is_chosen_counts_for_every_state(chosen: float) -> None:
    spec = {"name": "er", "adjust": chosen}
    one = trained(engine("er"))
    assert adjust(loaded(saved(one), spec)) == chosen
    assert adjust(loaded(from_before(one), spec)) == chosen
    assert saved(loaded(saved(one), spec)).meta["strategy"] == {"adjust": chosen}


def test_another_strategy_loads_the_state_of_er_and_er_theirs() -> None:
    assert adjust(loaded(saved(trained(engine("er"))), "ewc")) == 0.0
    assert adjust(loaded(saved(trained(engine("ewc"))), "er")) == 0.0


def short_phases(seed: int, rows: int = 320) -> list[tuple[np.ndarray, np.ndarray]]:
    """Five phases of two classes each that lie close together, twenty batches of 16 a phase."""
    centres = np.random.default_rng(7)
    centre_CD = centres.uniform(0, 1, (10, 64)) * (centres.random((10, 64)) < 0.3)
    draw = np.random.default_rng(seed)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for phase in range(5):
        y = draw.integers(2 * phase, 2 * phase + 2, rows)
        x = np.clip(centre_CD[y] + draw.normal(0, 0.5, (rows, 64)), 0, 1)
        found.append((x.astype(np.float32), y))
    return found


def accuracy(strategy: Any, seed: int) -> float:
    """Mean over the phases after the last one, on a plain net with a small step size."""
    net = {"width": 64, "depth": 2, "norm": "none"}
    small = {"optimizer": {"name": "sgd", "lr": 0.03}, "buffer_rows": 100, "replay_batch": 16}
    one = engine(strategy, trunk=net, seed=seed, **small)
    one.add_task(task("a"))
    for x, y in short_phases(seed):
        for start in range(0, len(y), 16):
            one.observe("a", x[start : start + 16], y[start : start + 16])
    return float(np.mean([(one.predict("a", x) == y).mean() for x, y in short_phases(seed + 9)]))


def test_on_short_phases_of_a_plain_net_it_keeps_far_more_than_the_published_loss() -> None:
    gained = [accuracy("er", seed) - accuracy(PLAIN, seed) for seed in range(3)]
    assert np.mean(gained) > 0.1


@pytest.mark.parametrize("wrong", [-1.0, "much", True])
def test_an_adjust_that_is_no_factor_is_refused(wrong: Any) -> None:
    with pytest.raises(EngineError, match=r"adjust of a strategy is .*allowed are numbers"):
        engine({"name": "er", "adjust": wrong})
