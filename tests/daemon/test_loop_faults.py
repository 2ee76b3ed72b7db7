"""The loop and a stream that loses, goes back, fills up or changes hands: told, counted, never applied twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.errors import IntegrityError, LeaseLost
from daemon.sources.memory import MemoryLog, MemorySource
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
    restarted,
    rows,
    without_outbox,
)

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.config import Config
    from daemon.loop import Loop
    from tests.support.core import Script


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    eager(monkeypatch)


@pytest.fixture
def log() -> RecordingLog:
    """A log in which a task was added."""
    made = RecordingLog()
    made.add(add_task(holdout=0.2))
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config(tmp_path)


def _expected(one: Loop, log: RecordingLog) -> list[str]:
    """In what the loop's machine differs from one that read the whole log without any loop."""
    straight = machine(teacher_every=2000)
    feed(straight, log.ever)
    return differences(without_outbox(one.machine), without_outbox(straight))


def _kinds(log: MemoryLog) -> list[str]:
    return [line["kind"] for line in log.journal]


def _add(log: MemoryLog, *numbers: int) -> None:
    for number in numbers:
        log.add(rows(number))


# -- losses and regressions ------------------------------------------------------------------------------------


def test_entries_trimmed_unread_are_counted_exactly_and_told(
    settings: Config, log: RecordingLog
) -> None:
    one = loop(settings, log)

    def script() -> Script:
        _add(log, 1)
        yield None
        answers = ask(one, "pause")
        yield lambda: answers
        _add(log, 5, 9, 13, 17)
        log.trim_to(log.ever[-1].id)
        answers = ask(one, "resume")
        yield lambda: answers
        yield lambda: one.machine.counters.lost_events

    play(one, script())
    assert (one.machine.counters.lost_events, one.machine.counters.lost_is_lower_bound) == (
        3,
        False,
    )
    assert one.machine.counters.accepted_events == 2
    assert "events_lost" in _kinds(log)


def test_a_stream_that_went_back_starts_an_epoch_and_nothing_is_applied_twice(
    settings: Config, log: RecordingLog
) -> None:
    one = loop(settings, log)

    def script() -> Script:
        _add(log, 1, 5, 9)
        yield None
        before = one.machine.counters.trained_rows, one.machine.engine.step_count
        log.flush()
        _add(log, 1, 5, 9)
        yield lambda: one.machine.counters.reread_events == 3
        assert (one.machine.counters.trained_rows, one.machine.engine.step_count) == before
        assert one.machine.counters.duplicate_events == 0
        yield None
        _add(log, 9, 100)
        yield lambda: one.machine.counters.accepted_events == 4

    play(one, script())
    assert one.process.epoch == 2
    assert one.machine.counters.duplicate_events == 1
    assert one.machine.counters.lost_is_lower_bound
    assert _kinds(log) == ["stream_regressed"]
    assert log.group is not None
    assert log.group[0] == log.ever[-1].id
    again = restarted(one, settings, log)
    assert (again.process.epoch, again.machine.outbox.epoch) == (2, 2)
    assert not again.machine.rereading


def test_an_empty_directory_does_not_take_over_a_stream_that_was_read(
    tmp_path: Path, log: RecordingLog
) -> None:
    one = loop(config(tmp_path / "one"), log)
    _add(log, 1, 5)
    play(one)
    one.source.close()
    with pytest.raises(IntegrityError, match="--start"):
        loop(config(tmp_path / "two"), log)
    other = loop(config(tmp_path / "three"), log, start="group")
    _add(log, 9)
    play(other)
    assert other.machine.counters.dead_events == 1  # its task was declared before


# -- faults of the server --------------------------------------------------------------------------------------


def test_a_full_server_does_not_stop_the_training_and_is_freed(
    settings: Config, log: RecordingLog
) -> None:
    one = loop(settings, log)

    def script() -> Script:
        yield None
        _add(log, 1, 5, 9)
        log.add(rows(1, task="nobody"))
        log.is_full = True
        yield lambda: one.machine.counters.accepted_events == 3 and len(log.rows) == 1
        assert not log.dead
        log.is_full = False
        yield lambda: len(log.dead) == 1

    play(one, script())
    assert "broker_full" in one.health._vitals.faults  # pyright: ignore[reportPrivateUsage]
    assert _expected(one, log) == []


def test_a_group_that_somebody_removed_is_made_again_and_told(
    settings: Config, log: RecordingLog
) -> None:
    one = loop(settings, log)

    def script() -> Script:
        _add(log, 1)
        yield None
        log.group = None
        _add(log, 5)
        yield lambda: log.group is not None and one.machine.counters.accepted_events == 2

    play(one, script())
    assert one.process.epoch == 1
    assert "group_missing" in _kinds(log)


def test_a_lease_held_by_another_ends_the_loop_at_once(settings: Config, log: RecordingLog) -> None:
    one = loop(settings, log)

    def script() -> Script:
        yield None
        log.lease = None
        MemorySource(log, "another").acquire(5, 0.0)
        _add(log, 1)

    with pytest.raises(LeaseLost):
        play(one, script())
