"""Gradients by hand are those of autograd, for every strategy, task kind and encoder."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mtl_engine.backprop import AutogradPass
from mtl_engine.engine import Engine
from mtl_engine.errors import EngineError
from mtl_engine.strategies import STRATEGIES
from mtl_engine.strategies.base import Step, TaskStep
from mtl_engine.strategies.er import ER
from mtl_engine.strategies.loss import Loss
from mtl_engine.types import Array, TaskSpec
from tests.support.engines import blobs, engine, labels_of, parts, task

STEPS = 25


def by_autograd(one: Engine) -> Engine:
    parts(one).make_pass = AutogradPass
    return one


def weights(one: Engine) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in parts(one).model.named_parameters()}


def same(one: Engine, other: Engine) -> None:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=2e-4, atol=2e-5, msg=name)


def several(one: Engine) -> Engine:
    """Tasks of every kind on one input, then steps on single tasks, on two at once, on partly labelled and weighted rows."""
    for name, kind in (("a", "classification"), ("b", "multilabel"), ("c", "regression")):
        one.add_task(task(name, kind))
    kinds = {"a": "classification", "b": "multilabel", "c": "regression"}
    for number in range(STEPS):
        x = blobs([number % 3, 1, 2, 0, 1, 2], number)
        if number == 12:
            one.switch_task("b")
        name = "abc"[number % 3]
        if number % 5 == 4:
            y = {each: labels_of(kinds[each], 6, number) for each in ("a", "c")}
            one.observe(None, x, y, mask={"a": [1, 0, 1, 1, 0, 1]})
        elif number % 5 == 3:
            one.observe(name, x, labels_of(kinds[name], 6, number), weight=[1, 2, 0.5, 1, 1, 3])
        else:
            one.observe(name, x, labels_of(kinds[name], 6, number))
    return one


def pictures(draw: np.random.Generator) -> tuple[Array, Array]:
    """32 images of 28x28 bytes, of ten classes, and their labels."""
    means = np.random.default_rng(7).integers(0, 200, (10, 28, 28))
    y = draw.integers(0, 10, 32)
    return (means[y] + draw.integers(0, 56, (32, 28, 28))).astype(np.uint8), y


def images(one: Engine, steps: int) -> Engine:
    """Steps on `pictures`."""
    one.add_task(TaskSpec("t", modality="image", encoder="mlp"))
    draw = np.random.default_rng(8)
    for _ in range(steps):
        one.observe("t", *pictures(draw))
    return one


def distance(one: Engine, other: Engine) -> float:
    """The greatest |difference| / |weights| of any parameter."""
    mine, theirs = weights(one), weights(other)
    return max(float((mine[n] - theirs[n]).norm() / theirs[n].norm()) for n in mine)


def test_a_hundred_steps_by_hand_end_where_autograd_and_stored_gradients_do() -> None:
    trunk = {"width": 256, "depth": 2, "norm": "none"}
    settings: dict[str, Any] = {"trunk": trunk, "buffer_rows": 200, "replay_batch": 32}
    one, other = engine("er", **settings), by_autograd(engine("er", **settings))
    assert distance(images(one, 100), images(other, 100)) <= 1e-5


@pytest.mark.parametrize("strategy", ["er", "default", "snapshot"])
def test_mixed_precision_learns_in_parameters_of_float32(strategy: str) -> None:
    settings: dict[str, Any] = {"precision": "bf16", "teacher_every": 10}
    mixed, whole = images(engine(strategy, **settings), 100), images(engine(strategy), 100)
    assert {value.dtype for value in weights(mixed).values()} == {torch.float32}
    assert distance(mixed, whole) > 1e-4, "everything was computed in float32"
    x, y = pictures(np.random.default_rng(9))
    assert mixed.evaluate("t", x, y)["accuracy"] == whole.evaluate("t", x, y)["accuracy"] == 1


@pytest.mark.parametrize("strategy", [*STRATEGIES])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_training_by_hand_is_training_by_autograd(strategy: str, norm: str) -> None:
    trunk = {"width": 16, "depth": 3, "norm": norm}
    same(
        several(engine(strategy, trunk=trunk)), several(by_autograd(engine(strategy, trunk=trunk)))
    )


INPUTS: dict[str, tuple[TaskSpec, Any]] = {
    "mlp": (TaskSpec("t", modality="image", encoder="mlp"), np.uint8),
    "mlp of two layers": (
        TaskSpec("t", modality="image", encoder={"name": "mlp", "hidden": [12]}),
        np.uint8,
    ),
    "cnn": (TaskSpec("t", modality="image", encoder="cnn"), np.uint8),
    "table": (TaskSpec("t", modality="table"), np.float32),
    "table with categories": (
        TaskSpec("t", modality="table", encoder={"name": "table", "categorical": [1]}),
        np.float32,
    ),
    "text": (TaskSpec("t", modality="text", encoder="text"), str),
    "tfidf": (TaskSpec("t", modality="text", encoder="tfidf"), str),
}


@pytest.mark.parametrize("named", [*INPUTS])
def test_every_encoder_learns_the_same_by_hand_and_by_autograd(named: str) -> None:
    spec, dtype = INPUTS[named]

    def trained(one: Engine) -> Engine:
        one.add_task(spec)
        draw = np.random.default_rng(5)
        for _ in range(STEPS):
            y = draw.integers(0, 3, 8)
            if dtype is str:
                x: Any = [f"text {label} of {draw.integers(9)}" for label in y]
            elif spec.modality == "image":
                x = (draw.integers(0, 99, (8, 8, 8)) + 50 * y[:, None, None]).astype(np.uint8)
            else:
                x = np.stack([y + draw.normal(size=8), draw.integers(0, 4, 8)], 1).astype(
                    np.float32
                )
            one.observe("t", x, y)
        return one

    same(trained(engine("er")), trained(by_autograd(engine("er"))))


def test_a_frozen_head_still_teaches_the_trunk() -> None:
    def frozen(one: Engine) -> Engine:
        one.add_task(task("a"))
        one.observe("a", blobs([0, 1, 2]), [0, 1, 2])
        parts(one).model.freeze_head("a", frozen=True)
        for number in range(5):
            one.observe("a", blobs([0, 1, 2], number), [0, 1, 2])
        return one

    mine = frozen(engine("er"))
    head = parts(mine).model.head("a").weight.detach().clone()
    mine.observe("a", blobs([0, 1, 2]), [0, 1, 2])
    assert torch.equal(parts(mine).model.head("a").weight, head)
    same(frozen(engine("er")), frozen(by_autograd(engine("er"))))


class Shared(ER):
    """One loss that stands for two tasks."""

    def losses(self, step: Step) -> dict[str, Loss]:
        first, *others = super().losses(step).items()
        return dict.fromkeys([first[0], *(name for name, _ in others)], first[1])


def test_a_loss_that_stands_for_two_tasks_counts_for_both() -> None:
    def trained(one: Engine) -> Engine:
        parts(one).strategy = Shared()
        for name in ("a", "b"):
            one.add_task(task(name))
        for number in range(5):
            y = {"a": [0, 1, 2], "b": [2, 1, 0]}
            one.observe(None, blobs([0, 1, 2], number), y)
        return one

    same(trained(engine("er")), trained(by_autograd(engine("er"))))


class ByAutograd(ER):
    """The loss of `er` as a function of outputs: of one task alone, of the others half of it."""

    autograd: ClassVar[bool] = True

    def losses(self, step: Step) -> dict[str, Loss | Tensor]:
        return {name: self._loss(task) for name, task in step.tasks.items()}

    def _loss(self, task: TaskStep) -> Loss | Tensor:
        if task.name == "a":
            return functional.cross_entropy(task.z_BC.float(), task.y)
        return 0.5 * task.loss() + 0.5 * functional.cross_entropy(task.z_BC.float(), task.y)


class Undeclared(ByAutograd):
    autograd: ClassVar[bool] = False


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_strategy_that_needs_autograd_and_does_not_say_so_is_told(name: str) -> None:
    one = engine("er")
    parts(one).strategy = Undeclared()
    one.add_task(task(name))
    with pytest.raises(EngineError, match="autograd = True"):
        one.observe(name, blobs([0, 1, 2]), [0, 1, 2])


def test_a_strategy_may_leave_its_losses_to_autograd() -> None:
    def trained(one: Engine, strategy: ER) -> Engine:
        parts(one).strategy = strategy
        for name in ("a", "b"):
            one.add_task(task(name))
        for number in range(8):
            rows = blobs([0, 1, 2], number)
            one.observe("ab"[number % 2], rows, [0, 1, 2])
        return one

    same(trained(engine("er"), ByAutograd()), trained(engine("er"), ER()))
    same(trained(by_autograd(engine("er")), ByAutograd()), trained(engine("er"), ER()))
