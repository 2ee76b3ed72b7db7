"""Contents that make up much of a task are found among any number of others, in bounded room."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtl_engine import frequent
from mtl_engine.frequent import COPIES, COUNTERS, Frequent

EVENTS = st.lists(st.lists(st.integers(0, 12), max_size=9), max_size=30)


def counts(of: Frequent) -> dict[int, int]:
    _, arrays = of.state()
    return dict(zip(arrays["content"].tolist(), arrays["count"].tolist(), strict=True))


@settings(deadline=None)
@given(EVENTS, st.integers(1, 6))
def test_a_count_is_never_too_high_and_too_low_by_a_bounded_part(
    events: list[list[int]], counters: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequent, "COUNTERS", counters)
        one, true = Frequent(), Counter[int]()
        for event in events:
            one.see(event)
            true.update(event)
            found = counts(one)
            assert len(found) <= counters
            assert one.rows == true.total()
            for content, count in true.items():
                assert count - one.rows / (counters + 1) <= found.get(content, 0) <= count


@settings(deadline=None)
@given(EVENTS)
def test_cutting_rows_into_other_events_changes_no_count(events: list[list[int]]) -> None:
    whole, single = Frequent(), Frequent()
    whole.see([content for event in events for content in event])
    for event in events:
        for content in event:
            single.see([content])
    assert counts(whole) == counts(single)


def test_a_content_is_large_from_its_twentieth_copy_on() -> None:
    one = Frequent()
    for copy in range(1, COPIES + 5):
        assert one.see([7]) == ([7] if copy >= COPIES else [])


@pytest.mark.parametrize(
    ("every", "is_large"), [(77, True), (90, True), (110, False), (150, False)]
)
def test_a_content_is_large_only_with_more_than_one_percent_of_the_rows(
    every: int, is_large: bool
) -> None:
    one, found = Frequent(), []
    for row in range(9000):
        found += one.see([-1 if row % every == 0 else row])
    assert bool(found) is is_large


def test_a_large_content_is_found_however_many_others_come() -> None:
    one = Frequent()
    draw = np.random.default_rng(1)
    found = 0
    for event in range(400):
        rows = draw.integers(1, 2**60, 64)
        rows[draw.random(64) < 0.02] = 5
        found += 5 in one.see(rows.tolist())
        assert len(counts(one)) <= COUNTERS
        assert event < 100 or found
    assert found > 150


def test_only_contents_of_these_rows_are_named_and_each_once() -> None:
    one = Frequent()
    one.see([1] * 30 + [2] * 30)
    assert one.see([2, 3, 2]) == [2]


def test_a_state_comes_back_and_goes_on_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frequent, "COUNTERS", 8)
    draw, one, other = np.random.default_rng(3), Frequent(), Frequent()
    for _ in range(50):
        one.see(draw.integers(0, 14, 9).tolist())
    other.load_state(*one.state())
    for _ in range(50):
        event = draw.integers(0, 14, 9).tolist()
        assert one.see(event) == other.see(event)
        assert_same(one.state(), other.state())


def assert_same(one: tuple[Any, dict[str, np.ndarray]], other: tuple[Any, Any]) -> None:
    assert one[0] == other[0]
    for name, array in one[1].items():
        assert array.tobytes() == other[1][name].tobytes(), name
