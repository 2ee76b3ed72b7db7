"""Rows become batches: in log order, whatever the sizes of the events, and through any checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.batcher import Batcher, Mix
from mtl_engine.types import Rows, Target
from tests.support.core import labelled, numbers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

Stretch = tuple[str, int]  # a task and how many of its rows come now
SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=12)
LOGS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=12)


def _events(log: Sequence[Stretch], sizes: Sequence[int] | None) -> list[Rows]:
    """The stretches as events: each whole, or cut into pieces of these sizes in turn."""
    events: list[Rows] = []
    first, turn = 0, 0
    for task, count in log:
        end = first + count
        while first < end:
            size = count if sizes is None else min(sizes[turn % len(sizes)], end - first)
            events.append(labelled(first, size, task, table=f"table-{task}"))
            first, turn = first + size, turn + 1
    return events


def _trained(batcher: Batcher, events: Sequence[Rows], flush: bool = True) -> list[list[int]]:
    """The batches as numbers, taken as soon as they are full, and at the end what is pending."""
    found: list[list[int]] = []
    for rows in events:
        batcher.enter(rows)
        while (batch := batcher.full_batch()) is not None:
            found.append(numbers_of(batch))
    while flush and (batch := batcher.rest()) is not None:
        found.append(numbers_of(batch))
    return found


def _copied(batcher: Batcher) -> Batcher:
    arrays, meta = batcher.state()
    other = Batcher(batcher.batch_size, batcher.mix)
    other.load_state({name: array.copy() for name, array in arrays.items()}, meta)
    return other


@settings(max_examples=60, deadline=None)
@given(LOGS, SIZES, st.integers(1, 6), st.sampled_from(["log", "task"]))
def test_batches_are_the_same_whatever_the_sizes_of_the_events(
    log: list[Stretch], sizes: list[int], batch_size: int, mix: Mix
) -> None:
    whole = _trained(Batcher(batch_size, mix), _events(log, None))
    assert _trained(Batcher(batch_size, mix), _events(log, sizes)) == whole


@settings(max_examples=40, deadline=None)
@given(LOGS, st.integers(1, 6))
def test_in_log_order_a_batch_is_the_next_rows_over_all_tasks(
    log: list[Stretch], batch_size: int
) -> None:
    batches = _trained(Batcher(batch_size), _events(log, None))
    count = sum(size for _, size in log)
    expected = [set(range(at, min(at + batch_size, count))) for at in range(0, count, batch_size)]
    assert [set(batch) for batch in batches] == expected


@settings(max_examples=40, deadline=None)
@given(LOGS, st.integers(1, 6))
def test_gathered_by_task_a_batch_has_one_task_and_no_row_is_lost(
    log: list[Stretch], batch_size: int
) -> None:
    task_of: dict[int, str] = {}
    for rows in _events(log, None):
        task_of |= dict.fromkeys(numbers_of([rows]), next(iter(rows.targets)))
    batches = _trained(Batcher(batch_size, "task"), _events(log, None))
    assert all(len({task_of[number] for number in batch}) == 1 for batch in batches)
    for task in set(task_of.values()):
        seen = [number for batch in batches for number in batch if task_of[number] == task]
        assert seen == sorted(number for number in task_of if task_of[number] == task)


@settings(max_examples=60, deadline=None)
@given(LOGS, SIZES, st.integers(1, 6), st.sampled_from(["log", "task"]), st.integers(0, 30))
def test_a_checkpoint_between_any_two_events_changes_no_batch(
    log: list[Stretch], sizes: list[int], batch_size: int, mix: Mix, cut: int
) -> None:
    events = _events(log, sizes)
    straight = _trained(Batcher(batch_size, mix), events)
    first = Batcher(batch_size, mix)
    before = _trained(first, events[:cut], flush=False)
    assert before + _trained(_copied(first), events[cut:]) == straight


@settings(max_examples=40, deadline=None)
@given(LOGS, st.integers(1, 6), st.sampled_from(["log", "task"]))
def test_less_than_a_batch_waits_in_each_lane(log: list[Stretch], size: int, mix: Mix) -> None:
    batcher = Batcher(size, mix)
    _trained(batcher, _events(log, None), flush=False)
    lanes = 1 if mix == "log" else len({task for task, _ in log})
    assert len(batcher) <= lanes * (size - 1)


def test_rows_of_two_tables_come_as_two_parts_each_in_order() -> None:
    batcher = Batcher(5)
    for first, table in ((0, "t"), (1, "u"), (2, "t"), (3, "u"), (4, "t")):
        batcher.enter(labelled(first, 1, table=table))
    batch = batcher.full_batch()
    assert batch is not None
    assert [(rows.table, numbers_of([rows])) for rows in batch] == [("t", [0, 2, 4]), ("u", [1, 3])]


def test_two_tasks_of_one_table_are_joined_and_each_row_keeps_its_own_label() -> None:
    batcher = Batcher(4)
    batcher.enter(labelled(0, 2, "a"))
    batcher.enter(labelled(2, 2, "b"))
    (rows,) = batcher.full_batch() or []
    assert numbers_of([rows]) == [0, 1, 2, 3]
    for task, own in (("a", [1, 1, 0, 0]), ("b", [0, 0, 1, 1])):
        assert rows.targets[task].ones().tolist() == own
        assert rows.targets[task].y[np.array(own, bool)].tolist() == [
            number for number, is_own in enumerate(own) if is_own
        ]


def test_an_event_without_rows_makes_nothing_pending() -> None:
    batcher = Batcher(4)
    batcher.enter(labelled(0, 0))
    assert (len(batcher), batcher.rest(), batcher.state()[1]) == (0, None, {"chunks": []})


def test_nothing_is_full_before_it_is() -> None:
    batcher = Batcher(4)
    batcher.enter(labelled(0, 3))
    assert batcher.full_batch() is None
    assert len(batcher) == 3


def test_saved_rows_are_read_only_so_that_a_writer_may_keep_them_without_a_copy() -> None:
    batcher = Batcher(4)
    batcher.enter(labelled(0, 3))
    arrays, _ = batcher.state()
    assert arrays
    for array in arrays.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_text_lengths_and_weights_survive_a_checkpoint() -> None:
    target = Target(np.array([1, 2], np.int32), np.array([0.5, 0], np.float32))
    rows = Rows("text", np.ones((2, 4), np.uint8), np.array([4, 1], np.int32), {"a": target})
    batcher = Batcher(4)
    batcher.enter(rows)
    (found,) = _copied(batcher).rest() or []
    assert found.length is not None
    assert found.length.tolist() == [4, 1]
    assert found.targets["a"].ones().tolist() == [0.5, 0]
