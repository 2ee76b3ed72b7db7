"""The accuracy matrix and its numbers against hand-made scores, and phases of one task that are scored apart."""

from __future__ import annotations

import pytest

from mtl_engine.matrix import MATRIX_ROWS, Matrix
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


def test_phases_of_one_task_are_scored_apart() -> None:
    one = engine("finetune")
    one.add_task(task("a"))
    for phase, classes in (("first", [0, 1]), ("second", [2, 3])):
        one.switch_task("a", phase)
        for step in range(20):
            one.observe("a", blobs(classes * 4, step), classes * 4)
        one.hold_out("a", blobs(classes * 10, 99), classes * 10, kind="judge")
    found = one.matrix()
    assert [line["phase"] for line in found["rows"]] == ["first", "second"]
    assert found["rows"][0]["parts"] == {"a/first": 1.0}
    assert found["rows"][1]["parts"] == {"a/first": 0.0, "a/second": 1.0}
    assert found["average_accuracy"] == 0.5
    assert found["forgetting"] == 1.0
    assert found["bwt"] == -1.0
