"""Every buffer policy: slots in range, batches equal to rows one by one, uniform samples, bounded memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mtl_engine import rng
from mtl_engine.components import build
from mtl_engine.policies import POLICIES
from mtl_engine.policies.base import TASK_SHIFT
from mtl_engine.policies.slots import Slots
from mtl_engine.types import Array

pytestmark = pytest.mark.parametrize("name", POLICIES)
CAPACITY = 13


def slots(name: str, capacity: int = CAPACITY, seed: int = 1) -> Slots:
    return Slots(build(POLICIES, name, "policy"), capacity, seed, "here")


def stream(n: int, seed: int = 0, groups: int = 5) -> tuple[Array, Array]:
    """Keys of `n` rows (two tasks, some classes, one of them rare), and their draws."""
    draw = np.random.default_rng(seed)
    class_B = np.minimum(draw.geometric(0.4, n) - 1, groups - 1)
    return keys_of(np.where(class_B < 3, 1, 2), class_B), draw.random(n)


def keys_of(task_B: Any, class_B: Any) -> Array:
    return (np.asarray(task_B, np.int64) << TASK_SHIFT) + np.asarray(class_B, np.int64)


class Kept:
    """Which row lies in which slot, as a replay table keeps it."""

    def __init__(self, one: Slots) -> None:
        self.slots = one
        self.row_M = np.full(one.capacity, -1, np.int64)
        self.rows = 0

    def offer(self, key_B: Array, uniform_B: Array) -> None:
        task_B, class_B = key_B >> TASK_SHIFT, key_B & ((1 << TASK_SHIFT) - 1)
        slot_B = self.slots.place(self.slots.policy.key_B(task_B, class_B), uniform_B)
        kept = np.flatnonzero(slot_B >= 0)
        assert len(set(slot_B[kept].tolist())) == len(kept), "two rows in one slot"
        self.row_M[self.slots.groups() < 0] = -1
        self.row_M[slot_B[kept]] = self.rows + kept
        self.rows += len(key_B)

    def sets(self) -> dict[int, set[int]]:
        """Rows kept by key of their group."""
        group_M = self.slots.groups()
        return {
            int(key): set(self.row_M[group_M == g].tolist())
            for g, key in enumerate(self.slots.key_G)
        }


def batches(key_B: Array, uniform_B: Array, sizes: list[int]) -> Iterator[tuple[Array, Array]]:
    start = 0
    for size in sizes:
        yield key_B[start : start + size], uniform_B[start : start + size]
        start += size


def kept_after(one: Slots, n: int, seed: int = 0, batch: int = 8) -> Kept:
    kept = Kept(one)
    for key_B, uniform_B in batches(*stream(n, seed), [batch] * -(-n // batch)):
        kept.offer(key_B, uniform_B)
    return kept


@pytest.mark.parametrize("capacity", [1, 2, CAPACITY, 1000])
def test_slots_are_in_range_and_capacity_is_never_exceeded(name: str, capacity: int) -> None:
    one = slots(name, capacity)
    kept = Kept(one)
    for key_B, uniform_B in batches(*stream(300), [7] * 43):
        kept.offer(key_B, uniform_B)
        used = int((one.groups() >= 0).sum())
        assert used == int(one.filled_G.sum()) <= capacity
        assert sorted(one.slot_P.tolist()) == list(range(capacity))
        assert one.quota_G.sum() <= capacity
        assert bool((one.filled_G <= one.quota_G).all())
    assert kept.rows == int(one.seen_G.sum()) == 300
    if capacity <= CAPACITY:
        assert int((kept.row_M >= 0).sum()) == capacity


def test_a_batch_is_its_rows_one_by_one(name: str) -> None:
    whole, single = Kept(slots(name)), Kept(slots(name))
    key_B, uniform_B = stream(240, seed=3)
    for part in batches(key_B, uniform_B, [1, 3, 60, 8, 8, 100, 60]):
        whole.offer(*part)
    for part in batches(key_B, uniform_B, [1] * 240):
        single.offer(*part)
    assert whole.row_M.tolist() == single.row_M.tolist()
    _same_state(whole.slots, single.slots)


def _same_state(one: Slots, other: Slots) -> None:
    (meta, arrays), (meta_, arrays_) = one.state(), other.state()
    assert meta == meta_
    assert {k: v.tolist() for k, v in arrays.items()} == {k: v.tolist() for k, v in arrays_.items()}


def test_for_given_draws_every_group_holds_what_algorithm_r_holds(name: str) -> None:
    """Vitter's algorithm R, written down row by row, for the quotas that the groups have at the end."""
    one = slots(name)
    for key in {int(key) for key in stream(400)[0]}:  # every group is known, so quotas stay
        kept = Kept(one)
        kept.offer(np.array([key]), np.array([0.0]))
    one.remove(np.flatnonzero(one.groups() >= 0), np.zeros(0, np.int64))
    one.seen_G[:] = 0
    kept = Kept(one)
    key_B, uniform_B = stream(400)
    for part in batches(key_B, uniform_B, [40] * 10):
        kept.offer(*part)
    policy = one.policy
    group_B = policy.key_B(key_B >> TASK_SHIFT, key_B & ((1 << TASK_SHIFT) - 1))
    for key, quota in zip(one.key_G.tolist(), one.quota_G.tolist(), strict=True):
        rows = np.flatnonzero(group_B == key).tolist()
        assert kept.sets()[key] == set(_algorithm_r(rows, uniform_B, quota))


def _algorithm_r(rows: list[int], uniform_B: Array, quota: int) -> list[int]:
    held: list[int] = []
    for n, row in enumerate(rows):
        at = n if n < quota else int(uniform_B[row] * (n + 1))
        if at == len(held) and n < quota:
            held.append(row)
        elif at < quota:
            held[at] = row
    return held


def test_every_row_of_a_group_is_kept_with_the_same_chance(name: str) -> None:
    """Chi-square over 250 streams; each of 40 rows is expected 250 * 8 / 40 = 50 times."""
    trials, n, capacity = 250, 40, 8
    count_N = np.zeros(n)
    for trial in range(trials):
        kept = Kept(slots(name, capacity, seed=trial))
        uniform_B = rng.uniform(trial, "insert", 0, n)
        for part in batches(keys_of([1] * n, [0] * n), uniform_B, [10, 30]):
            kept.offer(*part)
        count_N[kept.row_M] += 1
    expected = trials * capacity / n
    square = float(((count_N - expected) ** 2 / (expected * (1 - capacity / n))).sum())
    assert count_N.sum() == trials * capacity
    assert abs(square - (n - 1)) < 5 * np.sqrt(2 * (n - 1)), square


def test_a_quota_that_shrinks_evicts_uniformly(name: str) -> None:
    """Half of 12 kept rows go when the capacity halves; which half is even over 250 seeds."""
    trials, capacity = 250, 12
    count_N = np.zeros(capacity)
    for trial in range(trials):
        one = slots(name, capacity, seed=trial)
        kept = Kept(one)
        kept.offer(keys_of([1] * capacity, [0] * capacity), np.zeros(capacity))
        source, target = one.resize(capacity // 2)
        kept.row_M[target] = kept.row_M[source]
        count_N[kept.row_M[: capacity // 2]] += 1
    expected = trials / 2
    square = float(((count_N - expected) ** 2 / (expected * 0.5)).sum())
    assert count_N.sum() == expected * capacity
    assert abs(square - (capacity - 1)) < 5 * np.sqrt(2 * (capacity - 1)), square


def test_of_rows_that_draw_the_same_slot_the_last_one_stays(name: str) -> None:
    kept = Kept(slots(name, 4))
    kept.offer(keys_of([1] * 4, [0] * 4), np.zeros(4))
    kept.offer(keys_of([1] * 6, [0] * 6), np.zeros(6))  # a draw of 0 takes the group's first slot
    assert sorted(kept.row_M.tolist()) == [1, 2, 3, 9]


@pytest.mark.parametrize(("before", "after"), [(60, 55), (60, 12), (60, 1), (300, 77)])
def test_an_eviction_leaves_as_many_as_fit_and_every_place_of_a_group_goes_alike(
    name: str, before: int, after: int
) -> None:
    """Whether few go or few stay: every rank within a group is kept equally often over 200 seeds."""
    trials = 200
    count_N = np.zeros(before)
    for trial in range(trials):
        one = slots(name, before, seed=trial)
        kept = Kept(one)
        kept.offer(keys_of([1] * before, [0] * before), np.zeros(before))
        source, target = one.resize(after)
        kept.row_M[target] = kept.row_M[source]
        assert int(one.filled_G.sum()) == after == len(one.used())
        assert len(np.unique(kept.row_M[:after])) == after
        count_N[kept.row_M[:after]] += 1
    share = after / before
    square = float(((count_N - trials * share) ** 2).sum() / (trials * share * (1 - share)))
    assert abs(square - (before - 1)) < 5 * np.sqrt(2 * (before - 1)), square


def test_rows_evicted_within_their_own_batch_are_not_kept(name: str) -> None:
    """A batch that brings class after class shrinks the groups that its first rows just filled."""
    for seed in range(20):
        one = slots(name, seed=seed)
        kept = Kept(one)
        key_B = keys_of([1] * 40, np.repeat(np.arange(8), 5))
        kept.offer(key_B, rng.uniform(seed, "rows", 0, 40))
        for key, rows in kept.sets().items():
            assert -1 not in rows
            if len(one.key_G) > 1:
                assert set(key_B[list(rows)].tolist()) <= {key}


def test_growth_is_a_fresh_fill(name: str) -> None:
    one = slots(name, 4)
    kept = kept_after(one, 40, batch=5)
    before = {row for row in kept.row_M.tolist() if row >= 0}
    one.resize(10)
    kept.row_M = np.append(kept.row_M, np.full(6, -1))
    key = int(one.key_G[0])
    room = int(one.quota_G[0] - one.filled_G[0])
    task_B, class_B = [key >> TASK_SHIFT or 1] * room, [key & 0xFFFFFFFF] * room
    kept.offer(keys_of(task_B, class_B), np.full(room, 0.999999))
    assert room > 0
    assert {row for row in kept.row_M.tolist() if row >= 0} == before | set(range(40, 40 + room))


def test_moved_rows_stay_in_their_group(name: str) -> None:
    one = slots(name)
    kept = kept_after(one, 100)
    before = kept.sets()
    source, target = one.resize(7)
    row_M = kept.row_M.copy()
    row_M[target] = row_M[source]
    kept.row_M = row_M[:7]
    after = kept.sets()
    assert all(after[key] <= before[key] for key in before)
    assert sum(map(len, after.values())) == 7
    assert sorted(one.slot_P.tolist()) == list(range(7))


def test_forgotten_groups_leave_their_room_to_the_others(name: str) -> None:
    one = slots(name)
    kept = kept_after(one, 200)
    mine = keys_of([2] * 5, range(5))
    gone = np.flatnonzero(np.isin(stream(200)[0][kept.row_M], mine))
    one.remove(gone, mine)
    kept.row_M[gone] = -1
    assert not set(one.key_G.tolist()) & set(mine.tolist())
    assert one.quota_G.sum() == CAPACITY
    for part in batches(keys_of([1] * 60, [0, 1, 2] * 20), np.full(60, 0.999), [6] * 10):
        kept.offer(*part)
    assert bool((kept.row_M >= 0).all())


def test_memory_does_not_grow_with_the_stream(name: str) -> None:
    one = slots(name)
    kept_after(one, 200)
    sizes = [value.nbytes for value in one.state()[1].values()]
    kept = kept_after(one, 2000, seed=8)
    assert kept.rows == 2000
    assert [value.nbytes for value in one.state()[1].values()] == sizes


def test_the_state_goes_through_json_and_comes_back(name: str) -> None:
    one, fresh = slots(name), slots(name, 3)
    kept = kept_after(one, 30)
    meta, arrays = one.state()
    fresh.load_state(json.loads(json.dumps(meta)), {key: v.copy() for key, v in arrays.items()})
    resumed = Kept(fresh)
    resumed.row_M, resumed.rows = kept.row_M.copy(), kept.rows
    key_B, uniform_B = stream(120, seed=6, groups=9)  # with groups that are new
    for part in batches(key_B, uniform_B, [11] * 11):
        kept.offer(*part)
        resumed.offer(*part)
    assert resumed.row_M.tolist() == kept.row_M.tolist()
    _same_state(one, fresh)


def test_full_groups_that_share_a_task_differ_by_one_row_at_most_if_it_balances(name: str) -> None:
    one = slots(name)
    kept = kept_after(one, 800)
    count_K = {key: len(rows) for key, rows in kept.sets().items()}
    by_task = [[n for key, n in count_K.items() if key >> TASK_SHIFT == task] for task in (0, 1, 2)]
    for counts in by_task:
        assert max(counts, default=0) - min(counts, default=0) <= 1
    assert sum(map(sum, by_task)) == CAPACITY
    if len(count_K) > 1:  # tasks share alike, too
        assert abs(sum(by_task[1]) - sum(by_task[2])) <= 1


def test_rows_that_meet_full_groups_are_placed_as_all_others(name: str) -> None:
    """A shortcut must not change one slot: beside it, the same rows are all placed the long way."""
    short, long = Kept(slots(name)), Kept(slots(name))
    key_N, uniform_N = stream(6000)
    passed = kept = 0
    for start in range(0, len(key_N), 8):
        key_B, uniform_B = key_N[start : start + 8], uniform_N[start : start + 8]
        long.offer(key_B, uniform_B)
        task_B, class_B = key_B >> TASK_SHIFT, key_B & ((1 << TASK_SHIFT) - 1)
        own_B = short.slots.policy.key_B(task_B, class_B)
        taken = short.slots.replace(own_B.tolist(), uniform_B.tolist())
        if taken is None:
            short.offer(key_B, uniform_B)
        else:
            passed += not taken
            kept += len(taken)
            short.row_M[list(taken)] = short.rows + np.array(list(taken.values()), np.int64)
            short.rows += len(key_B)
        np.testing.assert_array_equal(short.row_M, long.row_M)
        np.testing.assert_array_equal(short.slots.seen_G, long.slots.seen_G)
    assert passed > 200, "the shortcut was hardly taken"
    assert kept > 50, "the shortcut hardly ever kept a row"
