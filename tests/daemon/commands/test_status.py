"""`mtld status`: what it says of every state, and the exit codes that monitoring relies on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.types import Vitals
from tests.daemon.commands.conftest import Mtld
from tests.support.evaluated import COLLAPSED, SENDERS, evaluation, guard, of_task

Tell = Callable[..., Vitals]


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


DIGITS = [{"name": "digits"}]


def full() -> dict[str, Any]:
    """Vitals with everything in them, and everything long."""
    tasks = [{"name": f"task-{'n' * n}", "replay_rows": 10**n} for n in range(1, 9)]
    long = of_task(worst={"class": "c" * 99, "recall": 0.5, "rows": 10**6}, rows=10**6)
    return {
        "state": "broker_down", "reason": "r" * 100, "broker": f"valkey 9.1.2 unix:///{'x' * 100}", "namespace": "ns",
        "task": "fashion", "phase": "p" * 90, "tasks": tasks, "step": 123_456_789, "rows_per_s": 12_345.6,
        "lag_events": 4_321, "pending_rows": 31, "replay_rows": 500, "replay_bytes": 392_000, "recovery_s": 1.25,
        "counters": {"trained_rows": 10**9, "held_out_rows": 10**8, "duplicate_rows": 10**7, "dead_rows": 10**6,
                     "dead_events": 10**5, "lost_events": 7, "lost_is_lower_bound": True},
        "checkpoint": {"seq": 12, "step": 100, "at": ago(4), "stage_ms": 1.5, "write_ms": 80.0, "bytes": 20 << 20},
        "snapshot": {"version": 3, "at": ago(250), "scores": {}}, "bit_exact": False, "bit_exact_reason": "b" * 90,
        "faults": {"stream_regressed": {"count": 2, "last": ago(60), "detail": "d" * 200}},
        "evaluation": evaluation(tasks={task["name"]: long for task in tasks}),
    }  # fmt: skip


def test_a_daemon_that_never_ran_is_not_running(mtld: Mtld) -> None:
    result = mtld("status")
    assert result.code == 3
    assert result.out == ""
    assert "start one with `mtld run`" in result.err
    assert result.err.count("\n") == 1


def test_a_training_daemon_is_healthy(mtld: Mtld, tell: Tell) -> None:
    tell()
    result = mtld("status", "--check")
    assert result.code == 0
    assert result.out.startswith("training; as of 0 s ago")
    assert "do next     nothing" in result.out


def test_everything_fits_a_screen_of_80_columns(mtld: Mtld, tell: Tell) -> None:
    tell(**full())
    shown = mtld("status").out.splitlines()
    assert max(map(len, shown)) <= 80
    assert len(shown) <= 24


def test_a_daemon_that_died_is_shown_as_it_last_was(mtld: Mtld, tell: Tell) -> None:
    tell(written_at=ago(86_400 * 365), step=77)
    result = mtld("status")
    assert result.code == 3
    assert "NOT RUNNING (was training)" in result.out
    assert "step 77" in result.out
    assert "resumes at its last checkpoint" in result.out


def test_a_daemon_that_stopped_in_order_is_not_running(mtld: Mtld, tell: Tell) -> None:
    tell(state="stopped")
    assert mtld("status", "--check").code == 3


def test_the_accounting_adds_up(mtld: Mtld, tell: Tell) -> None:
    tell(**full())
    found = mtld("status", "-o", "json").json["accounting"]
    parts = ("trained", "held_out", "duplicate", "dead", "pending")
    assert found["sent"] == sum(found[part] for part in parts) == 1_111_000_031
    assert (found["lost_events"], found["lost_is_lower_bound"], found["dead_events"]) == (
        7,
        True,
        100_000,
    )
    shown = mtld("status").out
    assert "sent 1,111,000,031 = trained 1,000,000,000 + held out 100,000,000" in shown
    assert "lost at least 7" in shown


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"state": "idle"}, "send data with `mtld push`"),
        ({"state": "paused"}, "`mtld resume`"),
        ({"state": "paused", "events": [{"kind": "paused", "at": ago(0)}]}, "paused since 20"),
        ({"state": "broker_down"}, "tries again by itself"),
        ({"state": "broker_full"}, "give the server memory"),
        ({"state": "stream_exhausted"}, "delete the stream"),
        ({"state": "diverged"}, "lower the learning rate"),
        ({"state": "recovering"}, "wait"),
        ({"events": [{"kind": "dead_letter", "at": ago(60)}]}, "`mtld dead list`"),
        ({"tasks": DIGITS, "guard": guard()}, "(the world changed): `mtld task accept digits`"),
        (
            {"tasks": DIGITS, "guard": guard()},
            "`mtld tail --kind guard_fell`; if its rows are wrong: `mtld pause`, `mtld rollback`",
        ),
        (
            {
                "tasks": DIGITS,
                "evaluation": evaluation(tasks={"digits": of_task(collapsed=COLLAPSED)}),
            },
            "`mtld task show digits`",
        ),
        ({"skips": [["1-0", "1733-5"]]}, "until 1733-5 is read; `mtld tail --kind rolled_back`"),
        (
            {
                "tasks": DIGITS,
                "step": 2000,
                "evaluation": evaluation(tasks={"digits": of_task(at=ago(2000))}),
            },
            "`mtld evaluate`",
        ),
        ({"snapshot": {"version": 4, "verdict": "held"}}, "`mtld task accept TASK`"),
        ({"snapshot": {"version": 4, "verdict": "refused"}}, "`mtld snapshot show latest`"),
        ({"faults": {"events_lost": {"last": ago(60)}}}, "`mtld tail --kind events_lost`"),
        ({"faults": {"checkpoint_failed": {"last": ago(60)}}}, "make room on the disk"),
        ({"lag_events": 10_000}, "`mtld doctor`"),
    ],
)
def test_the_advice_names_the_next_thing_to_do(
    mtld: Mtld, tell: Tell, facts: dict[str, Any], says: str
) -> None:
    tell(**facts)
    assert says in mtld("status", "-o", "json").json["advice"]


@pytest.mark.parametrize(
    "facts",
    [
        {"counters": {"dead_events": 9, "lost_events": 9}},
        {"events": [{"kind": "dead_letter", "at": ago(7200)}]},
        {
            "events": [{"kind": "guard_fell", "at": ago(9)}],
            "tasks": DIGITS,
            "guard": {"fallen": {}},
        },
        {"tasks": [], "guard": guard()},  # the task that fell was retired
        {
            "tasks": DIGITS,
            "evaluation": evaluation("digits"),
            "guard": {},
            "senders": SENDERS,
            "skips": [],
        },
        {"faults": {"events_lost": {"last": ago(7200)}}},
    ],
)
def test_what_is_over_is_no_advice(mtld: Mtld, tell: Tell, facts: dict[str, Any]) -> None:
    tell(**facts)
    assert mtld("status", "-o", "json").json["advice"] == "nothing"


def test_advice_and_reason_are_never_cut_off(mtld: Mtld, tell: Tell) -> None:
    tell(state="broker_down", reason=f"the server {'x' * 60} does not answer: connection refused")
    shown = " ".join(mtld("status").out.split())
    assert "does not answer: connection refused; as of" in shown
    assert "the daemon tries again by itself (`mtld doctor`)" in shown


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"state": "paused"}, "paused"),
        ({"state": "broker_down"}, "broker_down"),
        ({"lag_events": 10_000}, "lag of 10000 events"),
        (
            {"skips": [["1732-0", "999-5"], ["1732-0", "1733-5"]]},
            "entries up to 1733-5 are left out",
        ),
        ({"faults": {"lease_lost": {"count": 1, "last": ago(10), "detail": ""}}}, "lease_lost"),
    ],
)
def test_what_is_degraded_exits_5_when_checked(
    mtld: Mtld, tell: Tell, facts: dict[str, Any], problem: str
) -> None:
    tell(**facts)
    assert mtld("status").code == 0
    result = mtld("status", "--check", "-o", "json")
    assert result.code == 5
    assert result.json["problems"] == [problem]


@pytest.mark.parametrize("named", ["training", "idle", "starting", "recovering", "draining"])
def test_what_is_on_its_way_is_not_degraded(mtld: Mtld, tell: Tell, named: str) -> None:
    tell(state=named)
    assert mtld("status", "--check").code == 0


def test_an_old_fault_is_shown_and_is_no_longer_a_problem(mtld: Mtld, tell: Tell) -> None:
    tell(faults={"stream_regressed": {"count": 2, "last": ago(7200), "detail": "why"}})
    result = mtld("status", "--check")
    assert result.code == 0
    assert "stream_regressed x2, 2 h ago: why" in result.out


def test_a_daemon_that_hangs_is_told_from_one_that_is_busy(
    mtld: Mtld, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.vitals.is_alive", lambda _: True)
    tell(written_at=ago(120))
    result = mtld("status", "--check", "-o", "json")
    assert result.code == 5
    assert "kill -9 is safe" in result.json["advice"]


def test_a_vitals_file_that_is_none_does_not_crash_it(mtld: Mtld, state: Path) -> None:
    (state / "vitals.json").write_text("{")
    assert mtld("status").code == 3


def test_watching_shows_it_again(mtld: Mtld, tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    tell()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("daemon.commands.status.time.sleep", sleep)
    result = mtld("status", "--watch")
    assert result.out.count("training") == 2
    assert result.code == 0  # Ctrl-C is how one stops looking


def test_every_task_is_shown_as_the_newest_evaluation_knows_it(mtld: Mtld, tell: Tell) -> None:
    told = evaluation(tasks={"digits": of_task(at=ago(12)), "price": of_task(metric="r2", score=None, worst=None, interval=None, macro_recall=None)})  # fmt: skip
    tell(tasks=[{"name": "digits"}, {"name": "price"}, {"name": "new"}], evaluation=told)
    shown = mtld("status").out.splitlines()
    assert "scores      average 0.930, forgot 0.020, min-ACC 0.810, WC-ACC 0.880; 0 s ago" in shown
    cells = [line.split() for line in shown[-4:]]
    assert cells[0] == ["TASK", "SCORE", "+-", "ROWS", "AGE", "RECALL", "WORST", "CLASS"]
    assert cells[1] == ["digits", "accuracy", "0.970", "0.023", "240", "12", "s", "0.960", "0.850", "8"]  # fmt: skip
    assert cells[2] == ["price", "r2", "-", "-", "240", "0", "s", "-", "-"]
    assert cells[3] == ["new", "-", "-", "-", "-", "-", "-"]


def test_before_the_first_evaluation_nothing_is_made_up(mtld: Mtld, tell: Tell) -> None:
    tell(tasks=[{"name": "digits"}], scores={"digits": 0.5}, snapshot={"scores": {"digits": 0.5}})
    shown = mtld("status").out
    assert "scores      none yet" in shown
    assert "0.5" not in shown


def test_what_fell_is_marked_comes_first_and_is_told_with_its_sources(
    mtld: Mtld, tell: Tell
) -> None:
    tell(tasks=[{"name": "mood"}, {"name": "digits"}], evaluation=evaluation("mood", "digits"), guard=guard(), senders=SENDERS)  # fmt: skip
    shown = mtld("status").out
    text = " ".join(shown.split())
    assert "digits fell from 0.96 to 0.50 on 82 rows; labels of source cam-b look wrong" in text
    assert "sources digits: cam-b 0.110 of 850 rows looks wrong, cam-a 0.950 of 900 rows" in text
    tasks = [line.split()[:2] for line in shown.split("TASK ")[1].splitlines()[1:3]]
    assert tasks == [["digits", "FELL"], ["mood", "accuracy"]]


def test_one_source_of_a_task_that_is_well_is_not_worth_a_line(mtld: Mtld, tell: Tell) -> None:
    tell(tasks=[{"name": "digits"}], senders={"digits": {"cam-a": {"score": 0.9, "rows": 9}}})
    assert "sources" not in mtld("status").out


def test_many_problems_leave_room_for_the_rest(mtld: Mtld, tell: Tell) -> None:
    names = [f"task-{number}" for number in range(40)]
    tell(tasks=[{"name": name} for name in names], guard=guard(("cam",), *names), senders=dict.fromkeys(names, SENDERS["digits"]))  # fmt: skip
    shown = mtld("status").out
    assert shown.count("fell from") == 4
    assert "and 36 more: `mtld status -o json`" in shown
    assert shown.count("cam-b 0.110") == 3
    assert "and those of 37 more tasks" in shown
