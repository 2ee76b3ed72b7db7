"""The accuracy matrix and its numbers against hand-made scores, and hold-outs that do not depend on batching."""

from __future__ import annotations

import numpy as np
import pytest

from mtl_engine.evaluate import HELD_OUT_ROWS, MATRIX_ROWS, HeldOut, Matrix
from mtl_engine.registry import Registry
from mtl_engine.types import TaskSpec
from tests.support.engines import blobs, engine, task


def row(**parts: float) -> dict[str, object]:
    return {"task": "t", "phase": None, "step": 1, "scores": {}, "parts": parts}


def test_the_numbers_are_those_of_the_definitions() -> None:
    matrix = Matrix()
    matrix.add(row(a=0.9))
    matrix.add(row(a=0.95, b=0.8))
    matrix.add(row(a=0.5, b=0.7, c=0.6))
    found = matrix.report()
    assert found["average_accuracy"] == pytest.approx((0.5 + 0.7 + 0.6) / 3)
    assert found["forgetting"] == pytest.approx(((0.95 - 0.5) + (0.8 - 0.7)) / 2)
    assert found["bwt"] == pytest.approx(((0.5 - 0.9) + (0.7 - 0.8)) / 2)
    assert found["best"] == {"a": 0.95, "b": 0.8, "c": 0.6}
    assert found["min_acc"] == {"a": 0.5, "b": 0.7, "c": 0.6}


def test_a_row_for_the_present_counts_and_is_not_kept() -> None:
    matrix = Matrix()
    matrix.add(row(a=0.9))
    assert matrix.report(row(a=0.4))["forgetting"] == pytest.approx(0.5)
    assert len(matrix.rows) == 1
    assert matrix.report()["forgetting"] is None


def test_the_matrix_keeps_a_bounded_number_of_rows() -> None:
    matrix = Matrix()
    for k in range(MATRIX_ROWS + 10):
        matrix.add(row(a=float(k)))
    assert len(matrix.rows) == MATRIX_ROWS
    assert matrix.rows[-1]["parts"]["a"] == MATRIX_ROWS + 9


def test_scores_that_an_earlier_version_saved_as_no_numbers_are_left_out() -> None:
    nan, matrix = float("nan"), Matrix()
    old = [row(a=0.9, b=-float("inf")), row(a=0.5, b=0.7)]
    matrix.load_state([{**line, "scores": {"a": nan, "b": 0.5}} for line in old])
    found = matrix.report()
    assert [line["scores"] for line in found["rows"]] == [{"a": None, "b": 0.5}] * 2
    assert [line["parts"] for line in found["rows"]] == [{"a": 0.9}, {"a": 0.5, "b": 0.7}]
    assert found["forgetting"] == pytest.approx(0.4)


def held(cuts: list[int]) -> HeldOut:
    """Hold-outs of 2,000 rows of four classes that came in events cut at `cuts`."""
    registry = Registry(None, 16)
    registry.add(TaskSpec("a", modality="embedding"))
    found = HeldOut(registry, 1)
    y = np.random.default_rng(2).choice(4, 2000, p=[0.7, 0.25, 0.04, 0.01])
    x = blobs(y.tolist(), 3)
    for start, stop in zip([0, *cuts], [*cuts, 2000], strict=True):
        found.keep(registry.prepare("a", x[start:stop], y[start:stop], None, None), 0)
    return found


def test_hold_outs_do_not_depend_on_how_rows_were_cut_into_events() -> None:
    one, other = held([]).rows("a"), held([1, 7, 500, 1999]).rows("a")
    assert np.array_equal(one[0].x, other[0].x)
    assert np.array_equal(one[1].y, other[1].y)


def test_hold_outs_are_bounded_and_no_class_crowds_out_another() -> None:
    _, target, _ = held([100]).rows("a")
    counts = np.bincount(target.y)
    assert len(target.y) <= HELD_OUT_ROWS
    assert counts.min() >= 10
    assert counts.max() <= HELD_OUT_ROWS // 4


def test_phases_of_one_task_are_scored_apart() -> None:
    one = engine("finetune")
    one.add_task(task("a"))
    for phase, classes in (("first", [0, 1]), ("second", [2, 3])):
        one.switch_task("a", phase)
        for step in range(20):
            one.observe("a", blobs(classes * 4, step), classes * 4)
        one.hold_out("a", blobs(classes * 10, 99), classes * 10)
    found = one.matrix()
    assert [line["phase"] for line in found["rows"]] == ["first", "second"]
    assert found["rows"][0]["parts"] == {"a/first": 1.0}
    assert found["rows"][1]["parts"] == {"a/first": 0.0, "a/second": 1.0}
    assert found["average_accuracy"] == 0.5
    assert found["forgetting"] == 1.0
    assert found["bwt"] == -1.0
