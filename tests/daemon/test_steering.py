"""What the operator asks for: answered once it is durable, refused where it makes no sense, and signals."""

from __future__ import annotations

import errno
import os
import signal
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from daemon import checkpointer as writing
from daemon import vitals
from daemon.sources.memory import MemoryLog
from mtl_engine import evaluate
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
    from tests.support.core import Script


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    eager(monkeypatch)


@pytest.fixture
def log() -> MemoryLog:
    """A log in which a task was added."""
    made = MemoryLog()
    made.add(add_task())
    return made


@pytest.fixture
def one(tmp_path: Path, log: MemoryLog) -> Loop:
    return loop(config(tmp_path), log)


def _refuse(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _kinds(log: MemoryLog) -> list[str]:
    return [line["kind"] for line in log.journal]


def test_a_drain_of_what_is_paused_ends_too(one: Loop) -> None:
    def script() -> Script:
        answers = ask(one, "pause")
        yield lambda: answers

    play(one, script())
    assert (one.steering.is_drained, one.steering.exit_code) == (True, 0)
    assert one.steering.stopped_because == "draining"


def test_the_lag_of_what_is_paused_grows(one: Loop, log: MemoryLog) -> None:
    def lag() -> int:
        one.health.write(one, force=True)
        told = vitals.read(one.health.path)
        assert told is not None
        return told.lag_events or 0

    def script() -> Script:
        answers = ask(one, "pause")
        yield lambda: answers
        before = lag()
        log.add(rows(4))
        yield lambda: lag() == before + 1

    play(one, script())


def test_a_draining_daemon_is_not_resumed(one: Loop) -> None:
    def script() -> Script:
        yield None
        drained, resumed = ask(one, "drain"), ask(one, "resume")
        yield lambda: resumed
        assert "start it again" in resumed[0]["error"]
        assert resumed[0]["exit_code"] == 7
        yield lambda: drained

    play(one, script())


def test_resuming_what_runs_is_answered_at_once_and_changes_nothing(
    one: Loop, log: MemoryLog
) -> None:
    def script() -> Script:
        yield None
        answers = ask(one, "resume")
        yield lambda: answers
        assert answers == [{"state": "running", "changed": False}]

    play(one, script())
    assert "resumed" not in _kinds(log)


def test_a_pause_with_an_end_ends_by_itself(one: Loop, log: MemoryLog) -> None:
    def script() -> Script:
        until = datetime.now(UTC) + timedelta(hours=1)
        answers = ask(one, "pause", until=until.isoformat())
        yield lambda: answers
        log.add(rows(1))
        looks = iter(range(20))
        yield lambda: next(looks, None) is None
        assert one.machine.counters.accepted_events == 0
        one.process.paused_until = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        yield lambda: one.machine.counters.accepted_events == 1

    play(one, script())
    assert _kinds(log)[-2:] == ["paused", "resumed"]
    assert (one.process.paused, one.process.paused_until) == (None, None)


def test_tasks_are_told_at_once(one: Loop, log: MemoryLog) -> None:
    def script() -> Script:
        log.add(rows(1, 8))
        yield None
        answers = ask(one, "tasks")
        yield lambda: answers
        assert [task["name"] for task in answers[0]["tasks"]] == ["a"]

    play(one, script())


def test_whoever_waits_for_a_cut_that_fails_is_told_why(
    one: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script() -> Script:
        yield None
        with monkeypatch.context() as patch:
            patch.setattr(writing, "write_tensors", _refuse)
            answers = [ask(one, name) for name in ("checkpoint", "pause")]
            yield lambda: all(answers)
        for (answer,) in answers:
            assert "No space left" in answer["error"]
            assert answer["exit_code"] == 75

    play(one, script())


def test_a_drain_that_cannot_write_ends_after_some_tries_on_the_cut_before(
    one: Loop, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script() -> Script:
        yield None
        log.add(rows(1))
        yield lambda: one.machine.counters.accepted_events
        monkeypatch.setattr(writing, "write_tensors", _refuse)

    play(one, script())
    assert one.steering.exit_code == 8
    assert one.health._vitals.state == "stopped"  # pyright: ignore[reportPrivateUsage]


def test_a_drain_does_not_wait_for_ever_for_a_server_that_is_gone(
    one: Loop, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.steering.DRAIN_COMMIT_S", 0.01)

    def script() -> Script:
        yield None
        log.add(rows(1))
        yield lambda: one.machine.counters.accepted_events
        log.is_down = True

    play(one, script())
    assert (one.steering.exit_code, one.steering.is_drained) == (0, True)
    assert not one.durability.checkpointer.busy
    assert one.durability.checkpointer.retained()[0]["watermark"] == log.rows[-1][1].id


def test_weights_that_are_not_finite_stop_the_training_until_somebody_resumes_it(
    one: Loop, log: MemoryLog
) -> None:
    def script() -> Script:
        log.add(rows(1, 8))
        yield None
        name, weight = next(
            (name, value)
            for name, value in one.machine.engine.state_dict().tensors.items()
            if "heads" in name
        )
        before = weight.clone()
        weight.fill_(float("nan"))
        answers = ask(one, "checkpoint")
        yield lambda: answers
        assert name in answers[0]["error"]
        assert one.steering.stopped_because == "diverged"
        log.add(rows(20, 8))
        for answers in [ask(one, "checkpoint") for _ in range(3)]:
            yield partial(len, answers)
        assert one.machine.counters.accepted_events == 1
        weight.copy_(before)
        answers = ask(one, "resume")
        yield lambda: answers
        assert answers[0]["state"] == "running"
        yield lambda: one.machine.counters.accepted_events == 2

    play(one, script())
    assert _kinds(log).count("diverged") == 1


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> dict[int, Callable[..., object]]:
    """The handlers by signal; none is installed in this process."""
    found: dict[int, Callable[..., object]] = {}
    monkeypatch.setattr(signal, "signal", lambda number, act: found.setdefault(number, act))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(
    one: Loop, log: MemoryLog, handlers: dict[int, Callable[..., object]], number: int
) -> None:
    one.steering.listen()

    def script() -> Script:
        log.add(rows(1))
        yield None
        handlers[number](number, None)
        assert one.steering._wake.is_set()  # pyright: ignore[reportPrivateUsage]
        yield lambda: False  # whatever waits now must not be needed

    play(one, script())
    assert (one.steering.is_drained, one.steering.exit_code) == (True, 0)
    assert one.durability.checkpointer.retained()[0]["watermark"] == log.rows[-1][1].id


def test_a_second_signal_leaves_at_once(
    one: Loop, handlers: dict[int, Callable[..., object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    one.steering.listen()
    handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert codes == []
    handlers[signal.SIGINT](signal.SIGINT, None)
    assert codes == [128 + signal.SIGINT]


def test_the_hold_outs_are_scored_when_asked_once_for_a_step_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RecordingLog()
    log.add(add_task(holdout=0.3))
    one = loop(config(tmp_path), log)
    passes: list[int] = []
    score = evaluate.score

    def counted(*given: Any) -> Any:
        passes.append(one.machine.engine.step_count)
        return score(*given)

    monkeypatch.setattr(evaluate, "score", counted)

    def script() -> Script:
        for number in range(1, 40, 8):
            log.add(rows(number, 8))
        yield None
        asked = len(passes)
        answers = [ask(one, "evaluate") for _ in range(3)]
        yield lambda: all(answers)
        assert len(passes) == asked + 1
        (reply,) = answers[0]
        assert reply["step"] == one.machine.engine.step_count > 0
        assert reply["scores"]["a"]["accuracy"] == reply["matrix"]["rows"][-1]["scores"]["a"]
        assert reply["matrix"]["average_accuracy"] is not None

    play(one, script())
    straight = machine(teacher_every=2000)
    feed(straight, log.ever)
    assert differences(without_outbox(one.machine), without_outbox(straight)) == []
