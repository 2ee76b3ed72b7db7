"""Counting in buckets: every value in one, memory bounded, and a wait never told too short."""

from __future__ import annotations

import pytest

from daemon import tally
from daemon.tally import Arrivals, Histogram


def test_a_value_falls_into_the_bucket_of_the_first_bound_that_is_not_below_it() -> None:
    found = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 7.0):
        found.add(value)
    found.add(1.0, 3)
    assert found.to_dict() == {"bounds": (1.0, 2.0), "counts": [5, 2, 1], "sum": 15.0}


def test_entries_wait_until_the_cut_that_holds_them_is_durable() -> None:
    arrivals, waits = Arrivals(), Histogram((1.0, 10.0))
    arrivals.applied("1000-0")
    arrivals.applied("1000-1")
    arrivals.staged()
    arrivals.applied("4000-0")  # after the cut
    arrivals.durable(6000, waits)
    assert (waits.counts, waits.sum) == ([0, 2, 0], 10.0)
    arrivals.durable(7000, waits)
    assert sum(waits.counts) == 2
    arrivals.staged()
    arrivals.durable(4500, waits)
    assert waits.counts == [1, 2, 0]


def test_entries_of_a_cut_that_failed_wait_for_the_next() -> None:
    arrivals, waits = Arrivals(), Histogram((1.0,))
    arrivals.applied("1000-0")
    arrivals.staged()
    arrivals.applied("2000-0")
    arrivals.staged()
    arrivals.durable(5000, waits)
    assert waits.sum == 7.0


def test_a_server_whose_clock_is_ahead_gives_no_negative_wait() -> None:
    arrivals, waits = Arrivals(), Histogram((1.0,))
    arrivals.applied("9000-0")
    arrivals.staged()
    arrivals.durable(1000, waits)
    assert (waits.counts, waits.sum) == ([1, 0], 0.0)


@pytest.mark.parametrize("num_cuts", [1, 7])
def test_any_number_of_entries_takes_bounded_memory_and_none_is_forgotten(
    num_cuts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "RUNS", 64)
    arrivals, waits = Arrivals(), Histogram((1.0,))
    exact = 0.0
    for number in range(10_000):
        arrivals.applied(f"{number}-0")
        exact += 10_000 - number
        if number % (10_000 // num_cuts) == 0:
            arrivals.staged()
    arrivals.staged()
    assert len(arrivals._staged) <= 64  # pyright: ignore[reportPrivateUsage]
    arrivals.durable(10_000, waits)
    assert sum(waits.counts) == 10_000
    assert waits.sum >= exact / 1e3  # too long rather than too short
