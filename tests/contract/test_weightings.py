"""Every weighting: factors that depend on the losses and on nothing else, whatever tasks come and go."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from mtl_engine.components import build
from mtl_engine.engine import Engine
from mtl_engine.weightings import WEIGHTINGS
from mtl_engine.weightings.base import Weighting
from tests.support.engines import blobs, differences, engine, loaded, saved, task

pytestmark = pytest.mark.parametrize("name", WEIGHTINGS)
MOST = 1e3  # between the largest and the smallest factor, for losses that differ by 1e6


def weighting(name: str) -> Weighting:
    return build(WEIGHTINGS, name, "weighting")


def factors(one: Weighting, losses: dict[str, float]) -> dict[str, float]:
    found = one.weigh({task_: torch.tensor(value) for task_, value in losses.items()})
    return {task_: float(value) for task_, value in found.items()}


def history(one: Weighting, steps: int = 10, **more: float) -> None:
    """Losses that fall at different speeds."""
    for step in range(steps):
        factors(one, {"a": 2.0 / (1 + step), "b": 0.5, "c": 9.0 - step, **more})


def test_the_order_of_tasks_does_not_matter(name: str) -> None:
    one, other = weighting(name), weighting(name)
    losses = {"a": 0.3, "b": 4.0, "c": 1.0}
    for _ in range(5):
        found = factors(one, losses)
        assert found == pytest.approx(factors(other, dict(reversed(losses.items()))))


@pytest.mark.parametrize("present", ["a", "b", "ac", "abc", "cab"])
def test_every_subset_of_tasks_gets_a_factor_each(name: str, present: str) -> None:
    one = weighting(name)
    history(one)
    found = factors(one, dict.fromkeys(present, 1.5))
    assert list(found) == list(present)
    assert all(np.isfinite(value) and value > 0 for value in found.values())


def test_a_task_that_comes_and_goes_leaves_the_others_as_they_were(name: str) -> None:
    one, other = weighting(name), weighting(name)
    history(one)
    history(other)
    one.remove_task("never there")
    factors(one, {"a": 1.0, "new": 50.0})
    factors(other, {"a": 1.0})
    one.remove_task("new")
    losses = {"a": 0.2, "b": 0.4}
    mine, others = factors(one, losses), factors(other, losses)
    assert mine["a"] / mine["b"] == pytest.approx(others["a"] / others["b"])


def test_factors_stay_within_bounds_of_each_other(name: str) -> None:
    one = weighting(name)
    for step in range(200):
        found = factors(one, {"a": 1e3, "b": 1e-3 / (1 + step), "c": 0.0})
        assert max(found.values()) <= MOST * min(found.values())
        assert sum(found.values()) == pytest.approx(3, rel=0.5)


def test_the_state_goes_through_json_and_comes_back(name: str) -> None:
    one, fresh = weighting(name), weighting(name)
    history(one)
    meta, arrays = one.state()
    fresh.load_state(json.loads(json.dumps(meta)), {key: v.copy() for key, v in arrays.items()})
    for step in range(5):
        losses = {"a": 1.0 + step, "b": 2.0, "d": 0.1}
        assert factors(one, losses) == factors(fresh, losses)


def test_an_engine_goes_on_bit_equal_with_it(name: str) -> None:
    one = engine(weighting=name)
    for task_ in ("a", "b"):
        one.add_task(task(task_))
    _train(one, range(4))
    other = loaded(saved(one), weighting=name)
    for each in (one, other):
        _train(each, range(4, 10))
        each.remove_task("a")
        _train(each, range(10, 14), ("b",))
    assert differences(one, other) == []


def _train(one: Engine, steps: range, names: tuple[str, ...] = ("a", "b")) -> None:
    for step in steps:
        y: dict[str, Any] = {"a": [0, 1, 0], "b": ["x", "y", "z"]}
        chosen = names if step % 3 == 0 else names[:1]
        one.observe(None, blobs([0, 1, 2], step), {task_: y[task_] for task_ in chosen})
