"""Every strategy's loss on one hand-made step against its formula, written out in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from mtl_engine.components import build
from mtl_engine.strategies import STRATEGIES
from mtl_engine.strategies.base import Step, Stored, TaskStep
from mtl_engine.strategies.loss import Loss
from mtl_engine.tasks.classification import Classification
from mtl_engine.types import Target, TaskSpec

DRAW = np.random.default_rng(4)
Z = DRAW.normal(size=(5, 4))  # 3 stream rows, 2 replayed ones, 4 classes
Y = np.array([2, 3, 2, 0, 1])
STORED = DRAW.normal(size=(2, 4))
TEACHER = DRAW.normal(size=(5, 2))
AVERAGED = DRAW.normal(size=(2, 4))


def step_of(*, memory: bool = True, z: np.ndarray = Z, age: int = 0) -> Step:
    rows = 5 if memory else 3
    kind = Classification(TaskSpec("a", classes=tuple("abcde")[:4]))
    kind.observe(Target(np.array([0, 1, 2], np.int32)))  # class 3 was never in a stream row before
    valid = torch.tensor([[True, True, False, False], [True, True, True, True]])
    step = TaskStep(
        name="a",
        kind=kind,
        z_BC=torch.tensor(z[:rows], dtype=torch.float32),
        y=torch.from_numpy(Y[:rows]),
        weight=None,
        num_stream=3,
        stream_y=Y[:3],
        memory_y=Y[3:rows],
        stored=Stored(torch.tensor(STORED, dtype=torch.float32), valid.float(), 6)
        if memory
        else None,
        teacher=lambda: torch.tensor(TEACHER[:rows], dtype=torch.float32),
        averaged=lambda: torch.tensor(AVERAGED, dtype=torch.float32),
    )
    return Step({"a": step}, age)


def loss(spec: Any, *, memory: bool = True) -> float:
    made = build(STRATEGIES, spec, "strategy")
    return float(loss_of(made.losses(step_of(memory=memory))).value)


def loss_of(losses: Mapping[str, Any]) -> Loss:
    assert isinstance(losses["a"], Loss)
    return losses["a"]


def log_softmax(z: np.ndarray) -> np.ndarray:
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def ce(rows: slice, shift: np.ndarray | float = 0.0) -> float:
    z = log_softmax(Z[rows] + shift)
    return float(-z[np.arange(len(z)), Y[rows]].mean())


def kl(rows: slice, t: float) -> float:
    p, q = log_softmax(TEACHER[rows] / t), log_softmax(Z[rows][:, :2] / t)
    return float(t**2 * (np.exp(p) * (p - q)).sum(1).mean())


S, M, ALL = slice(0, 3), slice(3, 5), slice(0, 5)
COUNTS = np.bincount(Y, minlength=4) + 0.5
PRIOR = np.log(COUNTS / COUNTS.sum())
DIFFERENCES = np.concatenate([Z[3, :2] - STORED[0, :2], Z[4] - STORED[1]])
MSE = ((Z[3, :2] - STORED[0, :2]) ** 2).sum() + ((Z[4] - STORED[1]) ** 2).sum()


def huber(bound: float) -> float:
    """Sum over the entries that were stored; both of its branches are used here."""
    far = np.abs(DIFFERENCES) > bound
    assert 0 < far.sum() < far.size
    return float(np.where(far, 2 * bound * np.abs(DIFFERENCES) - bound**2, DIFFERENCES**2).sum())


FORMULAS: list[tuple[Any, float]] = [
    ("finetune", ce(ALL)),
    ("er", ce(ALL, PRIOR)),
    ({"name": "er", "adjust": 0.0}, ce(ALL)),
    ({"name": "er", "adjust": 0.7}, ce(ALL, 0.7 * PRIOR)),
    ("er_ace", ce(S, np.array([-1e9, -1e9, 0, 0])) + ce(M)),
    ({"name": "derpp", "alpha": 0.3, "beta": 0.6}, ce(S) + 0.3 * MSE / 6 + 0.6 * ce(M)),
    ({"name": "derpp", "alpha": 0, "beta": 1, "adjust": 1}, ce(S, PRIOR) + ce(M, PRIOR)),
    ({"name": "der", "alpha": 0.3}, ce(S) + 0.3 * MSE / 6),
    ({"name": "ema", "strength": 0.3}, ce(ALL) + 0.3 * ((Z[3:] - AVERAGED) ** 2).mean()),
    ({"name": "ema", "strength": 0, "adjust": 0.7}, ce(ALL, 0.7 * PRIOR)),
    ("ewc", ce(ALL)),
    ("agem", ce(S)),
    ("gdumb", ce(M)),
    (
        {"name": "dark_er", "alpha": 0.3, "bound": 0.5, "adjust": 0.7},
        ce(ALL, 0.7 * PRIOR) + 0.3 * huber(0.5) / 5,
    ),
    ({"name": "lwf", "strength": 0.4, "temperature": 3.0}, ce(ALL) + 0.4 * kl(ALL, 3.0)),
    ({"name": "snapshot", "strength": 2, "temperature": 2}, ce(ALL) + 2 * kl(ALL, 2.0)),
]


@pytest.mark.parametrize(("spec", "wanted"), FORMULAS)
def test_the_loss_is_the_formula_in_the_docstring(spec: Any, wanted: float) -> None:
    assert loss(spec) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("spec", [spec for spec, _ in FORMULAS])
def test_the_gradient_of_a_loss_is_how_it_changes_with_the_outputs(spec: Any) -> None:
    made, h = build(STRATEGIES, spec, "strategy"), 0.02
    found = loss_of(made.losses(step_of()))
    gradient = np.zeros_like(Z)
    for one in found.terms:
        g = one.g_BC.numpy()
        gradient[one.start : one.start + len(g), : g.shape[1]] += one.factor * g
    numeric = np.zeros_like(Z)
    for at in np.ndindex(*Z.shape):
        moved = np.zeros_like(Z)
        moved[at] = h
        up, down = (loss_of(made.losses(step_of(z=Z + d))).value for d in (moved, -moved))
        numeric[at] = float(up - down) / (2 * h)
    np.testing.assert_allclose(gradient, numeric, atol=5e-4)


def test_the_reference_of_agem_is_the_loss_of_the_replayed_rows() -> None:
    made = build(STRATEGIES, "agem", "strategy")
    assert float(loss_of(made.references(step_of())).value) == pytest.approx(ce(M), rel=1e-5)
    assert made.references(step_of(memory=False)) == {}


def test_gdumb_has_no_loss_where_nothing_is_replayed() -> None:
    assert build(STRATEGIES, "gdumb", "strategy").losses(step_of(memory=False)) == {}


@pytest.mark.parametrize("name", ["er", "er_ace", "derpp", "der", "ema", "agem"])
def test_without_replayed_rows_only_the_stream_counts(name: str) -> None:
    log_count = np.log(np.bincount(Y[S], minlength=4) + 0.5)
    shift = {"er_ace": np.array([-1e9, -1e9, 0, 0]), "er": log_count}.get(name, 0.0)
    assert loss(name, memory=False) == pytest.approx(ce(S, shift), rel=1e-5)


@pytest.mark.parametrize(("age", "strength"), [(0, 0.6), (100, 1.0), (300, 1.2), (10**6, 1.4)])
def test_dark_er_takes_over_less_of_the_shares_while_something_is_new(
    age: int, strength: float
) -> None:
    made = build(
        STRATEGIES, {"name": "dark_er", "alpha": 0, "adjust": 1.4, "early": 0.6}, "strategy"
    )
    found = float(loss_of(made.losses(step_of(age=age))).value)
    assert found == pytest.approx(ce(ALL, strength * PRIOR), rel=1e-5)
    assert made.adjust_at(age) == pytest.approx(strength, abs=0.005)
