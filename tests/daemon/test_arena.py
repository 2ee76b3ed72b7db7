"""Copies that reuse the memory of the copies before them."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch

from daemon.arena import Arena, Pool


def test_a_copy_is_made_in_the_memory_of_the_last_one() -> None:
    arena, live = Arena(), torch.ones(3)
    first = arena.copy("x", live)
    live += 1
    second = arena.copy("x", live)
    assert isinstance(first, torch.Tensor)
    assert second is first
    assert first.tolist() == [2.0, 2.0, 2.0]


def test_another_shape_gets_memory_of_its_own() -> None:
    arena = Arena()
    first = arena.copy("x", np.ones(3))
    assert arena.copy("x", np.ones(4)) is not first


def test_what_cannot_be_written_to_is_its_own_copy() -> None:
    fixed = np.ones(3)
    fixed.flags.writeable = False
    assert Arena().copy("x", fixed) is fixed


def test_names_that_are_gone_give_their_memory_back() -> None:
    arena = Arena()
    first = arena.copy("x", np.ones(3))
    arena.copy("y", np.ones(3))
    arena.keep_only({"y"})
    assert arena.copy("x", np.ones(3)) is not first


@pytest.mark.parametrize("make", [np.ones, torch.ones])
def test_any_copy_of_the_same_shape_is_made_in_memory_that_is_free_again(make: Any) -> None:
    pool, live = Pool(), make(3)
    first = pool.copy(live)
    assert pool.copy(live) is not first
    pool.reclaim()
    live[:] = 2
    assert any(pool.copy(live) is first for _ in range(2))
    assert first.tolist() == [2.0, 2.0, 2.0]
    assert pool.copy(make(4)).shape == (4,)


def test_memory_that_cuts_leave_unused_is_given_back() -> None:
    pool = Pool()
    kept = [weakref.ref(pool.copy(np.ones(3))) for _ in range(8)]
    for left in (8, 4, 2, 1, 1):  # one is used by every cut; half of the others go
        pool.reclaim()
        assert sum(one() is not None for one in kept) == left
        pool.copy(np.ones(3))
