"""The newest evaluation and what it means beside those before: every number worked out by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from daemon.evaluation import Evaluation, moment
from mtl_engine.evaluate import Part, Scored
from mtl_engine.paired import RowErrors, wilson

if TYPE_CHECKING:
    from daemon.types import Json

ROWS = 10


def part(task: str, right: int) -> Part:
    """Ten rows of which so many are right."""
    error_H, ones = np.zeros(ROWS), np.ones(ROWS)
    error_H[right:] = 1.0
    return Part(task, right / ROWS, np.arange(ROWS), RowErrors(error_H, ones, ones))


def scored(**right: int) -> Scored:
    """An evaluation of parts `task_phase`; a task's score is the mean of its parts."""
    parts = {name.replace("_", "/"): part(name[0], count) for name, count in right.items()}
    found = Scored(parts=parts)
    for task in dict.fromkeys(one.task for one in parts.values()):
        own = [one.score for one in parts.values() if one.task == task if one.score is not None]
        score = sum(own) / len(own)
        found.scores[task] = {"accuracy": score, "macro_recall": score - 0.1}
        found.primary[task], found.rows[task] = score, ROWS * len(own)
        found.cards[task] = {"worst": None, "collapsed": ""}
    return found


def evaluated(*rounds: Scored) -> Evaluation:
    one = Evaluation()
    for number, found in enumerate(rounds, 1):
        one.scored(found, f"{number}000-0", 10 * number)
    return one


# a/x falls from 0.9 to 0.5 and comes back to 0.7; a/y and b are there from the second evaluation on.
STORY = (
    scored(a_x=9),
    scored(a_x=5, a_y=8, b_z=6),
    scored(a_x=7, a_y=10, b_z=6),
)


def summary(one: Evaluation, task: str | None = None) -> Json:
    return {
        key: None if value is None else round(value, 12) for key, value in one.summary(task).items()
    }


def test_average_forgetting_and_the_lowest_scores_are_those_of_the_papers() -> None:
    assert summary(evaluated(*STORY)) == {
        "average": round((0.7 + 1.0 + 0.6) / 3, 12),
        "forgetting": round(((0.9 - 0.7) + (0.8 - 1.0) + (0.6 - 0.6)) / 3, 12),
        "min_acc": round((0.5 + 1.0 + 0.6) / 3, 12),  # of a/y since its best, which is now
        "wc_acc": round((0.6 + 2 * (0.5 + 1.0 + 0.6) / 3) / 3, 12),  # b/z is the newest part
    }


def test_a_task_has_the_same_numbers_over_its_own_parts() -> None:
    one = evaluated(*STORY)
    assert summary(one, "b") == {"average": 0.6, "forgetting": 0.0, "min_acc": 0.6, "wc_acc": 0.6}
    told = one.to_dict()["tasks"]["a"]
    assert told["forgetting"] == pytest.approx((0.2 - 0.2) / 2)
    assert told["min_acc"] == pytest.approx((0.5 + 1.0) / 2)


def test_what_was_scored_once_has_forgotten_nothing_and_nothing_has_no_numbers() -> None:
    assert summary(evaluated(STORY[0])) == {
        "average": 0.9, "forgetting": None, "min_acc": 0.9, "wc_acc": 0.9,
    }  # fmt: skip
    assert set(summary(Evaluation()).values()) == {None}
    assert Evaluation().to_dict() == {}


def test_a_score_is_told_with_its_rows_its_interval_its_step_and_its_moment() -> None:
    told = evaluated(*STORY).to_dict()
    assert told["at"] == moment("3000-0") == "1970-01-01T00:00:03.000+00:00"
    assert (told["step"], told["rows"]) == (30, 30)
    a = told["tasks"]["a"]
    assert (a["metric"], a["rows"], a["step"], a["at"]) == ("accuracy", 20, 30, told["at"])
    assert a["score"] == pytest.approx(0.85)
    assert a["interval"] == list(wilson(0.85, 20))
    assert a["macro_recall"] == pytest.approx(0.75)
    assert a["entry"] == "3000-0"


def test_tasks_that_are_scored_alone_leave_the_others_as_they_were() -> None:
    one = evaluated(*STORY, scored(b_z=2))
    told = one.to_dict()["tasks"]
    assert (told["a"]["step"], told["b"]["step"]) == (30, 40)
    assert one.parts["a/x"]["score"] == pytest.approx(0.7)
    assert not one.is_of(40, {"a": 1, "b": 1}, "average")
    assert one.is_of(40, {"b": 1}, "average")
    assert not one.is_of(40, {"b": 1}, "live"), "other weights are published now"
    assert one.is_of(40, {}, "average")


def test_a_metric_that_is_no_proportion_has_no_interval_and_no_score_makes_no_part() -> None:
    found = scored(a_x=9)
    found.scores["p"], found.primary["p"] = {"r2": 0.5}, 0.5
    found.scores["q"], found.primary["q"] = {"accuracy": None}, None
    found.parts["q/x"] = Part("q", None, np.zeros(0), part("q", 0).errors)
    for name in ("p", "q"):
        found.rows[name], found.cards[name] = ROWS, {"worst": None, "collapsed": ""}
    one = evaluated(found)
    assert one.tasks["p"]["interval"] is one.tasks["q"]["interval"] is None
    assert one.parts.keys() == {"a/x"}


def test_its_state_is_all_that_it_knows() -> None:
    one, again = evaluated(*STORY[:2]), Evaluation()
    again.load_state(json.loads(json.dumps(one.state())))
    assert again.to_dict() == one.to_dict()
    for each in (one, again):
        each.scored(STORY[2], "9000-0", 90)
    assert again.state() == one.state()


def test_a_state_of_before_there_were_such_numbers_has_none() -> None:
    one = evaluated(*STORY)
    one.load_state({"scores": {"a": 0.9}})
    assert (one.to_dict(), one.tasks, one.parts) == ({}, {}, {})


def test_a_task_that_is_gone_is_forgotten_with_its_parts() -> None:
    one = evaluated(*STORY)
    changes = one.changes
    one.forget("a")
    assert (one.tasks.keys(), one.parts.keys()) == ({"b"}, {"b/z"})
    assert one.changes > changes  # so that the views are told
    assert summary(one)["average"] == pytest.approx(0.6)
