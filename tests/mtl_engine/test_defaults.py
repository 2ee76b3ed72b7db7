"""What the user leaves open: new states get this version's defaults, others keep those that they were made with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mtl_engine.defaults import GENERATIONS, LATEST, advised
from mtl_engine.engine import Engine
from mtl_engine.errors import StateError
from mtl_engine.state import EngineState
from mtl_engine.types import TaskSpec


def engine(**more: Any) -> Engine:
    made = Engine(num_threads=1, buffer_rows=40, trunk={"width": 8, "depth": 1}, **more)
    made.add_task(TaskSpec("t", "table"))
    return made


def feed(to: Engine, steps: int, seed: int = 0) -> None:
    draw = np.random.default_rng(seed)
    for _ in range(steps):
        y = draw.integers(0, 4, 16)
        to.observe("t", draw.normal(0, 1, (16, 3)) + y[:, None], y)


def tensors(of: Engine) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(value).clone() for name, value in of.state_dict().tensors.items()}


def before(of: Engine, generation: int = 1) -> EngineState:
    """Its state as that generation wrote it; the first one did not say which it was."""
    state = of.state_dict()
    meta = {**state.meta, "defaults": generation}
    return replace(state, meta={k: v for k, v in meta.items() if k != "defaults" or generation > 1})


@pytest.mark.parametrize("generation", range(1, LATEST))
def test_a_state_of_an_earlier_generation_goes_on_bit_for_bit_as_it_was_made(
    generation: int,
) -> None:
    explicit = engine(**GENERATIONS[generation - 1])
    feed(explicit, 30)
    taken = before(explicit, generation)
    left_open = engine()
    left_open.load_state_dict(taken)
    feed(explicit, 20, seed=1)
    feed(left_open, 20, seed=1)
    one, other = tensors(explicit), tensors(left_open)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert left_open.state_dict().meta["defaults"] == generation, "and says so from then on"


def test_what_the_user_says_holds_for_an_old_state_too() -> None:
    old = engine(**GENERATIONS[0])
    feed(old, 10)
    said = {"optimizer": {"name": "sgd", "lr": 0.05}}
    one, other = engine(**said), engine(**{**GENERATIONS[0], **said})
    for made in (one, other):
        made.load_state_dict(before(old))
        feed(made, 10, seed=1)
    mine, theirs = tensors(one), tensors(other)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_new_state_has_the_newest_and_keeps_them() -> None:
    new = engine()
    feed(new, 5)
    assert new.state_dict().meta["defaults"] == LATEST
    assert any(name.startswith("optim") for name in tensors(new)), "moments"
    again = engine()
    again.load_state_dict(new.state_dict())
    feed(new, 5, seed=1)
    feed(again, 5, seed=1)
    mine, theirs = tensors(new), tensors(again)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_state_of_a_later_version_is_refused() -> None:
    later = engine().state_dict()
    with pytest.raises(StateError, match=f"generation {LATEST + 1}: this version knows up to"):
        engine().load_state_dict(replace(later, meta={**later.meta, "defaults": LATEST + 1}))


def test_only_what_is_left_open_is_filled_in() -> None:
    said = {"strategy": "er", "weights": None, "optimizer": None, "clip_norm": 2.0}
    assert advised(said) == {"strategy": "er", "weights": "raw", "optimizer": "sgd", "clip_norm": 2.0}  # fmt: skip
    said = {"strategy": {"name": "default", "adjust": 0.5}, "weights": "raw", "clip_norm": 0.0}
    filled = advised(said, 1)
    assert filled["strategy"] == {"name": "dark_er", "adjust": 0.5}
    assert (filled["weights"], filled["clip_norm"]) == ("raw", 0.0)
