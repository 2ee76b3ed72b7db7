"""The numbers of the literature, against a matrix small enough to work out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scoring import Curve, Examiner, numbers, untrained
from training import turns
from workloads.base import Phase, Workload

from mtl_engine.engine import Engine
from mtl_engine.types import TaskSpec
from tests.support import small_workloads as small

MATRIX = np.array([[90.0, 10.0, np.nan], [70.0, 80.0, 20.0], [75.0, 50.0, 60.0]])


def test_the_numbers_are_those_of_their_formulas() -> None:
    curve = Curve(
        step=[5, 10, 15, 20, 25, 30],
        accuracy=[[20, None, None], [90, None, None], [30, 50, None], [70, 80, None], [65, 40, 5], [75, 50, 61]],
        ends=[10, 20, 30],
    )  # fmt: skip
    found = numbers(MATRIX, [10.0, 5.0], curve)
    assert found["accuracy"] == pytest.approx((75 + 50 + 60) / 3)
    assert found["forgetting"] == pytest.approx((15 + 30) / 2)
    assert found["bwt"] == pytest.approx((-15 - 30) / 2)
    assert found["fwt"] == pytest.approx((0 + 15) / 2)
    assert found["min_acc"] == pytest.approx(
        (30 + 40) / 2
    )  # 20 and 50 were before their phases' ends
    assert found["wc_acc"] == pytest.approx(61 / 3 + 2 / 3 * 35)


def test_forgetting_is_from_the_best_score_before_the_end_and_may_be_negative() -> None:
    matrix = np.array([[50.0, 0.0, 0.0], [80.0, 40.0, 0.0], [60.0, 45.0, 90.0]])
    curve = Curve([1, 2, 3], [[50, None, None], [80, 40, None], [60, 45, 90]], [1, 2, 3])
    assert numbers(matrix, [0.0, 0.0], curve)["forgetting"] == pytest.approx((20 - 5) / 2)


def test_one_phase_has_an_accuracy_and_nothing_to_forget() -> None:
    found = numbers(np.array([[np.nan, np.nan], [80.0, 90.0]]), [], Curve([4], [[80, 90]], [4]))
    assert found.pop("accuracy") == 85.0
    assert set(found.values()) == {None}


def test_a_head_without_columns_and_classes_without_one_score_nothing() -> None:
    workload = small.split()
    engine, examiner = Engine(**workload.engine), Examiner(workload)
    stream = turns(engine, workload, 0)
    first = next(stream)
    assert examiner.whole(engine, 0) == 0.0
    first.train()
    assert examiner.whole(engine, 0) > 0.0
    assert examiner.whole(engine, 1) == 0.0


@pytest.mark.parametrize(("tell", "score"), [(1.0, 90.0), (-1.0, 0.0)])
def test_numbers_are_scored_by_r2_and_never_below_nothing(tell: float, score: float) -> None:
    x = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    y = x.sum(1)
    spec = TaskSpec("sum", modality="table", kind="regression")
    workload = Workload((spec,), (Phase("sum", "sum", x, y, x, tell * y),), every=5)
    engine = Engine(trunk={"width": 32, "depth": 1}, num_threads=1)
    for turn in turns(engine, workload, 0):
        turn.train()
    for _ in range(100):
        engine.observe("sum", x[:64], y[:64])
    found = Examiner(workload).whole(engine, 0)
    assert found == 0.0 if score == 0.0 else score < found <= 100.0


def test_an_untrained_net_answers_by_chance_what_it_has_columns_for() -> None:
    assert untrained(small.split(), small.ENGINE) == [0.0] * 4
    (chance,) = untrained(small.permuted(), small.ENGINE)
    assert 0.0 < chance < 40.0


def test_scoring_changes_nothing_of_the_engine() -> None:
    workload = small.split()
    ends: list[dict[str, np.ndarray]] = []
    for scored in (False, True):
        engine, examiner = Engine(**workload.engine), Examiner(workload)
        for turn in turns(engine, workload, 0):
            turn.train()
            if scored:
                examiner.part(engine, turn.phase)
        ends.append({k: v.numpy().copy() for k, v in engine.state_dict().tensors.items()})
    assert ends[0].keys() == ends[1].keys()
    assert all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0])
