"""The Redis source: where a crash may fall in a write, capped streams, and an odd lease."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon import failpoints
from daemon.errors import IntegrityError, LeaseLost
from daemon.sources import redis_streams
from daemon.sources.fence import TRIES
from tests.support.drivers import RedisDriver, event, fake_driver

if TYPE_CHECKING:
    from daemon.types import EventSource


@pytest.fixture
def log() -> RedisDriver:
    """A log on a fake server."""
    return fake_driver()


@pytest.fixture
def source(log: RedisDriver) -> EventSource:
    """A source that holds the lease."""
    source = log.source()
    source.acquire(0, 0.0)
    return source


def test_the_fail_points_of_a_delivery_lie_on_both_sides_of_its_reply(
    log: RedisDriver, source: EventSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bytes | None]] = []
    monkeypatch.setattr(
        failpoints, "reach", lambda name: seen.append((name, log.admin.call("GET", log.keys.sent)))
    )
    source.deliver([{"id": "1-0"}], [], "1:1")
    assert seen == [("outbox_sent", b"1:1"), ("outbox_done", b"1:1")]


def test_the_fail_point_of_a_decision_comes_after_it_was_sent(
    log: RedisDriver, source: EventSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(
        failpoints,
        "reach",
        lambda name: seen.append((name, log.admin.call("XLEN", log.keys.events))),
    )
    source.append(event())
    assert seen == [("control_sent", 1)]


def test_a_process_that_dies_after_sending_leaves_a_mark_that_says_so(
    log: RedisDriver, source: EventSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(name: str) -> None:
        raise KeyboardInterrupt(name)

    monkeypatch.setattr(failpoints, "reach", die)
    with pytest.raises(KeyboardInterrupt, match="outbox_sent"):
        source.deliver([{"id": "1-0"}], [], "1:1")
    monkeypatch.undo()
    restarted = log.source()
    restarted.acquire(1, 0.0)
    assert restarted.sent_mark() == "1:1"
    assert len(log.dead()) == 1


def test_the_journal_and_the_dead_letters_are_capped(
    log: RedisDriver, source: EventSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_streams, "DEAD_KEPT", 3)
    monkeypatch.setattr(redis_streams, "JOURNAL_KEPT", 4)
    for number in range(10):
        source.deliver([{"id": number}], [{"kind": "k"}], f"1:{number}")
    assert [line["id"] for line in log.dead()] == ["7", "8", "9"]
    assert log.admin.call("XLEN", log.keys.journal) == 4


def test_a_field_that_is_none_is_left_out(log: RedisDriver, source: EventSource) -> None:
    source.deliver([{"id": "1-0", "subject": None}], [], "1:1")
    assert log.dead() == [{"id": "1-0"}]


def test_an_event_key_of_another_type_is_named(log: RedisDriver, source: EventSource) -> None:
    log.admin.call("SET", log.keys.events, "not a stream")
    with pytest.raises(IntegrityError, match="WRONGTYPE"):
        source.read("0-0", 1)


def test_a_strange_lease_is_named_and_nothing_is_written(
    log: RedisDriver, source: EventSource
) -> None:
    log.admin.call("SET", log.keys.lease, "something else")
    with pytest.raises(IntegrityError, match="not token:uuid:nonce"):
        source.append(event())
    assert source.bounds().entries_added == 0


def test_a_lease_that_changes_between_check_and_write_stops_the_write(
    log: RedisDriver, source: EventSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = vars(source)["_link"]
    exchange, touched = link.exchange, [0]

    def touch(commands: list[tuple[str, ...]], sent: object = None) -> list[object]:
        if commands[0][0] == "MULTI":
            log.admin.call("PEXPIRE", log.keys.lease, 60_000)
            touched[0] += 1
        return exchange(commands, sent)

    monkeypatch.setattr(link, "exchange", touch)
    with pytest.raises(LeaseLost, match="more than one writer"):
        source.append(event())
    assert touched[0] == TRIES
    assert source.bounds().entries_added == 0


def test_closing_twice_or_without_a_lease_is_harmless(
    log: RedisDriver, source: EventSource
) -> None:
    log.source("b").close()
    source.close()
    source.close()
    assert log.admin.call("GET", log.keys.lease) == b"1::"


def test_closing_leaves_a_lease_that_somebody_else_took(
    log: RedisDriver, source: EventSource
) -> None:
    other = log.source()
    other.acquire(0, 0.0)
    source.close()
    other.renew()
