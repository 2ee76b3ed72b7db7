"""Optimizers by name: the same numbers as torch's own, and growth that leaves the old rows' moments alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mtl_engine.errors import EngineError, StateError
from mtl_engine.optim import Optimizer
from mtl_engine.tape import Bag, BagProduct, Product, Vectors

SPECS: list[tuple[Any, Any]] = [
    ({"name": "sgd", "lr": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1)),
    (
        {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    ),
    ({"name": "adamw", "lr": 0.01}, lambda p: torch.optim.AdamW(p, lr=0.01)),
]


def parameter(rows: int = 3) -> nn.Parameter:
    draw = torch.Generator().manual_seed(rows)
    return nn.Parameter(torch.randn(rows, 4, generator=draw))


def stepped(optimizer: Any, parameter: nn.Parameter, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        grad = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        parameter.grad = grad[: len(parameter)].clone()
        optimizer.step()


@pytest.mark.parametrize(("spec", "reference"), SPECS)
def test_it_computes_what_torchs_own_computes(spec: Any, reference: Any) -> None:
    ours, theirs = parameter(), parameter()
    stepped(Optimizer(spec, {"w": ours}), ours, 5)
    stepped(reference([theirs]), theirs, 5)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("spec", "reference"), SPECS)
def test_growth_changes_nothing_for_the_old_rows(spec: Any, reference: Any) -> None:
    plain, small = parameter(), parameter()
    one, other = Optimizer(spec, {"w": plain}), Optimizer(spec, {"w": small})
    stepped(one, plain, 3)
    stepped(other, small, 3)
    grown = nn.Parameter(torch.cat([small.detach(), torch.ones(2, 4)]))
    other.replace("w", grown)
    for key, moment in other.state().items():
        if moment.ndim == 2:
            assert moment.shape == (5, 4), key
            assert not moment[3:].any(), key
    stepped(one, plain, 3, first=3)
    stepped(other, grown, 3, first=3)
    assert torch.equal(grown[:3], plain)
    assert not torch.equal(grown[3:], torch.ones(2, 4))


@pytest.mark.parametrize(("spec", "reference"), SPECS)
def test_its_state_by_name_goes_on_bit_equal(spec: Any, reference: Any) -> None:
    whole = parameter()
    one = Optimizer(spec, {"w": whole})
    stepped(one, whole, 3)
    resumed = nn.Parameter(whole.detach().clone())
    other = Optimizer(spec, {"w": resumed})
    other.load_state({"w": resumed}, {key: value.clone() for key, value in one.state().items()})
    stepped(one, whole, 3, first=3)
    stepped(other, resumed, 3, first=3)
    assert torch.equal(whole, resumed)


def test_a_parameter_without_a_gradient_is_left_alone_with_its_moments() -> None:
    a, b = parameter(), parameter(2)
    optimizer = Optimizer({"name": "adamw"}, {"a": a, "b": b})
    before = b.detach().clone()
    stepped(optimizer, a, 2)
    assert torch.equal(b, before)
    assert {key.partition(".")[0] for key in optimizer.state()} == {"a"}


def test_a_removed_parameter_takes_its_moments_with_it() -> None:
    a, b = parameter(), parameter(2)
    optimizer = Optimizer("adamw", {"a": a, "b": b})
    for p in (a, b):
        p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.remove(["a"])
    before = a.detach().clone()
    optimizer.step()
    assert torch.equal(a, before)
    assert {key.partition(".")[0] for key in optimizer.state()} == {"b"}


def test_unknown_names_are_refused() -> None:
    with pytest.raises(EngineError, match="did you mean 'adamw'"):
        Optimizer("adam", {"w": parameter()})
    with pytest.raises(StateError, match="does not have"):
        Optimizer("sgd", {}).load_state({}, {"gone.momentum_buffer": torch.zeros(1)})


@pytest.mark.parametrize("spec", [{"name": "sgd", "lr": 1.0}, {"name": "sgd", "momentum": 0.5}])
def test_vectors_with_a_long_gradient_leave_the_steps_of_others_as_they_are(spec: Any) -> None:
    other, vectors = nn.Parameter(torch.zeros(4)), Vectors(torch.zeros(9, 2))
    one = Optimizer({**spec, "lr": 1.0}, {"other": other, "vectors": vectors})
    other.grad, vectors.grad = torch.full((4,), 0.25), torch.full((9, 2), 1e6)
    assert one.step(1.0)
    torch.testing.assert_close(other, torch.full((4,), -0.25))
    assert vectors.norm().item() == pytest.approx(1.0)


def test_the_gradient_of_a_bag_is_shortened_alone_and_one_that_is_not_finite_stops_the_step() -> (
    None
):
    vectors, layer = Vectors(torch.zeros(9, 2), requires_grad=False), nn.Linear(3, 2)
    one = Optimizer({"name": "sgd", "lr": 1.0}, {"vectors": vectors, **dict(layer.named_parameters())})  # fmt: skip
    before = layer.weight.detach().clone()
    bag, x_BN = Bag(vectors, torch.tensor([[1, 2]])), torch.ones(1, 2)
    with torch.no_grad():
        dense = Product(layer.weight, layer.bias, torch.ones(1, 3), torch.full((1, 2), 0.1))
        assert one.step(1.0, [BagProduct.of(bag, x_BN, torch.full((1, 2), 1e6)), dense])
        torch.testing.assert_close(layer.weight, before - 0.1)
        assert vectors.norm().item() == pytest.approx(1.0)
        assert not one.step(1.0, [BagProduct.of(bag, x_BN, torch.full((1, 2), torch.nan)), dense])
        torch.testing.assert_close(layer.weight, before - 0.1)
