"""How many rows of every class the stream brought: for ever, and lately."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mtl_engine.tasks.class_counts import BLOCK_ROWS, BLOCKS, ClassCounts


def counted(events: list[list[int]]) -> ClassCounts:
    one = ClassCounts()
    for event in events:
        one.add(np.array(event, np.int32))
    return one


def of(column_C: np.ndarray) -> dict[int, int]:
    return {label: int(count) for label, count in enumerate(column_C) if count}


def test_every_row_counts_for_ever_and_lately() -> None:
    one = counted([[0, 0, 3], [3], [], [1]])
    assert of(one.ever_C) == of(one.recent_C) == {0: 2, 1: 1, 3: 2}


def test_classes_may_come_at_any_time() -> None:
    one = counted([[0], [50], [7, 500]])
    assert of(one.ever_C) == of(one.recent_C) == {0: 1, 7: 1, 50: 1, 500: 1}


@pytest.mark.parametrize("size", [1, 64, 300, 999, 5000])
def test_recent_are_about_the_last_ten_thousand_rows(size: int) -> None:
    one, most = ClassCounts(), BLOCKS * (BLOCK_ROWS + size)
    for event in range(2 * most // size + 2):
        one.add(np.full(size, int(event * size >= most)))
        assert one.recent_C.sum() <= most
    assert one.recent_C.sum() >= (BLOCKS - 1) * BLOCK_ROWS
    assert of(one.recent_C).keys() == {1}
    assert of(one.ever_C).keys() == {0, 1}


def test_a_share_is_a_part_of_the_stream_and_never_nothing() -> None:
    one = counted([[0] * 60 + [1] * 30 + [4] * 10])
    assert one.share(np.array([0, 1, 4])).tolist() == pytest.approx([0.6, 0.3, 0.1])
    assert one.share(np.array([1, 4])).tolist() == pytest.approx([0.75, 0.25])
    assert one.share(np.array([0, 900])).tolist() == pytest.approx([60 / 61, 1 / 61])
    assert one.share(np.zeros(0, np.int64)).tolist() == []


def test_when_it_is_looked_at_changes_nothing() -> None:
    one, other = ClassCounts(), ClassCounts()
    for event in range(400):
        rows = np.full(1 + event * 37 % 130, event % 12)
        one.add(rows)
        other.add(rows)
        assert other.recent_C.sum() > 0
    (meta, arrays), (meta_too, arrays_too) = one.state(), other.state()
    assert meta == meta_too
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        name: array.tobytes() for name, array in arrays_too.items()
    }


def through_json(one: ClassCounts) -> tuple[Any, dict[str, np.ndarray]]:
    meta, arrays = one.state()
    return json.loads(json.dumps(meta)), {name: array.copy() for name, array in arrays.items()}


def test_a_state_comes_back_and_goes_on_the_same() -> None:
    one, other = counted([[0, 2] * 300] * 7), ClassCounts()
    other.load_state(*through_json(one))
    for each in (one, other):
        for event in range(30):
            each.add(np.full(400, event % 12))
    (meta, arrays), (meta_too, arrays_too) = one.state(), other.state()
    assert meta == meta_too
    for name, array in arrays.items():
        assert np.array_equal(array, arrays_too[name])
    assert of(one.recent_C) == of(other.recent_C)


def test_a_state_of_before_knows_the_trained_rows_and_nothing_recent() -> None:
    one = ClassCounts()
    one.load_state({}, {"stream_C": np.array([5, 0, 7])})
    assert of(one.ever_C) == {0: 5, 2: 7}
    assert of(one.recent_C) == {}
    one.add(np.array([9]))
    assert (of(one.ever_C), of(one.recent_C)) == ({0: 5, 2: 7, 9: 1}, {9: 1})
