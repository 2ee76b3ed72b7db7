"""Mending the log's faults: half-way is tried again, and nothing is done before the server has answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon import repair
from daemon.errors import BrokerUnreachable
from daemon.reader import StreamRegressed
from daemon.sources.memory import MemoryLog
from tests.support.core import add_task, config, eager, loop, play, restarted, rows

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.config import Config
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
def settings(tmp_path: Path) -> Config:
    return config(tmp_path)


def test_producers_see_a_group_before_the_first_checkpoint(
    settings: Config, log: MemoryLog
) -> None:
    one = loop(settings, log)
    assert log.group is None
    repair.reconnect(one)
    assert log.group == ("0-0", 0)


def test_a_reconnect_forgets_what_the_server_took(settings: Config, log: MemoryLog) -> None:
    one = loop(settings, log)
    for number in range(3):
        one.journal("line", {"number": number})
    log.sent = f"{one.machine.outbox.epoch}:2"
    repair.reconnect(one)
    assert [item.body["detail"]["number"] for item in one.machine.outbox.up_to(9)] == [2]


def test_a_reconnect_brings_an_embedded_server_back_first(settings: Config, log: MemoryLog) -> None:
    one = loop(settings, log)
    log.is_down = True

    def ensure() -> None:
        log.is_down = False

    one.ensure_broker = ensure
    repair.reconnect(one)
    assert log.group == ("0-0", 0)


def test_a_reconnect_shows_what_is_durable_and_not_what_was_applied(
    settings: Config, log: MemoryLog
) -> None:
    one = loop(settings, log)
    log.add(rows(1))
    play(one)
    shown = log.group
    log.add(rows(5))
    for found in one.reader.read(9):
        one.reader.advance(found, one.machine.enter(found))
    repair.reconnect(one)
    assert log.group == shown
    assert one.reader.position.id != log.rows[0][1].id


def test_a_regression_changes_nothing_while_the_server_is_away(
    settings: Config, log: MemoryLog
) -> None:
    one = loop(settings, log)
    log.add(rows(1))
    play(one)
    before = (one.process.epoch, one.reader.position, one.machine.rereading)
    log.is_down = True
    with pytest.raises(BrokerUnreachable):
        repair.regressed(one, StreamRegressed("it is another", 3))
    assert (one.process.epoch, one.reader.position, one.machine.rereading) == before
    assert one.machine.counters.lost_events == 0


def test_a_new_epoch_is_durable_before_anything_is_read(settings: Config, log: MemoryLog) -> None:
    one = loop(settings, log)
    log.add(rows(1))
    play(one)
    log.flush()
    log.add(rows(5))
    repair.regressed(one, StreamRegressed("it is another", 3))
    header = one.durability.checkpointer.retained()[0]
    assert (header["epoch"], header["watermark"]) == (2, "0-0")
    assert (one.machine.counters.lost_events, one.machine.counters.lost_is_lower_bound) == (3, True)
    assert one.machine.rereading
    again = restarted(one, settings, log)
    assert (again.process.epoch, again.machine.rereading, again.reader.position.id) == (
        2,
        True,
        "0-0",
    )


def test_it_goes_on_at_the_newest_retained_watermark_that_is_still_there(
    settings: Config, log: MemoryLog
) -> None:
    one = loop(settings, log)

    def script() -> Script:
        for number in (1, 5, 9):
            log.add(rows(number))
            yield None

    play(one, script())
    kept = [header["watermark"] for header in one.durability.checkpointer.retained()]
    older = next(mark for mark in kept if mark != kept[0])
    one.source.acquire(0, 0.0)
    log.delete(kept[0])
    repair.regressed(one, StreamRegressed("the newest entries are gone", 0))
    assert one.reader.position.id == older


def test_what_an_older_checkpoint_wanted_shown_is_not_shown_in_the_new_stream(
    settings: Config, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = loop(settings, log)
    log.add(rows(1))
    play(one)
    one.durability.committer.durable(one.durability.checkpointer.retained()[0], [])
    log.flush()
    log.add(rows(5))
    stale = one.durability.checkpointer.store
    monkeypatch.setattr(stale, "make_current", _fail)
    repair.regressed(one, StreamRegressed("it is another", 0))
    assert not one.durability.committer.is_due
    one.source.acquire(0, 0.0)
    repair.reconnect(one)
    assert log.group == ("0-0", 0)


def _fail(_: object) -> None:
    raise OSError("the disk is gone")
