"""Averaged weights: the stated recursion, and what makes them young again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtl_engine.average import EVERY, Average
from mtl_engine.errors import EngineError


def followed(
    average: Average, parameter: nn.Parameter, steps: range, since: int = 0
) -> torch.Tensor:
    """The parameter rises by 1 a step; what the average has to be by its docstring, begun at 0 at step `steps.start - 1`."""
    wanted = torch.zeros_like(parameter)
    for step in steps:
        with torch.no_grad():
            parameter += 1.0
        average.update(step, n := step - since)
        every = 1 if n < 30 else 2 if n < 60 else 4 if n < 120 else EVERY
        if step % every == 0:
            decay = min(average.decay, (3 + n) / (7 + n)) ** every
            wanted = decay * wanted + (1 - decay) * parameter.detach()
    return wanted


def test_it_is_the_recursion_that_its_docstring_states() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    average = Average(0.98)
    average.sync({"w": parameter})
    wanted = followed(average, parameter, range(1, 400))
    torch.testing.assert_close(average.values["w"], wanted)
    assert 342 < float(average.values["w"][0]) < 352, "50 steps behind"


def test_after_a_change_all_of_it_is_young_again_however_old_it_was() -> None:
    old, new = nn.Parameter(torch.zeros(4, 1)), nn.Parameter(torch.zeros(1))
    average = Average(0.995)
    average.sync({"old": old})
    average.sync({"old": old, "new": new})
    with torch.no_grad():
        old += 1.0
    for age in range(1, 11):
        average.update(10_000 + age, age)
    assert float(average.values["old"].min()) > 0.95


def test_a_change_every_fifty_steps_does_not_make_it_the_live_weights() -> None:
    live, average, draw = nn.Parameter(torch.zeros(1000)), Average(0.995), torch.Generator()
    average.sync({"w": live})
    since = 0
    for step in range(1, 2001):
        with torch.no_grad():
            live.copy_(torch.randn(1000, generator=draw))
        average.update(step, step - since)
        if step % 50 == 0:
            noise = float(average.values["w"].std())
            assert noise < 0.31, "it averages over some twelve steps"
            since = step


def test_growth_keeps_the_averages_of_old_rows_and_starts_new_ones_where_they_are() -> None:
    small = nn.Parameter(torch.zeros(2, 3))
    average = Average(0.9)
    average.sync({"w": small})
    followed(average, small, range(1, 9))
    before = average.values["w"].clone()
    grown = nn.Parameter(torch.cat([small.detach(), torch.full((1, 3), 7.0)]))
    average.sync({"w": grown})
    assert torch.equal(average.values["w"][:2], before)
    assert torch.equal(average.values["w"][2], torch.full((3,), 7.0))
    followed(average, grown, range(9, 17))
    assert not torch.equal(average.values["w"][:2], before)


def test_a_removed_parameter_is_forgotten() -> None:
    average = Average(0.9)
    average.sync({"a": nn.Parameter(torch.zeros(1)), "b": nn.Parameter(torch.zeros(1))})
    average.sync({"b": nn.Parameter(torch.zeros(1))})
    assert list(average.values) == ["b"]


@pytest.mark.parametrize("decay", [-0.1, 1.0, "0.9"])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(EngineError, match="ema_decay"):
        Average(decay)
