"""The projection of A-GEM inside a step: its reference is the replayed rows' gradient, and nothing points against it after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtl_engine.backprop import AutogradPass, HandPass
from mtl_engine.strategies.agem import AGEM
from mtl_engine.types import TaskSpec
from tests.support.engines import blobs, engine, labels_of, parts, task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mtl_engine.engine import Engine

Named = dict[str, Tensor]


class Watched(AGEM):
    """Writes down what it was given and what became of it."""

    def __init__(self) -> None:
        self.seen: list[tuple[Named, Named, Named]] = []  # gradient, reference, projected gradient

    def correct(
        self, parameters: Mapping[str, nn.Parameter], reference: Mapping[str, Tensor]
    ) -> None:
        before = _gradients(parameters)
        given = {name: r.clone() for name, r in reference.items()}
        super().correct(parameters, reference)
        self.seen.append((before, given, _gradients(parameters)))


def _gradients(parameters: Mapping[str, nn.Parameter]) -> Named:
    return {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}


def dot(a: Named, b: Named) -> float:
    return sum(float((a[n].double() * b[n].double()).sum()) for n in a.keys() & b.keys())


def watched(one: Engine) -> Watched:
    found = Watched()
    parts(one).strategy = found
    return found


def conflicting(one: Engine) -> None:
    """Rows whose labels contradict those of the rows in memory."""
    one.add_task(task("a"))
    for step in range(20):
        y = [0, 1, 2, 0, 1, 2]
        one.observe("a", blobs(y, step), y if step < 8 else [1, 2, 0, 1, 2, 0])


@pytest.mark.parametrize("way", [HandPass, AutogradPass])
def test_after_it_no_gradient_is_opposed_to_that_of_the_replayed_rows(
    way: type[HandPass | AutogradPass],
) -> None:
    one = engine("agem")
    parts(one).make_pass = way
    strategy = watched(one)
    conflicting(one)
    opposed = 0
    for before, reference, after in strategy.seen[1:]:
        size = dot(reference, reference)
        assert size > 0
        assert dot(after, reference) >= -1e-6 * size
        if dot(before, reference) < 0:
            opposed += 1
            c = dot(before, reference) / size
            for name, r in reference.items():
                wanted = before.get(name, torch.zeros_like(r)) - c * r
                torch.testing.assert_close(after[name], wanted, rtol=1e-4, atol=1e-6)
        else:
            assert all(torch.equal(after[name], before[name]) for name in before)
    assert 3 < opposed < 19


def test_before_anything_is_replayed_the_gradient_is_that_of_the_stream() -> None:
    one = engine("agem")
    strategy = watched(one)
    one.add_task(task("a"))
    one.observe("a", blobs([0, 1]), [0, 1])
    [(before, reference, after)] = strategy.seen
    assert reference == {}
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_head_that_only_replayed_rows_reach_takes_part() -> None:
    """Its part of g is zero, and the projection over all parameters moves it along r."""
    one = engine("agem", replay_batch=12)
    strategy = watched(one)
    one.add_task(task("a"))
    one.add_task(task("b"))
    for step in range(6):
        one.observe("a", blobs([0, 1, 2], step), [0, 1, 2])
    for step in range(6):
        one.observe("b", blobs([0, 1, 2], step), [step % 2, 1, 1])
    alone = [
        (before, reference, after)
        for before, reference, after in strategy.seen
        if "heads.task:a.weight" in reference and "heads.task:a.weight" not in before
    ]
    assert alone
    for before, reference, after in alone:
        c = min(dot(before, reference) / dot(reference, reference), 0.0)
        wanted = -c * reference["heads.task:a.weight"]
        torch.testing.assert_close(after["heads.task:a.weight"], wanted, rtol=1e-4, atol=1e-7)


ROWS: dict[str, TaskSpec] = {
    "dense": TaskSpec("t", modality="image", encoder="mlp"),
    "convolutions": TaskSpec("t", modality="image", encoder="cnn"),
    "text": TaskSpec("t", modality="text"),
    "categories": TaskSpec("t", modality="table", encoder={"name": "table", "categorical": [0]}),
    "regression": TaskSpec("t", modality="table", kind="regression", targets=2),
    "multilabel": TaskSpec("t", modality="table", kind="multilabel", targets=2),
}


def rows_of(spec: TaskSpec, step: int) -> tuple[object, object]:
    draw = np.random.default_rng(step)
    y = labels_of(spec.kind, 6, step)
    if spec.modality == "image":
        return draw.integers(0, 256, (6, 8, 8)).astype(np.uint8), y
    if spec.modality == "text":
        return [f"text {draw.integers(20)}" for _ in range(6)], y
    return draw.integers(0, 4, (6, 3)).astype(np.float32), y


@pytest.mark.parametrize("named", [*ROWS])
def test_both_gradients_are_those_that_autograd_finds(named: str) -> None:
    """The reference is taken first; neither leaves anything behind in the other."""
    found: list[Watched] = []
    for way in (HandPass, AutogradPass):
        one = engine("agem")
        parts(one).make_pass = way
        found.append(watched(one))
        one.add_task(ROWS[named])
        for step in range(4):
            one.observe("t", *rows_of(ROWS[named], step))
    for mine, theirs in zip(found[0].seen, found[1].seen, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert a.keys() == b.keys()
            for name in a:
                torch.testing.assert_close(a[name], b[name], rtol=2e-3, atol=2e-5)
    assert found[0].seen[-1][1]
