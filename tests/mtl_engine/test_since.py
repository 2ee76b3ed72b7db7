"""When the model last changed: what counts as a change, what follows from it, and that a state tells it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from mtl_engine.average import Average
from mtl_engine.calibration import AS_TRAINED, Calibration
from mtl_engine.engine import Engine
from mtl_engine.strategies.base import Step
from mtl_engine.strategies.dark_er import DarkER
from mtl_engine.strategies.loss import Loss
from mtl_engine.tasks.classification import Classification
from mtl_engine.types import TaskSpec

COLUMNS = 3


def made(**settings: Any) -> Engine:
    engine = Engine(trunk={"width": 8, "depth": 1}, replay_batch=4, **settings)
    engine.add_task(TaskSpec("a", modality="table"))
    return engine


def learn(engine: Engine, steps: int, task: str = "a", classes: tuple[int, ...] = (0, 1)) -> None:
    draw = np.random.default_rng(engine.step_count)
    for _ in range(steps):
        y = np.resize(classes, 4)
        engine.observe(task, draw.normal(size=(4, COLUMNS)).astype(np.float32) + y[:, None], y)


def since(engine: Engine) -> int:
    return engine.state_dict().meta["since"]


def test_new_columns_new_heads_and_new_phases_are_changes_and_nothing_else_is() -> None:
    engine = made()
    learn(engine, 5)
    assert since(engine) == 0
    learn(engine, 3, classes=(0, 1, 2))
    assert since(engine) == 5, "a class more"
    engine.add_task(TaskSpec("b", modality="table"))
    assert since(engine) == 5, "a task that nobody has rows of is not in the model yet"
    learn(engine, 3, task="b")
    assert since(engine) == 8, "a head more"
    engine.switch_task("a", "next")
    learn(engine, 2)
    assert since(engine) == 11, "another phase"
    engine.remove_task("b")
    learn(engine, 2)
    assert since(engine) == 11, "less of a model is no change of what is left"


def test_strategy_and_average_are_told_how_many_steps_ago_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ages: list[int] = []
    averaged: list[int] = []
    losses, update = DarkER.losses, Average.update

    def told(self: DarkER, step: Step) -> dict[str, Loss]:
        ages.append(step.age)
        return losses(self, step)

    def followed(self: Average, step: int, age: int) -> None:
        averaged.append(age)
        update(self, step, age)

    monkeypatch.setattr(DarkER, "losses", told)
    monkeypatch.setattr(Average, "update", followed)
    engine = made()
    learn(engine, 3)
    learn(engine, 2, classes=(0, 1, 2))
    engine.switch_task("a", "next")
    learn(engine, 2)
    assert ages == averaged == [1, 2, 3, 1, 2, 1, 2]


def test_probabilities_are_fitted_from_what_the_strategy_takes_over_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lacking: list[float] = []

    def fitted(_: Classification, z_HC: object, target: object, lacks: float) -> Calibration:
        lacking.append(lacks)
        return AS_TRAINED

    monkeypatch.setattr(Classification, "calibrated", fitted)
    engine = made(strategy={"name": "dark_er", "adjust": 2.0, "early": 0.0})
    learn(engine, 100)
    engine.predict_proba("a", np.zeros((1, COLUMNS), np.float32))
    engine.switch_task("a", "next")
    engine.predict_proba("a", np.zeros((1, COLUMNS), np.float32))
    assert lacking == [1.0, 0.5]


def test_a_state_tells_when_it_was_with_raw_weights_too() -> None:
    for weights in ("chosen", "raw"):
        engine = made(weights=weights)
        learn(engine, 4)
        learn(engine, 4, classes=(0, 1, 2))
        again = made(weights=weights)
        again.load_state_dict(copy.deepcopy(engine.state_dict()))
        assert since(again) == since(engine) == 4
        learn(engine, 3)
        learn(again, 3)
        x = np.zeros((2, COLUMNS), np.float32)
        assert (engine.predict_proba("a", x)[0] == again.predict_proba("a", x)[0]).all()


def test_a_state_of_before_goes_on_with_an_average_as_slow_as_that_of_its_youngest_parameter() -> (
    None
):
    engine = made()
    learn(engine, 4)
    state = copy.deepcopy(engine.state_dict())
    del state.meta["since"]
    state.meta["step_count"] = 5_000
    ages = dict.fromkeys((name for name in state.tensors if name.startswith("average.")), 0)
    state.meta["average"] = {"born": {**ages, "head": 4_550}}
    again = made()
    again.load_state_dict(state)
    n = 5_000 - since(again)
    assert (3 + n) / (7 + n) == pytest.approx((1 + 450) / (10 + 450), abs=1e-3)


def test_a_state_that_knew_it_of_its_average_keeps_it() -> None:
    engine = made()
    learn(engine, 4)
    learn(engine, 4, classes=(0, 1, 2))
    state = copy.deepcopy(engine.state_dict())
    state.meta["average"] = {"since": state.meta.pop("since")}
    again = made()
    again.load_state_dict(state)
    assert since(again) == 4
