"""The guard: what fell, row by row on the same rows, until it has recovered or is accepted; and no alarm by chance."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.guard import RENEW_STEPS, Guard
from mtl_engine.evaluate import Part, Scored
from mtl_engine.paired import RowErrors

TOLERANCES = {"a": 0.02, "b": 0.5}
ROWS = 200
DRAW = np.random.default_rng(3)


def part(task: str, wrong: int, rows: int = ROWS, first: int = 0, shift: int = 0) -> Part:
    """A part with so many wrong rows, those from `shift` on; its rows are numbered from `first`."""
    error_H = np.zeros(rows)
    error_H[(shift + np.arange(wrong)) % rows] = 1.0
    ones = np.ones(rows)
    errors = RowErrors(error_H, ones, ones)
    return Part(task, errors.score, first + np.arange(rows), errors)


def scored(**parts: Part) -> Scored:
    return Scored(parts={name.replace("_", "/"): found for name, found in parts.items()})


def switched(**parts: Part) -> Guard:
    guard = Guard(min_rows=20)
    guard.switched(scored(**parts), TOLERANCES, "7-0", 100)
    return guard


def evaluated(guard: Guard, at: str = "8-0", step: int = 200, **parts: Part) -> Guard:
    guard.evaluated(scored(**parts), TOLERANCES, at, step)
    return guard


def test_a_part_that_falls_is_told_with_both_scores_and_the_rows_it_fell_on() -> None:
    guard = evaluated(switched(a_one=part("a", 10), b_one=part("b", 10)), a_one=part("a", 60), b_one=part("b", 60))  # fmt: skip
    assert guard.fallen == {
        "a/one": {"task": "a", "was": pytest.approx(0.95), "is": pytest.approx(0.7), "rows": 200, "at": "8-0", "sources": []}
    }  # fmt: skip
    assert guard.is_new
    assert guard.held == "after the switch at 7-0: a/one fell from 0.9500 to 0.7000"


def test_a_loss_that_chance_explains_is_no_fall() -> None:
    guard = switched(a_one=part("a", 10))
    assert not evaluated(
        guard, a_one=part("a", 14, shift=3)
    ).fallen  # 2 percent lower, by a few rows
    few = switched(a_one=part("a", 0, rows=20))
    assert not evaluated(few, a_one=part("a", 10, rows=20)).fallen  # half of 20 rows: 2^-10
    assert evaluated(few, a_one=part("a", 16, rows=20)).fallen  # 2^-16


def test_good_data_raises_no_alarm_in_a_thousand_evaluations_of_twenty_parts() -> None:
    names = [f"a_{number}" for number in range(20)]
    difficulty = {name: DRAW.random(82) for name in names}

    def now() -> dict[str, Part]:
        """A model of one quality, whose answers near its border are another chance's each time."""
        found = {}
        for name in names:
            error_H = (difficulty[name] + 0.1 * DRAW.standard_normal(82) > 0.9).astype(np.float64)
            errors = RowErrors(error_H, np.ones(82), np.ones(82))
            found[name] = Part("a", errors.score, np.arange(82), errors)
        return found

    guard = switched(**now())
    alarms = 0
    for number in range(1000):
        evaluated(guard, at=f"{number + 10}-0", step=100 + 50 * number, **now())
        alarms += guard.is_new
    assert alarms == 0


def test_it_is_new_once_and_recovers_once() -> None:
    guard = switched(a_one=part("a", 10))
    for wrong, is_new, has_recovered in (
        (60, True, False), (80, False, False), (12, False, True), (10, False, False),
    ):  # fmt: skip
        evaluated(guard, a_one=part("a", wrong))
        assert (guard.is_new, guard.has_recovered) == (is_new, has_recovered)
    assert guard.held == ""


def test_rows_that_went_and_rows_that_came_are_not_compared() -> None:
    guard = switched(a_one=part("a", 10))
    evaluated(guard, a_one=part("a", 190, first=190))  # ten rows are the same ones
    assert not guard.fallen
    guard = evaluated(switched(a_one=part("a", 10)), a_two=part("a", 200))
    assert not guard.fallen


def test_a_part_that_fell_stays_so_though_its_rows_go() -> None:
    guard = evaluated(switched(a_one=part("a", 10)), a_one=part("a", 100))
    assert evaluated(guard, a_one=part("a", 0, first=1000)).fallen.keys() == {"a/one"}
    assert not evaluated(guard, a_one=part("a", 10)).fallen


def test_a_further_switch_does_not_make_a_loss_the_new_normal() -> None:
    guard = switched(a_one=part("a", 10))
    guard.switched(scored(a_one=part("a", 100), a_two=part("a", 30)), TOLERANCES, "9-0", 300)
    assert guard.fallen["a/one"]["was"] == pytest.approx(0.95)
    assert guard.since == "7-0"
    assert guard.held.startswith("after the switch at 7-0: ")
    guard.switched(scored(a_one=part("a", 10), a_two=part("a", 30)), TOLERANCES, "11-0", 400)
    assert guard.since == "11-0"


def test_what_the_operator_accepts_is_the_measure_from_the_next_evaluation_on() -> None:
    guard = evaluated(switched(a_one=part("a", 10)), a_one=part("a", 100))
    guard.accept("a")
    assert not guard.fallen
    assert not evaluated(guard, a_one=part("a", 100)).fallen
    assert evaluated(guard, a_one=part("a", 150)).fallen["a/one"]["was"] == pytest.approx(0.5)


def test_without_any_switch_the_first_evaluation_is_the_base_and_it_is_renewed_in_time() -> None:
    guard = evaluated(Guard(min_rows=20), a=part("a", 10))
    evaluated(guard, step=RENEW_STEPS + 100, a=part("a", 6))
    assert guard.base["a"].step == 200
    evaluated(guard, step=RENEW_STEPS + 200, a=part("a", 14))
    assert guard.base["a"].step == RENEW_STEPS + 200
    assert evaluated(guard, a=part("a", 80)).fallen["a"]["was"] == pytest.approx(0.93)
    assert guard.held.startswith("after the switch at the start: ")


def test_rows_that_flipped_since_the_base_are_counted_both_ways() -> None:
    guard = switched(a_one=part("a", 10), b_one=part("b", 10))
    now = scored(a_one=part("a", 10, shift=4), a_two=part("a", 3), b_one=part("b", 12, first=100))
    found = guard.flipped(now)
    assert found.keys() == {"a/one", "b/one"}  # what came since then has no base
    told = found["a/one"]
    assert (told["task"], told["step"], told["rows"]) == ("a", 100, 200)
    assert (told["worse"], told["better"]) == (4, 4)  # though the score is the same
    assert told["was"] == told["is"] == pytest.approx(0.95)
    assert (found["b/one"]["rows"], found["b/one"]["worse"]) == (100, 12)  # the common ones
    assert not Guard(min_rows=20).flipped(now)


@pytest.mark.parametrize(
    "now",
    [part("a", 10), part("a", 100, rows=2 * ROWS)],
    ids=["surely better", "twice as many rows"],
)
def test_a_base_that_says_little_is_renewed_before_its_time(now: Part) -> None:
    guard = evaluated(Guard(min_rows=20), a=part("a", 100))
    assert evaluated(guard, step=300, a=part("a", 99)).base["a"].step == 200
    assert evaluated(guard, step=400, a=now).base["a"].step == 400


def test_where_senders_contradict_each_other_rows_that_came_since_speak_for_their_part() -> None:
    """The model answers the old rows as it did, and half of what came since wrong."""
    old, new = part("a", 10), part("a", 60, rows=120, first=ROWS)
    errors = RowErrors(*(np.append(getattr(old.errors, key), getattr(new.errors, key))
                         for key in ("error_H", "size_H", "weight_H")))  # fmt: skip
    both = Part("a", errors.score, np.append(old.id_H, new.id_H), errors)
    guard = switched(a_one=old)
    assert not evaluated(guard, a_one=both).fallen, "they are harder rows, for all that is known"
    guard.contested = ["a"]
    fall = evaluated(guard, a_one=both).fallen["a/one"]
    assert (fall["was"], fall["is"], fall["rows"]) == (pytest.approx(0.95), 0.5, 120)
    guard.contested = []
    assert not evaluated(guard, a_one=both).fallen
    assert guard.has_recovered


def test_its_state_is_all_that_it_knows() -> None:
    guard = evaluated(switched(a_one=part("a", 10), b_one=part("b", 3)), a_one=part("a", 100))
    arrays, state = guard.state()
    again = Guard(min_rows=20)
    again.load_state(arrays, state)
    assert again.state()[1] == state
    assert {name: array.tobytes() for name, array in again.state()[0].items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    for each in (guard, again):
        evaluated(each, a_one=part("a", 50), b_one=part("b", 190))
    assert again.fallen == guard.fallen
    assert not again.is_new or guard.is_new


def test_a_state_of_a_build_that_kept_scores_alone_goes_on_with_what_fell() -> None:
    guard = Guard(min_rows=20)
    old = {
        "base": {"a/one": 0.9, "b": 0.8},
        "since": "7-0",
        "fallen": {"a/one": {"was": 0.9, "is": 0.4}},
    }
    guard.load_state({}, old)
    assert guard.held == "after the switch at 7-0: a/one fell from 0.9000 to 0.4000"
    assert evaluated(guard, a_one=part("a", 100)).fallen
    assert not evaluated(guard, a_one=part("a", 10)).fallen
    assert evaluated(guard, a_one=part("a", 100)).fallen


def test_a_line_for_the_journal_stays_what_it_was() -> None:
    guard = evaluated(switched(a_one=part("a", 10)), a_one=part("a", 100))
    ((_, line),) = guard.news()
    guard.name_senders({"a": ["cam-b"]})
    assert guard.fallen["a/one"]["sources"] == ["cam-b"]
    assert line["parts"]["a/one"]["sources"] == []
