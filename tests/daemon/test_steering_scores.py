"""Evaluations and accepted levels are decisions in the log: some tasks at a time, once, and training goes on in between."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from daemon import rounds
from daemon.types import Request
from tests.support.core import (
    RecordingLog,
    add_task,
    ask,
    config,
    differences,
    eager,
    feed,
    loop,
    machine,
    play,
    rows,
    without_outbox,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from daemon.loop import Loop
    from daemon.types import Entry, Json
    from tests.support.core import Script

TASKS = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    eager(monkeypatch)
    monkeypatch.setattr(rounds, "SCORED_ROWS", 2)  # so that every task is a chunk of its own


@pytest.fixture
def log() -> RecordingLog:
    """Three tasks with rows held out."""
    made = RecordingLog()
    for name in TASKS:
        made.add(add_task(name, holdout=0.5))
    for name in TASKS:
        made.add(rows(1, 24, name))
    return made


@pytest.fixture
def one(tmp_path: Path, log: RecordingLog) -> Loop:
    return loop(config(tmp_path), log)


def decisions(log: RecordingLog, kind: str) -> list[tuple[Entry, Json]]:
    """What the daemon decided, as it stands in the log."""
    found: list[tuple[Entry, Json]] = []
    for each in log.ever:
        if each.fields[b"type"] == b"mtl.control.v1":
            told = json.loads(each.fields[b"data"])
            if told["kind"] == kind:
                found.append((each, told))
    return found


def tasks_of(log: RecordingLog) -> list[str]:
    return [told["tasks"] for _, told in decisions(log, "evaluate") if "tasks" in told]


def test_an_evaluation_goes_through_the_log_some_tasks_at_a_time(
    one: Loop, log: RecordingLog
) -> None:
    def script() -> Script:
        yield None
        answers = ask(one, "score")
        yield lambda: answers
        assert answers[0]["appended"]
        yield lambda: len(tasks_of(log)) == len(TASKS)
        yield None

    play(one, script())
    assert tasks_of(log) == list(TASKS)
    step = one.machine.engine.step_count
    assert {name: told["step"] for name, told in one.machine.evaluation.tasks.items()} == dict.fromkeys(TASKS, step)  # fmt: skip


def after_the_first(one: Loop, act: Callable[[], object]) -> None:
    """Have all scored, and `act` as soon as the first decision was carried out."""
    enter = one.machine.enter

    def entered(entry: Entry) -> bytes:
        key = enter(entry)
        if one.machine.evaluation.tasks:
            one.machine.enter = enter
            act()
        return key

    one.machine.enter = entered

    def script() -> Script:
        yield None
        answers = ask(one, "score")
        yield lambda: answers
        yield None

    play(one, script())


def test_what_was_sent_meanwhile_is_trained_in_between(one: Loop, log: RecordingLog) -> None:
    after_the_first(one, lambda: log.add(rows(30, 16)))
    steps = [one.machine.evaluation.tasks[name]["step"] for name in TASKS]
    assert steps[0] < steps[1] == steps[2]


def test_what_is_being_scored_or_was_at_this_step_is_not_scored_again(
    one: Loop, log: RecordingLog
) -> None:
    answers: list[Json | None] = []

    def again() -> None:
        answers.append(one.steering.score(Request("score", {}, lambda _: None)))

    after_the_first(one, again)
    again()
    assert answers == [{"appended": None}] * 2
    assert tasks_of(log) == list(TASKS)


def test_a_task_that_goes_in_the_middle_is_passed_over(one: Loop, log: RecordingLog) -> None:
    def script() -> Script:
        yield None
        answers = ask(one, "score")
        log.add({"specversion": "1.0", "id": "r", "source": "test/1", "type": "mtl.task.retire.v1", "subject": "b"})  # fmt: skip
        yield lambda: answers and len(tasks_of(log)) == len(TASKS)
        yield None

    play(one, script())
    assert one.machine.evaluation.tasks.keys() == {"a", "c"}


def test_a_rollback_ends_an_evaluation_under_way(one: Loop, log: RecordingLog) -> None:
    after_the_first(one, one.steering.rolled_back)
    assert tasks_of(log) == ["a"]


def test_a_machine_that_reads_the_same_log_has_the_same_evaluation(
    one: Loop, log: RecordingLog
) -> None:
    def script() -> Script:
        yield None
        answers = [ask(one, "score"), ask(one, "accept", task="a")]
        yield lambda: all(answers) and len(tasks_of(log)) == len(TASKS)
        yield None

    play(one, script())
    straight = machine(teacher_every=2000)
    feed(straight, log.ever)
    assert differences(without_outbox(one.machine), without_outbox(straight)) == []


def test_a_level_is_accepted_by_a_decision_in_the_log(one: Loop, log: RecordingLog) -> None:
    def script() -> Script:
        yield None
        answers = ask(one, "accept", task="b")
        yield lambda: answers
        ((entry, told),) = decisions(log, "accept")
        assert answers == [{"task": "b", "appended": entry.id}]
        assert told["task"] == "b"
        yield lambda: one.machine.judgement.accepted
        assert one.machine.judgement.accepted == {"b": entry.id}
        yield None

    play(one, script())
    assert [line["kind"] for line in log.journal].count("level_accepted") == 1


def test_of_a_task_that_there_is_not_nothing_is_accepted(one: Loop, log: RecordingLog) -> None:
    def script() -> Script:
        yield None
        answers = ask(one, "accept", task="z")
        yield lambda: answers
        assert answers[0]["error"] == "no task 'z'; there are a, b, c"
        assert answers[0]["exit_code"] == 7

    play(one, script())
    assert decisions(log, "accept") == []


def test_evaluate_brings_what_flipped_and_narrows_to_the_tasks_that_are_named(
    one: Loop, log: RecordingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.appraisal.CARDS", 1)

    def script() -> Script:
        yield None
        log.add({"specversion": "1.0", "id": "s", "source": "test/1", "type": "mtl.task.switch.v1", "subject": "a"})  # fmt: skip
        log.add(rows(40, 16))
        yield None
        answers = [ask(one, "evaluate"), ask(one, "evaluate", tasks=["c"])]
        yield lambda: all(answers)
        ((whole,), (named,)) = answers
        assert whole["flipped"] == named["flipped"]
        assert {part["task"] for part in whole["flipped"].values()} == set(TASKS)
        told = [[name for name, card in each["scorecards"].items() if "classes" in card] for each in (whole, named)]  # fmt: skip
        assert told == [["a"], ["c"]]
        assert set(whole["senders"]) <= set(TASKS)

    play(one, script())
