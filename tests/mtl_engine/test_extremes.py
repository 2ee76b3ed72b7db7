"""Rows that are finite and absurd: the model stays finite, and one glitch does not spoil a column for good."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtl_engine import running
from mtl_engine.engine import Engine
from mtl_engine.errors import BadRows
from mtl_engine.types import LARGEST, TaskSpec

SHAPES = {"image": (6, 6), "table": (4,), "embedding": (4,)}
KINDS = ("classification", "regression", "multilabel")


def engine(modality: str, kind: str) -> Engine:
    made = Engine(trunk={"width": 8, "depth": 2}, buffer_rows=20, replay_batch=4, num_threads=1)
    targets = 3 if kind == "multilabel" else 1
    made.add_task(TaskSpec("t", modality, kind, targets=targets))
    return made


def rows(modality: str, kind: str, scale: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = (draw.normal(size=(8, *SHAPES[modality])) * scale).astype(np.float32)
    y = {
        "classification": draw.integers(0, 3, 8),
        "regression": draw.normal(size=(8, 1)).astype(np.float32) * scale,
        "multilabel": draw.integers(0, 2, (8, 3)).astype(np.uint8),
    }[kind]
    return x, y


@pytest.mark.parametrize("scale", [1e6, 1e12, 1e17])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modality", SHAPES)
def test_huge_finite_rows_leave_everything_finite_and_trainable(
    modality: str, kind: str, scale: float
) -> None:
    learner = engine(modality, kind)
    for step in range(4):
        learner.observe("t", *rows(modality, kind, 1.0, step))
    learner.observe("t", *rows(modality, kind, scale, 9))
    tensors = learner.state_dict().tensors.values()
    assert all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point())
    report = learner.observe("t", *rows(modality, kind, 1.0, 10))
    assert np.isfinite(report.loss)
    assert not report.skipped


def test_gradients_longer_than_the_limit_are_shortened_and_others_left_alone() -> None:
    x, y = rows("embedding", "classification", 1e4, 0)
    free = Engine(strategy="finetune", weights="raw", clip_norm=0.0, num_threads=1)
    near = Engine(strategy="finetune", weights="raw", clip_norm=1e-3, num_threads=1)
    wide = Engine(strategy="finetune", weights="raw", clip_norm=1e9, num_threads=1)
    before, moved = {}, {}
    for name, learner in {"free": free, "near": near, "wide": wide}.items():
        learner.add_task(TaskSpec("t", "embedding"))
        learner.prepare("t", x, y)
        learner.observe("t", x[:1], y[:1])
        before[name] = learner.state_dict().tensors["model.trunk.linears.0.weight"].clone()
        learner.observe("t", x, y)
        moved[name] = learner.state_dict().tensors["model.trunk.linears.0.weight"] - before[name]
    assert torch.equal(moved["free"], moved["wide"])
    assert (
        0 < moved["near"].norm() <= 0.1 * 1e-3 * 1.01
    )  # the largest learning rate in use times the limit


def test_numbers_beyond_the_limit_are_refused_with_a_reason() -> None:
    learner = engine("table", "regression")
    x, y = rows("table", "regression", 1.0, 0)
    with pytest.raises(BadRows, match="beyond 1e") as refused:
        learner.prepare("t", x * np.float32(2 * LARGEST), y)
    assert refused.value.reason == "infinite_input"
    with pytest.raises(BadRows, match="beyond 1e"):
        learner.prepare("t", x, y * np.float32(100 * LARGEST))


def test_one_glitch_moves_settled_statistics_by_less_than_a_deviation() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, (2000, 1))
    settled = running.updated(np.zeros((3, 1)), values, np.ones((2000, 1), np.bool_))
    after = running.updated(settled, np.array([[1e15]]), np.ones((1, 1), np.bool_))
    assert abs(after[1, 0] - settled[1, 0]) < running.deviation(settled)[0]
    assert running.deviation(after)[0] < 2 * running.deviation(settled)[0]


def test_a_real_change_of_scale_still_gets_through() -> None:
    draw = np.random.default_rng(0)
    stats = np.zeros((3, 1))
    for scale in (1.0, 1000.0):
        for _ in range(100):
            rows_ = draw.normal(0.0, scale, (32, 1))
            stats = running.updated(stats, rows_, np.ones((32, 1), np.bool_))
    assert running.deviation(stats)[0] > 300.0
