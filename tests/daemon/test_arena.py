"""Copies that reuse the memory of the copies before them."""

from __future__ import annotations

import numpy as np
import torch

from daemon.arena import Arena


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
