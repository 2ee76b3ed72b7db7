"""Alive and ready: what a probe makes of vitals, and what it must not take for a hang."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon import vitals
from daemon.condition import not_live, not_ready
from daemon.types import Vitals


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
