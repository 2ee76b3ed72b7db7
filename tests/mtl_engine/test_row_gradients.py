"""Gradients row by row: of every encoder and kind, what autograd says about that row alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mtl_engine.row_gradients import row_gradients
from mtl_engine.types import TaskSpec
from tests.support.engines import blobs, engine, parts, task

if TYPE_CHECKING:
    from mtl_engine.engine import Engine

INPUTS: dict[str, TaskSpec] = {
    "dense": TaskSpec("t", modality="image", encoder="mlp"),
    "convolutions": TaskSpec("t", modality="image", encoder="cnn"),
    "text": TaskSpec("t", modality="text"),
    "categories": TaskSpec("t", modality="table", encoder={"name": "table", "categorical": [0]}),
}


def filled(spec: TaskSpec) -> Engine:
    """An engine with some steps behind it and 24 rows of three classes in memory."""
    one = engine("er")
    one.add_task(spec)
    for step in range(6):
        draw = np.random.default_rng(step)
        x: Any = draw.integers(0, 4, (6, 3)).astype(np.float32)
        if spec.modality == "image":
            x = draw.integers(0, 256, (6, 8, 8)).astype(np.uint8)
        elif spec.modality == "text":
            x = [f"text {draw.integers(20)}" for _ in range(6)]
        one.observe("t", x, [0, 1, 2, 0, 1, 2])
    return one


def gradients(one: Engine, most: int) -> list[dict[str, Tensor]]:
    trainer = parts(one)
    step = trainer.step_count
    return [
        dict(g) for g in row_gradients(trainer.model, trainer.registry, trainer.replay, step, most)
    ]


def brute_force(one: Engine) -> list[dict[str, Tensor]]:
    """One row after the other through the whole model, from what lies in the table."""
    model, [table] = parts(one).model, parts(one).replay.tables.values()
    found: list[dict[str, Tensor]] = []
    for slot in table.slots.used():
        assert table.x is not None
        length = None if table.length_M is None else torch.tensor([table.length_M[slot]])
        model.zero_grad()
        z_1C = model("t", table.x[slot : slot + 1], length)
        y = torch.tensor([int(table.targets["t"].y[slot])])
        (-functional.log_softmax(z_1C, 1)[0, y]).sum().backward()
        found.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    return found


@pytest.mark.parametrize("named", [*INPUTS])
def test_they_are_those_of_a_loop_over_single_rows(named: str) -> None:
    one = filled(INPUTS[named])
    mine, wanted = gradients(one, 100), brute_force(one)
    assert len(mine) == len(wanted) == 24
    for a, b in zip(mine, wanted, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-6)


def test_squares_of_a_dense_layer_are_the_closed_form() -> None:
    """sum over rows of (dloss/dW)^2 = (delta^2)^T x^2, where delta is dloss/dz of a row."""
    one = filled(INPUTS["dense"])
    model, [table] = parts(one).model, parts(one).replay.tables.values()
    found = sum((g["heads.task:t.weight"].square() for g in gradients(one, 100)), torch.zeros(1))
    slot_N = table.slots.used()
    assert table.x is not None
    with torch.no_grad():
        f_ND = model.trunk(model.encode(table.name, table.x[torch.from_numpy(slot_N)], None))
        y_N = torch.from_numpy(table.targets["t"].y[slot_N]).long()
        delta_NC = torch.softmax(model.z("t", f_ND), 1) - functional.one_hot(y_N, 3)
    torch.testing.assert_close(found, delta_NC.square().T @ f_ND.square(), rtol=1e-4, atol=1e-6)


def test_no_more_rows_than_asked_for_and_never_one_twice() -> None:
    one = filled(INPUTS["categories"])
    some, every = gradients(one, 7), gradients(one, 100)
    assert len(some) == 7
    places = [
        next(k for k, b in enumerate(every) if all(torch.equal(a[n], b[n]) for n in a))
        for a in some
    ]
    assert len(set(places)) == len(places)
    again = gradients(one, 7)
    assert all(torch.equal(a[n], b[n]) for a, b in zip(some, again, strict=True) for n in a)


def test_a_row_reaches_the_heads_it_has_labels_of_and_no_frozen_one() -> None:
    one = engine("er")
    for name, kind in (("a", "classification"), ("b", "regression"), ("c", "multilabel")):
        one.add_task(task(name, kind))
    one.observe("c", blobs([0]), [[1, 0]])
    both = {"a": [0, 1], "b": [[1.0, 2.0], [0.0, 1.0]]}
    one.observe(None, blobs([0, 1]), both, mask={"b": [1, 0]})
    heads = [
        sorted(n for n in g if n.endswith("weight") and "heads" in n) for g in gradients(one, 9)
    ]
    a, b, c = (f"heads.task:{name}.weight" for name in "abc")
    assert sorted(heads) == [[a], [a, b], [c]]
    one.freeze_task("a")
    assert sum(a in g for g in gradients(one, 9)) == 0
    assert sum("trunk.norms.0.weight" in g for g in gradients(one, 9)) == 3


def test_an_empty_memory_has_none() -> None:
    one = engine("er", buffer_rows=0)
    one.add_task(task("a"))
    one.observe("a", blobs([0, 1]), [0, 1])
    assert gradients(one, 5) == []
