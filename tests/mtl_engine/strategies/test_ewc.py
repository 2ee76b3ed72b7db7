"""Online EWC: its information against a loop over rows, its pull against autograd, and the life of its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import Tensor

from mtl_engine.strategies.base import Boundary
from mtl_engine.strategies.ewc import EWC
from tests.support.engines import (
    blobs,
    differences,
    engine,
    labels_of,
    loaded,
    parts,
    saved,
    task,
    weights,
)

if TYPE_CHECKING:
    from mtl_engine.engine import Engine


def ewc(one: Engine) -> EWC:
    return cast("EWC", parts(one).strategy)


def named(one: Engine) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in parts(one).model.named_parameters()}


def trained(steps: range, one: Engine | None = None, **arguments: Any) -> Engine:
    if one is None:
        one = engine({"name": "ewc", **arguments})
        one.add_task(task("a"))
    for step in steps:
        one.observe("a", blobs([0, 1, 2, 0, 1, 2], step), [0, 1, 2, 0, 1, 2])
    return one


def fisher(one: Engine) -> dict[str, Tensor]:
    """Mean of the squared gradients of every row in memory, one by one."""
    trainer = parts(one)
    total = {n: torch.zeros_like(p) for n, p in trainer.model.named_parameters()}
    [table] = trainer.replay.tables.values()
    assert table.x is not None
    slots = table.slots.used().tolist()
    for slot in slots:
        trainer.model.zero_grad()
        z_1C = trainer.model("a", table.x[slot : slot + 1])
        y_1 = torch.tensor([int(table.targets["a"].y[slot])])
        torch.nn.functional.cross_entropy(z_1C, y_1).backward()
        for name, parameter in trainer.model.named_parameters():
            if parameter.grad is not None:
                total[name] += parameter.grad.square() / len(slots)
    trainer.model.zero_grad()
    return total


def test_the_information_is_the_mean_of_the_squared_gradients_of_single_rows() -> None:
    one = trained(range(4))
    before = named(one)
    one.switch_task("a", "second")
    assert ewc(one).fisher.keys() == before.keys()
    for name, wanted in fisher(one).items():
        torch.testing.assert_close(ewc(one).fisher[name], wanted, rtol=1e-4, atol=1e-8)
        assert torch.equal(ewc(one).anchor[name], before[name])
    assert all(torch.equal(before[name], now) for name, now in named(one).items())


def test_it_decays_by_its_factor_at_every_boundary() -> None:
    one = trained(range(4), decay=0.5)
    one.switch_task("a", "second")
    first = {name: f.clone() for name, f in ewc(one).fisher.items()}
    trained(range(4, 6), one)
    fresh = fisher(one)
    one.switch_task("a", "third")
    for name, f in ewc(one).fisher.items():
        torch.testing.assert_close(f, 0.5 * first[name] + fresh[name], rtol=1e-4, atol=1e-8)


def test_two_boundaries_in_one_place_are_one() -> None:
    one = trained(range(4))
    one.switch_task("a", "second")
    before = saved(one)
    one.refresh_teacher()
    one.switch_task("a", "third")
    for name, value in saved(one).tensors.items():
        assert not name.startswith("strategy.") or torch.equal(value, before.tensors[name])


def penalty(one: Engine) -> Tensor:
    strategy, total = ewc(one), torch.zeros(())
    for name, parameter in parts(one).model.named_parameters():
        if name in strategy.fisher:
            old = tuple(slice(n) for n in strategy.fisher[name].shape)
            held = (strategy.strength * strategy.fisher[name]).clamp(max=strategy.cap)
            total = total + 0.5 * (held * (parameter[old] - strategy.anchor[name]) ** 2).sum()
    return total


@pytest.mark.parametrize("cap", [1e6, 0.05])
def test_its_pull_is_the_gradient_of_the_penalty_also_after_a_head_has_grown(cap: float) -> None:
    one = trained(range(4), strength=20.0, cap=cap)
    one.switch_task("a", "second")
    one.observe("a", blobs([3, 4, 3, 4], 9), [3, 4, 3, 4])
    trained(range(5, 9), one)
    trainer = parts(one)
    found = torch.autograd.grad(penalty(one), list(trainer.model.parameters()), allow_unused=True)
    wanted = dict(zip(named(one), found, strict=True))
    trainer.model.zero_grad()
    ewc(one).correct(trainer.optimizer.parameters, {})
    pulled = 0
    for name, parameter in trainer.model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-5, atol=1e-8)
        pulled += int(bool(parameter.grad.abs().sum() > 0))
    assert pulled == len(wanted)
    head = trainer.model.head("a").weight.grad
    assert head is not None
    assert head.shape[0] == 5
    assert not head[3:].any()


def test_the_pull_is_added_to_what_is_trained_on() -> None:
    strong, none = (trained(range(4), strength=strength) for strength in (50.0, 0.0))
    for one in (strong, none):
        one.switch_task("a", "second")
        trained(range(4, 5), one)
    assert torch.equal(torch.from_numpy(weights(strong)), torch.from_numpy(weights(none)))
    before, wanted = named(strong), named(none)
    pull = torch.autograd.grad(penalty(strong), list(parts(strong).model.parameters()))
    for one in (strong, none):
        trained(range(5, 6), one)
    for (name, now), g in zip(named(strong).items(), pull, strict=True):
        free = named(none)[name] - wanted[name]
        torch.testing.assert_close(now - before[name], free - 0.1 * g, rtol=1e-3, atol=1e-6)


def test_a_frozen_head_is_not_pulled() -> None:
    one = trained(range(4), strength=50.0)
    one.switch_task("a", "second")
    trained(range(4, 6), one)
    one.freeze_task("a")
    head = parts(one).model.head("a")
    before = head.weight.detach().clone()
    trained(range(6, 8), one)
    one.switch_task("a", "third")
    assert torch.equal(head.weight, before)
    assert head.weight.grad is None


def test_an_absurd_row_is_held_by_the_cap_and_stops_nothing() -> None:
    """Its squared gradient overflows; the parameter is held by `cap`, and the next boundaries go on."""
    one = trained(range(2), cap=5.0, strength=1e6)
    parameters = dict(parts(one).model.named_parameters())
    huge = {"heads.task:a.bias": torch.tensor([1e30, 1.0, 0.0])}
    for step in (5, 6):
        ewc(one).consolidate(Boundary(step, parameters, lambda _: iter([huge, huge])))
    assert all(bool(torch.isfinite(f).all()) for f in ewc(one).fisher.values())
    with torch.no_grad():
        parameters["heads.task:a.bias"].add_(2.0)
    parts(one).optimizer.zero_grad()
    ewc(one).correct(parts(one).optimizer.parameters, {})
    pull = parameters["heads.task:a.bias"].grad
    assert pull is not None
    assert pull.tolist() == [10.0, 10.0, 0.0]


def test_a_task_that_comes_back_under_its_name_meets_nothing_of_its_past() -> None:
    one = trained(range(4))
    one.add_task(task("b"))
    one.observe("b", blobs([0, 1]), [0, 1])
    one.switch_task("b")
    assert "heads.task:b.weight" in ewc(one).anchor
    one.remove_task("b")
    one.add_task(task("b"))
    one.observe("b", blobs([0, 1, 2, 3]), [0, 1, 2, 3])
    assert "heads.task:b.weight" not in ewc(one).anchor
    assert parts(one).model.columns("b") == 4


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_a_new_process_goes_on_bit_equal_from_any_step(kind: str) -> None:
    """Boundaries come every three steps and at a switch; the process is new after every step."""

    def step_of(one: Engine, number: int) -> None:
        if number == 5:
            one.switch_task("a", "second")
        one.observe("a", blobs([number % 3, 1, 2, 0], number), labels_of(kind, 4, number))

    how: dict[str, Any] = {"teacher_every": 3, "optimizer": {"name": "adamw", "lr": 0.01}}
    whole, broken = (engine("ewc", **how) for _ in range(2))
    for one in (whole, broken):
        one.add_task(task("a", kind))
    for number in range(11):
        step_of(whole, number)
        step_of(broken, number)
        broken = loaded(saved(broken), "ewc", **how)
    assert differences(whole, broken) == []
    assert ewc(broken).step == 9


def test_what_was_learned_before_a_boundary_is_kept_better_than_without_it() -> None:
    def score(name: Any) -> float:
        one = engine(name)
        one.add_task(task("a"))
        for step in range(60):
            one.observe("a", blobs([0, 1, 2, 3], step), [0, 1, 0, 1])
        one.switch_task("a", "second")
        for step in range(60, 360):
            one.observe("a", blobs([30, 31, 32, 33], step), [1, 0, 1, 0])
        found = one.evaluate("a", blobs([0, 1, 2, 3] * 20, 99), [0, 1, 0, 1] * 20)["accuracy"]
        assert found is not None
        return found

    assert score({"name": "ewc", "strength": 1000.0}) > score("finetune") + 0.15
