"""Task specifications and rows: strict, exact through JSON and arrays, and joined without inventing labels."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mtl_engine.errors import EngineError
from mtl_engine.types import Rows, Target, TaskSpec


def test_a_specification_goes_through_json_unchanged() -> None:
    spec = TaskSpec("a", input_shape=(4, 4), classes=("x", "y"), encoder={"name": "cnn"}, share=2)
    assert TaskSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"name": "a/b"}, "letters, digits"),
        ({"name": ""}, "letters, digits"),
        ({"name": "a", "modality": "images"}, "did you mean 'image'"),
        ({"name": "a", "kind": "regresion"}, "did you mean 'regression'"),
        ({"name": "a", "targets": 0}, "from 1 to"),
        ({"name": "a", "targets": True}, "whole number"),
        ({"name": "a", "share": float("nan")}, "from 0"),
        ({"name": "a", "holdout": 1.0}, "from 0"),
        ({"name": "a", "input_shape": [4, 0]}, "input_shape"),
        ({"name": "a", "classes": [1, "a"]}, "all ints or all strings"),
        ({"name": "a", "classes": [1, 1]}, "different labels"),
        ({"name": "a", "classes": "abc"}, "list of labels"),
        ({"name": "a", "kind": "regression", "classes": [1]}, "no classes"),
        ({"name": "a", "sahre": 1}, "did you mean 'share'"),
        ({"modality": "image"}, "needs a name"),
    ],
)
def test_a_specification_that_cannot_be_is_refused(given: Any, told: str) -> None:
    with pytest.raises(EngineError, match=told):
        TaskSpec.from_dict(given)


def test_only_some_fields_can_be_changed_and_all_or_none() -> None:
    spec = TaskSpec("a")
    assert spec.changed({"share": 3.0, "tolerance": 0.2}).share == 3.0
    for changes in ({"share": 2.0, "kind": "regression"}, {"share": 2.0, "tolerance": -1.0}):
        with pytest.raises(EngineError):
            spec.changed(changes)


def rows(first: int, n: int, **targets: Target) -> Rows:
    return Rows("t", np.arange(first, first + n, dtype=np.float32)[:, None], None, targets)


def test_joined_rows_have_every_task_and_no_label_that_was_not_given() -> None:
    a = rows(0, 2, a=Target(np.array([1, 2], np.int32)))
    b = rows(2, 1, b=Target(np.ones((1, 2), np.uint8), np.array([[1.0, 0.0]], np.float32)))
    both = Rows.concat([a, b])
    assert both.x[:, 0].tolist() == [0, 1, 2]
    assert both.targets["a"].labelled().tolist() == [True, True, False]
    assert both.targets["b"].ones().tolist() == [[0, 0], [0, 0], [1, 0]]
    assert both.labelled().tolist() == [True, True, True]


def test_rows_of_one_task_stay_without_weights_when_joined() -> None:
    part = rows(0, 2, a=Target(np.array([1, 2], np.int32)))
    assert Rows.concat([part, part]).targets["a"].weight is None


def test_taken_rows_keep_their_labels() -> None:
    whole = rows(0, 4, a=Target(np.arange(4, dtype=np.int32), np.arange(4, dtype=np.float32)))
    taken = whole.take(np.array([3, 1]))
    assert taken.x[:, 0].tolist() == taken.targets["a"].y.tolist() == [3, 1]
    assert taken.targets["a"].ones().tolist() == [3, 1]


def test_rows_go_through_arrays_unchanged() -> None:
    given = Rows(
        "text",
        np.zeros((2, 8), np.uint8),
        np.array([3, 0], np.int32),
        {
            "a": Target(np.array([0, 1], np.int32)),
            "b": Target(np.ones((2, 1), np.float32), np.ones((2, 1), np.float32)),
        },
    )
    arrays, meta = given.to_arrays()
    found = Rows.from_arrays(arrays, json.loads(json.dumps(meta)))
    assert found.table == "text"
    assert found.length is not None
    assert found.length.tolist() == [3, 0]
    assert found.targets["a"].weight is None
    assert np.array_equal(found.targets["b"].ones(), np.ones((2, 1)))


def test_rows_remember_who_sent_them_when_taken_joined_and_kept() -> None:
    told = replace(rows(0, 3), origin=np.array([4, 5, 6], np.int32))
    taken = told.take(np.array([2, 0])).origin
    joined = Rows.concat([told, rows(3, 2)]).origin
    arrays, meta = told.to_arrays()
    kept = Rows.from_arrays(arrays, json.loads(json.dumps(meta))).origin
    assert taken is not None
    assert joined is not None
    assert kept is not None
    assert taken.tolist() == [6, 4]
    assert joined.tolist() == [4, 5, 6, -1, -1]
    assert joined.dtype == np.int32
    assert kept.tolist() == [4, 5, 6]
    untold = Rows.concat([rows(0, 1), rows(1, 1)])
    assert untold.origin is None
    assert "origin" not in untold.to_arrays()[0]


def test_rows_of_different_tables_are_not_joined() -> None:
    with pytest.raises(EngineError, match="only rows of one table"):
        Rows.concat([rows(0, 1), Rows("u", np.zeros((1, 1), np.float32))])
    with pytest.raises(EngineError, match="at least one"):
        Rows.concat([])
