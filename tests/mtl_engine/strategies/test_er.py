"""Whose logits `er` adjusts: a state goes on with what it began with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


@pytest.mark.parametrize("wrong", [-1.0, "much", True])
def test_an_adjust_that_is_no_factor_is_refused(wrong: Any) -> None:
    with pytest.raises(EngineError, match=r"adjust of a strategy is .*allowed are numbers"):
        engine({"name": "er", "adjust": wrong})
