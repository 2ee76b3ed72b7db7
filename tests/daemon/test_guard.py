"""The guard: what fell after a task switch, until it has recovered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.guard import Guard

if TYPE_CHECKING:
    from daemon.types import Json

TOLERANCES = {"a": 0.02, "b": 0.5}


def scored(rows: int = 100, **parts: float) -> Json:
    named = {name.replace("_", "/"): value for name, value in parts.items()}
    return {"parts": named, "part_rows": dict.fromkeys(named, rows)}


def switched(**parts: float) -> Guard:
    guard = Guard(min_rows=20)
    guard.switched(scored(**parts), TOLERANCES, "7-0")
    return guard


def test_a_part_that_falls_beyond_its_tasks_tolerance_is_told_with_both_numbers() -> None:
    guard = switched(a_one=0.9, b_one=0.9)
    guard.evaluated(scored(a_one=0.8, b_one=0.5), TOLERANCES)
    assert guard.fallen == {"a/one": {"was": 0.9, "is": 0.8}}
    assert guard.is_new
    assert guard.held == "after the switch at 7-0: a/one fell from 0.9000 to 0.8000"


def test_it_is_new_once_and_recovers_once() -> None:
    guard = switched(a_one=0.9)
    for score, is_new, has_recovered in (
        (0.8, True, False), (0.7, False, False), (0.89, False, True), (0.9, False, False),
    ):  # fmt: skip
        guard.evaluated(scored(a_one=score), TOLERANCES)
        assert (guard.is_new, guard.has_recovered) == (is_new, has_recovered)
    assert guard.held == ""


def test_few_held_out_rows_and_parts_that_came_later_are_not_judged() -> None:
    guard = switched(a_one=0.9)
    guard.evaluated(scored(rows=19, a_one=0.1), TOLERANCES)
    assert not guard.fallen
    guard.evaluated(scored(a_two=0.1), TOLERANCES)
    assert not guard.fallen


def test_a_further_switch_does_not_make_a_loss_the_new_normal() -> None:
    guard = switched(a_one=0.9)
    guard.switched(scored(a_one=0.5, a_two=0.8), TOLERANCES, "9-0")
    assert guard.fallen == {"a/one": {"was": 0.9, "is": 0.5}}
    assert guard.base == {"a/one": 0.9, "a/two": 0.8}


def test_what_shows_at_a_further_switch_fell_after_the_one_before() -> None:
    guard = switched(a_one=0.9)
    guard.switched(scored(a_one=0.5), TOLERANCES, "9-0")
    assert guard.since == "7-0"
    assert guard.held.startswith("after the switch at 7-0: ")
    guard.switched(scored(a_one=0.9), TOLERANCES, "11-0")
    assert guard.since == "11-0"


def test_its_state_is_all_that_it_knows() -> None:
    guard = switched(a_one=0.9)
    guard.evaluated(scored(a_one=0.5), TOLERANCES)
    again = Guard(min_rows=20)
    again.load_state(guard.state())
    assert again.state() == guard.state()
    again.evaluated(scored(a_one=0.5), TOLERANCES)
    assert not again.is_new
