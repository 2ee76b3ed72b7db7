"""Columns by name become inputs and labels by task."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.encodings.columns import payload
from daemon.errors import BadEvent
from daemon.types import Limits

LIMITS = Limits(max_rows=10)
X = np.zeros((3, 2), np.float32)
Y = np.array([1, 2, 3])


def test_labels_belong_to_the_subject() -> None:
    found = payload({"x": X, "y": Y, "mask": Y > 1, "weight": Y / 2}, "digits", LIMITS)
    assert found.x is X
    assert list(found.labels) == ["digits"]
    assert found.labels["digits"].y is Y
    assert found.labels["digits"].mask is not None
    assert found.labels["digits"].weight is not None


def test_without_a_subject_labels_belong_to_the_task_they_name() -> None:
    found = payload({"x": X, "y.a": Y, "y.b": ["p", "q", "r"], "mask.b": Y > 1}, None, LIMITS)
    assert list(found.labels) == ["a", "b"]
    assert found.labels["a"].mask is None
    assert found.labels["b"].y == ["p", "q", "r"]


def test_rows_without_labels_are_unlabelled() -> None:
    assert payload({"x": X}, "digits", LIMITS).labels == {}


@pytest.mark.parametrize(
    ("columns", "subject", "reason"),
    [
        ({"y": Y}, "a", "missing_x"),
        ({"x": X, "y": Y}, None, "missing_subject"),
        ({"x": X}, None, "missing_subject"),
        ({"x": X, "y.a": Y}, "a", "ambiguous_task"),
        ({"x": X, "y.": Y}, None, "bad_task_name"),
        ({"x": X, "z": Y}, "a", "unknown_column"),
        ({"x": X, "": Y}, "a", "unknown_column"),
        ({"x": X, "x.a": X}, "a", "unknown_column"),
        ({"x": X, "weight": Y}, "a", "labels_missing"),
        ({"x": X, "y.a": Y, "mask.b": Y}, None, "labels_missing"),
        ({"x": X, "y": Y[:2]}, "a", "length_mismatch"),
        ({"x": [], "y": []}, "a", "empty"),
        ({"x": np.zeros(()), "y": Y}, "a", "wrong_rank"),
        ({"x": np.zeros((1,) * 9)}, "a", "wrong_rank"),
        ({"x": np.zeros((11, 1))}, "a", "too_many_rows"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    columns: dict[str, np.ndarray], subject: str | None, reason: str
) -> None:
    with pytest.raises(BadEvent) as caught:
        payload(columns, subject, LIMITS)
    assert caught.value.reason == reason
