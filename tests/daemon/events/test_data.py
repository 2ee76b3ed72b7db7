"""Data events: rows, and how many the producer says there are."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.errors import BadEvent
from daemon.events import parse
from daemon.events.data import Data
from daemon.types import Limits
from tests.support.raw import Fields, entry, json_event, replaced, tensor_event

X = np.arange(6, dtype=np.float32).reshape(3, 2)


def parsed(found: Fields) -> Data:
    """The data event in these fields."""
    event = parse(entry(found), Limits())
    assert isinstance(event, Data)
    return event


@pytest.mark.parametrize("rows", ["3", None])
def test_rows_come_with_their_envelope(rows: str | None) -> None:
    event = parsed(
        tensor_event("digits", {"x": X, "y": np.array([1, 2, 3])}, mtlrows=rows, id="e9")
    )
    assert event.envelope.id == "e9"
    np.testing.assert_array_equal(np.asarray(event.payload.x), X)
    assert np.asarray(event.payload.labels["digits"].y).tolist() == [1, 2, 3]


def test_both_encodings_say_the_same() -> None:
    arrays = parsed(tensor_event("digits", {"x": X, "y": np.array([1, 2, 3])}))
    texts = parsed(json_event("digits", {"x": X.tolist(), "y": [1, 2, 3]}))
    assert np.asarray(arrays.payload.x).tolist() == texts.payload.x
    assert (
        np.asarray(arrays.payload.labels["digits"].y).tolist() == texts.payload.labels["digits"].y
    )


def test_a_wrong_row_count_would_spoil_the_accounting_and_is_refused() -> None:
    with pytest.raises(BadEvent, match="mtlrows says 4 and x has 3") as caught:
        parsed(tensor_event("digits", {"x": X}, mtlrows="4"))
    assert caught.value.reason == "rows_mismatch"


@pytest.mark.parametrize("data", [None, b""])
def test_data_without_data_is_refused(data: bytes | None) -> None:
    with pytest.raises(BadEvent) as caught:
        parsed(replaced(tensor_event("digits", {"x": X}), {"data": data}))
    assert caught.value.reason == "missing_data"
