"""What the gate measures by: rows frozen with snapshots of a real engine, followed from champion to champion, kept in few."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from daemon.measures import Measures
from tests.support.core import add_task, entries, feed, fields, machine

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.machine import LogMachine
    from daemon.types import Json
    from mtl_engine.paired import Paired
    from tests.support.core import Fields

KEEP = 2


@pytest.fixture
def one() -> LogMachine:
    """A machine that has learned two tasks and holds rows of them out."""
    made = machine()
    log = [add_task(name, holdout=0.4) for name in "ab"]
    feed(made, entries(log))
    for first in range(0, 100, 20):
        learn(made, first)
    return made


def learn(one: LogMachine, first: int) -> None:
    """More rows of both tasks, so that the model is another one."""
    feed(one, entries([distinct(first, name) for name in "ab"], first + 10))


def distinct(first: int, task: str) -> Fields:
    """Twenty rows whose contents nobody has sent before, of three classes."""
    places = range(first, first + 20)
    data = {
        "x": [[place % 3 - 1.0, place / 100, 1.0] for place in places],
        "y": [place % 3 for place in places],
    }
    return fields("mtl.data.v1", task, id=f"{task} {first}", data=data)


def verdict(against: int | None, decision: str = "promoted", **best: bool) -> Json:
    """What the gate said: whether each task is at its best, and that it lacks a little."""
    tasks = {
        name: {"is_best": is_best, "lack": 0.01, "variance": 0.0002}
        for name, is_best in best.items()
    }
    return {"decision": decision, "against": against, "tasks": tasks}


def add(measures: Measures, version: int, one: LogMachine, said: Json, *named: int) -> None:
    measures.add(version, one.engine.judge, f"{version}-0", said, named)


def follow(
    measures: Measures, version: int | None, one: LogMachine, path: Path | str = "never read"
) -> None:
    measures.follow(version, one.engine.judge, path, f"{version}-0")


def versions(measures: Measures) -> dict[str, list[str]]:
    """The tasks whose rows are kept, by version."""
    return {name: list(told["tasks"]) for name, told in measures.state()["frozen"].items()}


def meet(measures: Measures, one: LogMachine, **accepted: str) -> dict[str, Paired]:
    return measures.meet(one.engine.judge, accepted)[0]


def promoted(one: LogMachine, *stories: Json) -> Measures:
    """A line of champions, each with what the gate said of it."""
    measures = Measures(KEEP)
    for version, said in enumerate(stories, 1):
        add(measures, version, one, said)
        follow(measures, version, one)
        learn(one, 200 * version)
    return measures


FIRST = verdict(None, a=True, b=True)


def test_a_first_champion_is_the_best_of_every_task_and_the_model_meets_it_on_its_rows(
    one: LogMachine,
) -> None:
    measures = promoted(one, FIRST)
    assert (measures.champion, measures.best) == (1, {"a": 1, "b": 1})
    champions, bests, waived = measures.meet(one.engine.judge, {})
    assert champions.keys() == bests.keys() == {"a", "b"}
    assert champions["a"] is bests["a"]  # the same rows: compared once
    assert waived == []


def test_what_the_gate_chose_takes_over_the_bests_that_it_named_and_what_is_lacked(
    one: LogMachine,
) -> None:
    measures = promoted(one, FIRST, verdict(1, a=True, b=False))
    assert (measures.champion, measures.best) == (2, {"a": 2, "b": 1})
    assert {name: lack.loss for name, lack in measures.lacks.items()} == {"a": 0.01, "b": 0.01}
    champions, bests, _ = measures.meet(one.engine.judge, {})
    assert bests["a"] is champions["a"]
    assert bests["b"] is not champions["b"]


def test_a_choice_that_awaited_the_operator_counts_as_the_gates(one: LogMachine) -> None:
    measures = promoted(one, FIRST, verdict(1, "manual", a=True, b=False))
    assert measures.best == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    "said", [verdict(1, "refused", a=True, b=False), verdict(7, a=True, b=False)],
    ids=["forced by hand", "judged against another one"],
)  # fmt: skip
def test_a_champion_that_the_gate_did_not_choose_is_measured_anew(
    one: LogMachine, said: Json
) -> None:
    measures = promoted(one, FIRST, said)
    assert (measures.best, measures.lacks) == ({"a": 2, "b": 2}, {})


def test_a_rollback_to_the_champion_before_measures_by_its_own_rows_again(one: LogMachine) -> None:
    measures = promoted(one, FIRST, verdict(1, a=True, b=True))
    follow(measures, 1, one)
    assert (measures.champion, measures.best, measures.lacks) == (1, {"a": 1, "b": 1}, {})


def test_without_a_champion_nothing_is_measured(one: LogMachine) -> None:
    measures = promoted(one, FIRST)
    follow(measures, None, one)
    assert (measures.champion, measures.best) == (None, {})
    assert measures.meet(one.engine.judge, {}) == ({}, {}, [])


def test_following_the_same_champion_again_changes_nothing(one: LogMachine) -> None:
    measures = promoted(one, FIRST, verdict(1, a=True, b=False))
    before = measures.state()
    follow(measures, 2, one)
    assert measures.state() == before


def test_a_task_accepted_after_the_champion_is_not_held_against_the_next(one: LogMachine) -> None:
    measures = promoted(one, FIRST)
    assert meet(measures, one, a="2-0").keys() == {"b"}
    assert meet(measures, one, a="1-0").keys() == {"a", "b"}  # before it was cut: no longer
    champions, bests, waived = measures.meet(one.engine.judge, {"a": "2-0"})
    assert (waived, "a" in bests, "a" in champions) == (["a"], False, False)


def test_a_version_that_nothing_was_frozen_with_gets_the_rows_of_its_time(
    one: LogMachine, tmp_path: Path
) -> None:
    one.engine.snapshot(tmp_path / "old")
    step = one.engine.step_count
    for first in (500, 520, 540):
        learn(one, first)
    assert (one.engine.judge.held_out.sample("a").step_H > step).any()
    old_rows = int((one.engine.judge.held_out.sample("a").step_H <= step).sum())
    measures = Measures(KEEP)
    follow(measures, 9, one, tmp_path / "old")
    assert (measures.champion, measures.best) == (9, {"a": 9, "b": 9})
    assert meet(measures, one)["a"].rows == old_rows > 0


def test_the_newest_the_named_and_the_champion_are_kept_and_the_bests_of_tasks_alone(
    one: LogMachine,
) -> None:
    measures = promoted(one, FIRST, verdict(1, a=True, b=False))
    for version in (3, 4, 5):
        add(measures, version, one, verdict(2, "refused", a=True, b=True), 3)
    assert versions(measures) == {
        "1": ["b"],  # whose best it is; its rows of a are gone
        "2": ["a", "b"],  # the champion
        "3": ["a", "b"],  # named by an alias
        "4": ["a", "b"], "5": ["a", "b"],
    }  # fmt: skip
    add(measures, 6, one, FIRST)
    assert versions(measures).keys() == {"1", "2", "5", "6"}


def test_a_segment_is_another_one_only_when_a_task_was_dropped_from_it(one: LogMachine) -> None:
    measures = promoted(one, FIRST, verdict(1, a=True, b=False))
    before = {name: number for name, (number, _) in measures.segments().items()}
    add(measures, 3, one, FIRST)
    add(measures, 4, one, FIRST)
    after = {name: number for name, (number, _) in measures.segments().items()}
    assert (after["1"], after["2"]) == (before["1"] + 1, before["2"])


def test_its_state_and_its_segments_are_all_that_it_knows(one: LogMachine) -> None:
    measures = promoted(one, FIRST, verdict(1, a=True, b=False))
    again = Measures(KEEP)
    state = json.loads(json.dumps(measures.state()))
    again.load_state(state, {name: arrays for name, (_, arrays) in measures.segments().items()})
    assert again.state() == measures.state()
    for name, (number, arrays) in measures.segments().items():
        other, copies = again.segments()[name]
        assert (other, copies.keys()) == (number, arrays.keys())
        assert all(copies[key].tobytes() == array.tobytes() for key, array in arrays.items())
    learn(one, 900)
    assert again.meet(one.engine.judge, {}) == measures.meet(one.engine.judge, {})
    assert again.lacks == measures.lacks


def test_a_state_of_before_there_were_frozen_rows_measures_nothing_until_the_next_champion(
    one: LogMachine,
) -> None:
    measures = promoted(one, FIRST)
    measures.load_state({}, {})
    assert measures.state() == Measures(KEEP).state()
    assert measures.meet(one.engine.judge, {}) == ({}, {}, [])
