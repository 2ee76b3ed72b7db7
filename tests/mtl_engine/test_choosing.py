"""Average or live: select rows decide, when asked, and what they decided holds until they speak against it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from mtl_engine.choosing import MIN_ROWS, Comparison
from mtl_engine.defaults import GENERATIONS
from mtl_engine.engine import Engine
from mtl_engine.paired import Paired
from tests.support.engines import blobs, differences, engine, labels_of, loaded, parts, saved, task

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 60  # select rows of a task
CHOSEN: dict[str, Any] = {"weights": "chosen", "ema_decay": 0.9}


def held(one: Engine, name: str, rows: int = ROWS, kind: str = "select") -> None:
    y = [row % 3 for row in range(rows)]
    one.hold_out(name, blobs(y, seed=rows), y, kind=kind)


def trained(tasks: str = "a", rows: int = ROWS, **settings: Any) -> Engine:
    """An engine that knows its tasks, each with so many select rows and as many judge rows."""
    one = engine(**{**CHOSEN, **settings})
    for name in tasks:
        one.add_task(task(name))
    for step in range(40):
        for name in tasks:
            one.observe(name, blobs([0, 1, 2] * 4, seed=step), [0, 1, 2] * 4)
    for name in tasks:
        if rows:
            held(one, name, rows)
            held(one, name, rows, "judge")
    return one


def spoil(one: Engine, which: str) -> None:
    """Make the average or the live weights answer at random; the others stay what they are."""
    average = parts(one).average
    assert average is not None
    live = dict(parts(one).model.named_parameters())
    for number, name in enumerate(live):
        noise = torch.randn(live[name].shape, generator=torch.Generator().manual_seed(number))
        (live[name].data if which == "live" else average.values[name]).copy_(noise)
    parts(one).step_count += 1  # as a step would, so that nothing known of before counts


def accuracy(one: Engine, name: str = "a") -> float:
    score = one.judge.score().primary[name]
    assert score is not None
    return score


def test_the_average_is_published_until_select_rows_speak_against_it() -> None:
    one = trained()
    assert (one.choice.published, one.choice.choose()) == ("average", False)
    spoil(one, "average")
    assert accuracy(one) < 0.7
    assert one.choice.published == "average", "nothing is decided until somebody asks"
    assert one.choice.choose()
    assert one.choice.published == "live"
    assert accuracy(one) > 0.9, "what was known of the other weights' answers is forgotten"


def test_and_the_live_weights_until_these_speak_for_the_average() -> None:
    one = trained()
    spoil(one, "average")
    one.choice.choose()
    average = parts(one).average
    assert average is not None
    with torch.no_grad():
        for name, value in parts(one).model.named_parameters():
            average.values[name].copy_(value)
    parts(one).step_count += 1
    assert (one.choice.choose(), one.choice.published) == (False, "live"), "as good is not better"
    spoil(one, "live")
    assert (one.choice.choose(), one.choice.published) == (True, "average")


def test_at_the_end_of_a_phase_its_task_is_compared_and_the_others_are_taken_as_they_were() -> None:
    one = trained("ab")
    one.choice.choose()
    spoil(one, "average")
    assert one.choice.end("a"), "the average of a is that much worse"
    of_both = one.choice.told()["choice"]
    assert (of_both["tasks"], -0.5 < of_both["difference"] < -0.1) == (2, True), "b as it was"
    assert (one.choice.end(None), one.choice.told()["choice"]) == (False, of_both)


@pytest.mark.parametrize("rows", [0, MIN_ROWS - 1])
def test_without_enough_select_rows_the_average_stays(rows: int) -> None:
    one = trained(rows=rows)
    spoil(one, "average")
    assert (one.choice.counts(), one.choice.choose(), one.choice.published) == ({}, False, "average")  # fmt: skip


def test_when_the_last_task_with_select_rows_goes_the_average_comes_back() -> None:
    one = trained("ab")
    spoil(one, "average")
    one.choice.choose()
    one.remove_task("a")
    assert (one.choice.decide(), one.choice.published) == (False, "live"), "there is b"
    one.remove_task("b")
    assert (one.choice.decide(), one.choice.published) == (True, "average")
    assert one.choice.told() == {"weights": "average", "choice": None}


def test_tasks_that_are_compared_one_by_one_decide_as_those_that_are_compared_together() -> None:
    one, other = trained("ab"), trained("ab")
    spoil(one, "average")
    spoil(other, "average")
    one.choice.choose()
    for name in ("b", "a", "gone"):
        other.choice.compare([name])
        assert other.choice.published == "average"
    other.choice.decide()
    assert one.choice.told() == other.choice.told()
    assert one.choice.told()["choice"]["rows"] == 2 * ROWS


def compared(loss: float, spread: float = 0.0, rows: int = 500) -> Comparison:
    return Comparison.of(Paired(rows, loss, 0.0, spread, 1.0, 1.0))


def test_four_rows_that_flip_one_way_decide_nothing_and_seven_do() -> None:
    for flipped, speaks in ((4, False), (7, True)):
        spread = (flipped * (1 - flipped / 100)) ** 0.5 / 100
        one = compared(flipped / 100, spread, rows=100)
        assert (one.difference + 1.96 * one.spread < 0) == speaks


def test_a_metric_without_a_bound_counts_as_one_task_of_many() -> None:
    wild = compared(50.0, 10.0)
    assert (wild.difference, round(wild.spread, 3)) == (-1.0, 0.2)


def test_a_switch_decides_before_it_scores_teaches_and_restarts_the_average() -> None:
    one = trained(strategy={"name": "lwf"})
    spoil(one, "average")
    live = {name: value.detach().clone() for name, value in parts(one).model.named_parameters()}
    report = one.switch_task("a", "late")
    teacher = parts(one).teacher
    assert teacher is not None
    assert all(torch.equal(value, live[name]) for name, value in teacher.model.named_parameters())
    assert report.scores["a"] == accuracy(one) > 0.9
    assert one.choice.published == "live"


@pytest.mark.parametrize(("how", "published"), [("ema", "average"), ("raw", "live")])
def test_where_the_user_has_chosen_nothing_is_decided(how: str, published: str) -> None:
    one = trained(weights=how)
    if how == "ema":
        spoil(one, "average")
    one.switch_task("a")
    assert (one.choice.choose(), one.choice.published) == (False, published)
    assert one.choice.told() == {"weights": published, "choice": None}
    assert saved(one).meta["choice"] is None


def test_the_same_state_decides_the_same_after_it_was_kept_and_loaded() -> None:
    one = trained("ab")
    spoil(one, "average")
    one.choice.compare(["a"])
    other = loaded(saved(one), **CHOSEN)
    assert differences(one, other) == []
    for each in (one, other):
        each.choice.compare(["b"])
        assert each.choice.decide()
        each.switch_task("b")
        each.observe("a", blobs([0, 1, 2]), [0, 1, 2])
    assert differences(one, other) == []
    again = loaded(saved(other), **CHOSEN)
    assert again.choice.told() == other.choice.told()
    assert again.choice.published == "live"


@pytest.mark.parametrize("generation", [None, 1, 2])
def test_a_state_of_before_goes_on_with_the_average(generation: int | None) -> None:
    small: dict[str, Any] = {"num_threads": 1, "trunk": {"width": 16, "depth": 1}}
    old, new = Engine(**small, **GENERATIONS[(generation or 1) - 1]), Engine(**small)
    for step in range(9):
        if not step:
            old.add_task(task("a"))
        old.observe("a", blobs([0, 1, 2] * 4, seed=step), [0, 1, 2] * 4)
    held(old, "a")
    meta = {name: told for name, told in saved(old).meta.items() if name not in ("choice", "defaults")}  # fmt: skip
    new.load_state_dict(replace(saved(old), meta=meta | ({"defaults": generation} if generation else {})))  # fmt: skip
    spoil(new, "average")
    new.switch_task("a")
    assert (new.describe()["weights"], new.choice.published) == ("ema", "average")


def test_a_user_who_asks_for_it_has_it_in_a_state_of_before_too() -> None:
    old = trained(weights="ema")
    one = loaded(saved(old), **CHOSEN)
    spoil(one, "average")
    assert (one.choice.published, one.choice.choose()) == ("average", True)
    back = loaded(saved(one), weights="ema", ema_decay=0.9)
    assert back.choice.published == "average"


def test_a_snapshot_has_the_weights_that_were_chosen_and_says_why(tmp_path: Path) -> None:
    one = trained()
    spoil(one, "average")
    one.choice.choose()
    manifest = one.snapshot(tmp_path / "snapshot")
    told = manifest["choice"]
    assert (manifest["weights"], told["tasks"], told["rows"]) == ("live", 1, ROWS)
    assert told["interval"][0] < told["difference"] < told["interval"][1] < 0
    assert told["step"] == one.step_count
    assert manifest["scores"]["a"]["accuracy"] == accuracy(one)


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_every_kind_of_task_has_a_say(kind: str) -> None:
    one = engine(**CHOSEN)
    one.add_task(task("a", kind))
    x = blobs([row % 3 for row in range(30)])
    y = np.asarray(labels_of(kind, 30))
    for _ in range(60):
        one.observe("a", x, y)
    one.hold_out("a", x, y, kind="select")
    spoil(one, "average")
    assert (one.choice.choose(), one.choice.published) == (True, "live")
