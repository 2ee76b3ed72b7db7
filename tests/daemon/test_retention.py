"""The newest checkpoints stay for a crash, and some an hour apart for a rollback."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from daemon.retention import retained

BEGIN = datetime(2026, 1, 31, tzinfo=UTC)


def _stamp(seconds: float) -> str:
    return (BEGIN + timedelta(seconds=seconds)).isoformat()


def _run(count: int, every_s: float, keep: int, hourly: int) -> list[float]:
    """The ages that are kept of so many checkpoints, in seconds, newest first."""
    lineage: list[int] = []
    for seq in range(count):
        stamps = {one: _stamp(one * every_s) for one in (seq, *lineage)}
        lineage = retained([seq, *lineage], stamps, keep, hourly)
    return [(count - 1 - seq) * every_s for seq in lineage]


def test_without_hourly_ones_only_the_newest_stay() -> None:
    assert retained([5, 4, 3, 2, 1], {seq: _stamp(seq) for seq in range(1, 6)}, 2, 0) == [5, 4]


def test_the_first_one_stays_until_others_are_an_hour_old() -> None:
    assert _run(100, 5.0, 2, 2) == [0.0, 5.0, 495.0]


def test_after_a_day_there_is_always_one_that_is_an_hour_old_and_never_more_than_allowed() -> None:
    for count in range(2880, 2880 + 130, 7):
        ages = _run(count, 30.0, 3, 2)
        assert len(ages) <= 5
        assert 3600 <= ages[-1] <= 2 * 3600 + 3 * 30


def test_hourly_ones_are_at_least_an_hour_apart() -> None:
    spaced = _run(3000, 30.0, 3, 6)[3:]
    assert len(spaced) == 6
    assert all(older - newer >= 3600 for newer, older in pairwise(spaced))


def test_one_without_a_stamp_stays_among_the_newest_only() -> None:
    assert retained([3, 2, 1], {3: _stamp(9000), 1: _stamp(0)}, 1, 5) == [3, 1]
    assert retained([3, 2, 1], {3: _stamp(9000), 1: _stamp(0)}, 2, 5) == [3, 2, 1]
