"""Labels and columns: order of first appearance, one type a task, refusals by reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_engine.errors import BadRows
from mtl_engine.vocabulary import Vocabulary


def add(vocabulary: Vocabulary, labels: Any) -> list[int]:
    """Columns of labels that are all there, admitting the new ones."""
    checked = vocabulary.check(labels, np.ones(len(labels), np.bool_))
    columns, fresh = vocabulary.columns(checked)
    vocabulary.check_room(fresh)
    vocabulary.admit(fresh)
    return columns.tolist()


def made(max_classes: int = 100) -> Vocabulary:
    return Vocabulary((), max_classes, "t")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 9), min_size=1, max_size=9)))
def test_columns_are_ranks_of_first_appearance(batches: list[list[int]]) -> None:
    vocabulary = made(10_000)
    order: list[int] = []
    for batch in batches:
        for label in batch:
            if label not in order:
                order.append(label)
        assert add(vocabulary, batch) == [order.index(label) for label in batch]
    assert vocabulary.labels == order


@pytest.mark.parametrize("as_", [list, np.array, lambda y: np.array(y, object)])
def test_strings_come_as_lists_and_arrays(as_: Any) -> None:
    vocabulary = made()
    assert add(vocabulary, as_(["b", "a", "b"])) == [0, 1, 0]
    assert vocabulary.labels == ["b", "a"]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint64])
def test_every_whole_number_type_means_the_same_label(dtype: Any) -> None:
    vocabulary = made()
    assert add(vocabulary, np.array([7, 3], dtype)) == [0, 1]
    assert add(vocabulary, [3, 7]) == [1, 0]
    assert add(vocabulary, [np.int64(3), np.uint8(7)]) == [1, 0]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([1, "a"], "mixed_label_types"),
        ([1, -1], "negative_label"),
        ([-(2**70)], "negative_label"),
        (np.array([-5]), "negative_label"),
        ([2**31], "label_out_of_range"),
        ([2**70], "label_out_of_range"),
        (np.array([2**64 - 1], np.uint64), "label_out_of_range"),
        ([1.0, 2.0], "wrong_dtype"),
        (np.array([0.5]), "wrong_dtype"),
        (np.array([np.nan]), "nan_label"),
        ([float("nan")], "nan_label"),
        ([True, False], "wrong_dtype"),
        (np.array([True]), "wrong_dtype"),
        ([[1], [2]], "wrong_rank"),
        (np.zeros((2, 2), np.int64), "wrong_rank"),
        (["x" * 257], "label_too_long"),
        (["é" * 129], "label_too_long"),
        (["\ud800"], "wrong_dtype"),
        ([b"\xff"], "wrong_dtype"),
        ([{"a": 1}], "wrong_dtype"),
    ],
)
def test_a_bad_label_is_refused_with_its_reason(labels: Any, reason: str) -> None:
    with pytest.raises(BadRows) as refused:
        add(made(), labels)
    assert refused.value.reason == reason


def test_a_task_keeps_the_type_of_its_first_label() -> None:
    vocabulary = made()
    add(vocabulary, ["a"])
    with pytest.raises(BadRows, match="one task has one type"):
        add(vocabulary, [1])


def test_more_labels_than_allowed_are_refused_and_none_is_admitted() -> None:
    vocabulary = made(max_classes=3)
    add(vocabulary, [1, 2])
    with pytest.raises(BadRows) as refused:
        add(vocabulary, [2, 3, 4])
    assert refused.value.reason == "too_many_classes"
    assert vocabulary.labels == [1, 2]
    assert add(vocabulary, [3]) == [2]


def test_labels_of_absent_rows_are_not_looked_at() -> None:
    vocabulary = made()
    kept = vocabulary.check(np.array([4, -1, 2**40]), np.array([True, False, False]))
    assert kept.tolist() == [4]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-1, 12), min_size=1, max_size=90))
def test_arrays_of_known_labels_are_looked_up_as_all_labels_are_and_others_are_not(
    labels: list[int],
) -> None:
    vocabulary = made()
    add(vocabulary, [5, 3, 9, 0, 12])
    columns = [vocabulary.labels.index(label) if label in vocabulary.labels else -1 for label in labels]  # fmt: skip
    for kind in (np.int64, np.int8):
        found = vocabulary.known(np.array(labels, kind))
        assert (found is None) == (min(columns) < 0)
        assert found is None or (found.dtype == np.int32 and found.tolist() == columns)
