"""Averaged weights: the stated recursion, and what makes them young again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mtl_engine.average import EVERY, Average
from mtl_engine.errors import EngineError


def followed(average: Average, parameter: nn.Parameter, steps: range) -> torch.Tensor:
    """The parameter rises by 1 a step; what the average has to be by its docstring, begun at 0 at step `steps.start - 1`."""
    wanted = torch.zeros_like(parameter)
    for step in steps:
        with torch.no_grad():
            parameter += 1.0
        average.update(step)
        n = step - average.since
        every = 1 if n < 30 else 2 if n < 60 else 4 if n < 120 else EVERY
        if step % every == 0:
            decay = min(average.decay, (3 + n) / (6 + n)) ** every
            wanted = decay * wanted + (1 - decay) * parameter.detach()
    return wanted


def test_it_is_the_recursion_that_its_docstring_states() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    average = Average(0.98)
    average.sync({"w": parameter}, 0)
    wanted = followed(average, parameter, range(1, 400))
    torch.testing.assert_close(average.values["w"], wanted)
    assert 342 < float(average.values["w"][0]) < 352, "50 steps behind"


@pytest.mark.parametrize("change", ["head", "column", "phase"])
def test_after_a_change_all_of_it_is_young_again_however_old_it_was(change: str) -> None:
    old = nn.Parameter(torch.zeros(4, 1))
    average = Average(0.995)
    average.sync({"old": old}, 0)
    parameters = {"old": old}
    if change == "head":
        parameters["new"] = nn.Parameter(torch.zeros(1))
    elif change == "column":
        parameters = {"old": nn.Parameter(torch.zeros(5, 1))}
    average.sync(parameters, 10_000)
    if change == "phase":
        average.restart(10_000)
    with torch.no_grad():
        parameters["old"] += 1.0
    for step in range(10_001, 10_011):
        average.update(step)
    assert float(average.values["old"].min()) > 0.95


def test_a_change_every_fifty_steps_does_not_make_it_the_live_weights() -> None:
    live, average, draw = nn.Parameter(torch.zeros(1000)), Average(0.995), torch.Generator()
    average.sync({"w": live}, 0)
    for step in range(1, 2001):
        with torch.no_grad():
            live.copy_(torch.randn(1000, generator=draw))
        average.update(step)
        if step % 50 == 0:
            noise = float(average.values["w"].std())
            assert noise < 0.27, "it averages over some sixteen steps"
            average.restart(step)


def test_an_old_state_goes_on_with_an_average_as_slow_as_that_of_its_youngest_parameter() -> None:
    parameters = {"trunk": nn.Parameter(torch.zeros(1)), "head": nn.Parameter(torch.zeros(1))}
    average = Average(0.995)
    values = {name: torch.zeros(1) for name in parameters}
    average.load_state({"born": {"trunk": 0, "head": 4_550}}, values, parameters, 5_000)
    n = 5_000 - average.since
    assert (3 + n) / (6 + n) == pytest.approx((1 + 450) / (10 + 450), abs=1e-3)
    again = Average(0.995)
    again.load_state(average.state()[0], average.state()[1], parameters, 5_000)
    assert again.since == average.since


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
    followed(average, grown, range(9, 17))
    assert not torch.equal(average.values["w"][:2], before)


def test_a_removed_parameter_is_forgotten() -> None:
    average = Average(0.9)
    average.sync({"a": nn.Parameter(torch.zeros(1)), "b": nn.Parameter(torch.zeros(1))}, 0)
    average.sync({"b": nn.Parameter(torch.zeros(1))}, 5)
    assert list(average.values) == ["b"]
    assert average.since == 0, "less of a model is no change of what is left"


@pytest.mark.parametrize("decay", [-0.1, 1.0, "0.9"])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(EngineError, match="ema_decay"):
        Average(decay)
