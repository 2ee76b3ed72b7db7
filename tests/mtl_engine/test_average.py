"""Averaged weights: the stated recursion, a young parameter's own warm-up, and growth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtl_engine.average import EVERY, Average
from mtl_engine.errors import EngineError


def followed(average: Average, parameter: nn.Parameter, steps: range) -> list[torch.Tensor]:
    """Parameter values at the steps at which the average is taken."""
    seen: list[torch.Tensor] = []
    for step in steps:
        with torch.no_grad():
            parameter += 1.0
        average.update(step)
        if step % EVERY == 0:
            seen.append(parameter.detach().clone())
    return seen


def test_it_is_the_recursion_that_its_docstring_states() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    average = Average(0.9)
    average.sync({"w": parameter}, 0)
    values = followed(average, parameter, range(1, 41))
    wanted = torch.zeros(2)
    for k, value in enumerate(values, start=1):
        n = k * EVERY
        decay = min(0.9, (1 + n) / (10 + n)) ** EVERY
        wanted = decay * wanted + (1 - decay) * value
    torch.testing.assert_close(average.values["w"], wanted)


def test_a_young_parameter_is_followed_closely_however_old_the_others_are() -> None:
    old, young = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    average = Average(0.999)
    average.sync({"old": old}, 0)
    average.sync({"old": old, "young": young}, 10_000)
    with torch.no_grad():
        old += 1.0
        young += 1.0
    average.update(10_000 + EVERY)
    assert float(average.values["young"]) > 0.5
    assert float(average.values["old"]) < 0.01


def test_growth_keeps_the_averages_of_old_rows_and_starts_new_ones_where_they_are() -> None:
    small = nn.Parameter(torch.zeros(2, 3))
    average = Average(0.9)
    average.sync({"w": small}, 0)
    followed(average, small, range(1, 9))
    before = average.values["w"].clone()
    grown = nn.Parameter(torch.cat([small.detach(), torch.full((1, 3), 7.0)]))
    average.sync({"w": grown}, 8)
    assert torch.equal(average.values["w"][:2], before)
    assert torch.equal(average.values["w"][2], torch.full((3,), 7.0))
    followed(average, grown, range(9, 9 + EVERY))
    assert not torch.equal(average.values["w"][:2], before)


def test_a_removed_parameter_is_forgotten() -> None:
    average = Average(0.9)
    average.sync({"a": nn.Parameter(torch.zeros(1)), "b": nn.Parameter(torch.zeros(1))}, 0)
    average.sync({"b": nn.Parameter(torch.zeros(1))}, 5)
    assert list(average.values) == ["b"]
    assert average.born == {"b": 0}


@pytest.mark.parametrize("decay", [-0.1, 1.0, "0.9"])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(EngineError, match="ema_decay"):
        Average(decay)
