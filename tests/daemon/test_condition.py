"""Alive, ready, and what is wrong: what is made of vitals, what is no hang, and what is over at once."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon import vitals
from daemon.condition import judge, not_live, not_ready
from daemon.types import Vitals
from tests.support.evaluated import COLLAPSED, evaluation, guard, of_task


def stamp(seconds: float) -> str:
    """So many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def told(**facts: Any) -> Vitals:
    """Vitals of this process, written now."""
    known = {"written_at": vitals.now(), "pid": os.getpid(), "state": "training", "broker_up": True}
    return Vitals(**{**known, "pid_namespace": vitals.pid_namespace(), **facts})


@pytest.fixture(autouse=True)
def _old(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    """This process is older than any vitals of these tests."""
    monkeypatch.setattr("daemon.vitals._running_s", lambda pid: 1e9 if pid == os.getpid() else None)


def test_a_loop_that_ticks_is_live_and_ready() -> None:
    assert not_live(told()) == not_ready(told()) == ""


def test_where_nothing_was_written_nothing_is_live() -> None:
    assert "vitals" in not_live(None)
    assert not_ready(None) == not_live(None)


@pytest.mark.parametrize("facts", [{"pid": 2**22 + 1}, {"state": "stopped"}, {"pid": 0}])
def test_a_process_that_is_gone_is_not_live(facts: dict[str, Any]) -> None:
    assert "no daemon runs" in not_live(told(**facts))


def test_a_loop_that_does_not_tick_hangs() -> None:
    assert not_live(told(written_at=stamp(-29))) == ""
    assert not_live(told(written_at=stamp(-120))) == "silent for 120 s"


def test_a_loop_that_said_it_would_be_busy_does_not_hang_until_then() -> None:
    busy = {"written_at": stamp(-120), "busy": "evaluation"}
    assert not_live(told(**busy, busy_until=stamp(60))) == ""
    late = not_live(told(**busy, busy_until=stamp(-1)))
    assert late == "silent for 120 s, longer than evaluation takes"
    assert "longer" in not_live(told(**busy, busy_until="soon"))


@pytest.mark.parametrize("state", ["paused", "diverged", "draining", "starting"])
def test_what_stands_still_in_order_is_live_but_not_ready(state: str) -> None:
    facts = told(state=state, paused="lunch" if state == "paused" else None)
    assert not_live(facts) == ""
    assert state in not_ready(facts)


def test_without_a_server_it_is_live_but_not_ready() -> None:
    facts = told(state="broker_down", broker_up=False)
    assert not_live(facts) == ""
    assert not_ready(facts) == "the server does not answer"


def test_a_pause_is_told_while_the_server_is_away_too() -> None:
    assert not_ready(told(state="broker_down", broker_up=False, paused="lunch")) == "paused: lunch"


def test_in_another_pid_namespace_only_the_age_tells() -> None:
    elsewhere = {"pid_namespace": "pid:[1]", "pid": 2**22 + 1}
    assert not_live(told(**elsewhere)) == ""
    assert "no daemon runs" in not_live(told(**elsewhere, written_at=stamp(-60)))
    busy = {"busy": "loading", "busy_until": stamp(60)}
    assert not_live(told(**elsewhere, **busy, written_at=stamp(-60))) == ""


def problems(**facts: Any) -> list[str]:
    """What is wrong with vitals that know of two tasks."""
    known = {"tasks": [{"name": "digits"}, {"name": "mood"}], "step": 2000}
    return judge(told(**{**known, **facts}), Path("/nowhere"))["problems"]


def test_a_fallen_part_is_a_problem_that_names_the_task_and_its_sources() -> None:
    fell = "digits fell from 0.96 to 0.50 on 82 rows"
    assert problems(guard=guard()) == [f"{fell}; labels of source cam-b look wrong"]
    assert problems(guard=guard(())) == [fell]
    assert problems(guard=guard(("a", "b", "c", "d", "e"))) == [
        f"{fell}; labels of sources a, b, c and 2 more look wrong"
    ]
    assert problems(guard={"fallen": {}}) == problems(guard={}) == []


def test_of_several_phases_of_a_task_the_one_that_fell_furthest_is_told() -> None:
    found = guard((), "digits/a", "digits/b", "mood")
    found["fallen"]["digits/b"] = {**found["fallen"]["digits/b"], "is": 0.1}
    assert problems(guard=found) == [
        "digits/b and 1 more of its phases fell from 0.96 to 0.10 on 82 rows",
        "mood fell from 0.96 to 0.50 on 82 rows",
    ]


def test_a_collapsed_task_is_a_problem_until_an_evaluation_says_otherwise() -> None:
    tasks = {"mood": of_task(collapsed=COLLAPSED)}
    assert problems(evaluation=evaluation("digits", tasks=tasks)) == [f"mood: {COLLAPSED}"]
    assert problems(evaluation=evaluation("digits", "mood")) == []


def test_scores_are_stale_after_three_missed_evaluations_of_a_task_that_is_trained() -> None:
    def of(**changes: Any) -> Any:
        return evaluation("digits", tasks={"mood": of_task(at=stamp(-960))}, **changes)

    assert problems(evaluation=of()) == ["no new score of mood for 16 min"]
    assert problems(evaluation=of(every_s=330)) == []
    assert problems(evaluation=of(every_s=0)) == []  # at task switches only: there may be none
    assert problems(evaluation=of(), state="idle") == []
    assert problems(evaluation=of(), step=1234) == []  # no step since: it is still true
    unsaid = {key: value for key, value in of().items() if key != "every_s"}
    assert problems(evaluation=unsaid) == ["no new score of mood for 16 min"]
    old = evaluation(tasks={"digits": of_task(at=stamp(-7200)), "mood": of_task(at=stamp(-960))})
    assert problems(evaluation=old) == ["no new score of 2 tasks for 120 min"]


def test_what_a_rollback_leaves_out_is_a_problem_until_reading_has_passed_it() -> None:
    skips = [["900-0", "1000-2"], ["950-0", "1000-10"]]
    assert problems(skips=skips) == ["entries up to 1000-10 are left out"]
    assert problems(skips=[]) == []


def test_vitals_of_before_evaluations_were_told_have_no_such_problem() -> None:
    assert problems(scores={"digits": 0.1}, matrix={"forgetting": 0.9}) == []
