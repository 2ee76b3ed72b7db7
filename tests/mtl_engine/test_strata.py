"""Strata keep the slots of every task together, whatever moves."""

from __future__ import annotations

import numpy as np
import pytest

from mtl_engine.policies.strata import Strata


def checked(strata: Strata, owner_M: np.ndarray) -> None:
    """The order holds every slot once, each in the stretch of its task."""
    assert sorted(strata.slot_P.tolist()) == list(range(len(owner_M)))
    assert strata.place_M[strata.slot_P].tolist() == list(range(len(owner_M)))
    assert strata.owner_S.tolist() == sorted(strata.owner_S.tolist())
    for owner, start, count in zip(strata.owner_S, strata.start_S, strata.count_S, strict=True):
        mine = strata.slot_P[start : start + count]
        assert sorted(mine.tolist()) == np.flatnonzero(owner_M == owner).tolist()
    assert int(strata.count_S.sum()) == int((owner_M >= 0).sum())


@pytest.mark.parametrize("seed", range(8))
def test_strata_follow_any_moves(seed: int) -> None:
    draw = np.random.default_rng(seed)
    capacity = int(draw.integers(1, 60))
    strata, owner_M = Strata(capacity), np.full(capacity, -1)
    for _ in range(60):
        slot_N = draw.permutation(capacity)[: draw.integers(0, capacity + 1)]
        owner_N = draw.integers(-1, 6, len(slot_N)) * 3
        owner_N[owner_N < 0] = -1
        moved = strata.move(slot_N, owner_N)
        assert moved == bool((owner_M[slot_N] != owner_N).any())
        owner_M[slot_N] = owner_N
        checked(strata, owner_M)
    for owner in (0, 9):
        assert sorted(strata.slots_of(owner).tolist()) == np.flatnonzero(owner_M == owner).tolist()
        strata.drop(owner)
        owner_M[owner_M == owner] = -1
        checked(strata, owner_M)
        assert owner not in strata.owner_S


def test_a_move_touches_as_many_places_as_rows_and_tasks_however_many_slots_there_are() -> None:
    strata = Strata(10_000)
    for owner in range(8):
        strata.move(np.arange(1000) + 1000 * owner, owner)
    before = strata.slot_P.copy()
    strata.move(np.array([17, 5017, 9017]), np.array([7, 0, 3]))
    assert 3 <= np.count_nonzero(strata.slot_P != before) <= 3 * 9
    assert not strata.move(np.array([17, 5017]), np.array([7, 0]))


def test_a_smaller_table_keeps_the_order_of_what_stays() -> None:
    strata, owner_M = Strata(8), np.array([1, 2, -1, 1, -1, 2, 1, -1])
    strata.move(np.arange(8), owner_M)
    strata.resize(6, np.array([6]), np.array([2]))
    owner_M[2] = 1
    checked(strata, owner_M[:6])


def test_the_state_comes_back() -> None:
    strata, other = Strata(8), Strata(8)
    owner_M = np.array([1, 2, -1, 1, -1, 2, 1, -1])
    strata.move(np.arange(8), owner_M)
    other.load_state({name: value.copy() for name, value in strata.state().items()})
    checked(other, owner_M)
    for one in (strata, other):
        one.move(np.array([0, 2]), np.array([2, 1]))
    assert strata.slot_P.tolist() == other.slot_P.tolist()
