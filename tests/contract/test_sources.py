"""What every source promises: order, reading by id, bounds, waiting, fenced writes, the lease, a full log."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from daemon.errors import BrokerFull, LeaseLost, StreamExhausted
from daemon.identity import FIRST_ID, LAST_POSSIBLE_ID, id_tuple
from tests.support.drivers import add_many, event
from tests.support.servers import SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.types import EventSource
    from tests.support.drivers import Driver


@pytest.fixture
def source(log: Driver) -> Iterator[EventSource]:
    """A source that holds the lease."""
    source = log.source()
    source.acquire(0, 0.0)
    yield source
    source.close()


def test_entries_come_in_order_with_their_bytes(log: Driver, source: EventSource) -> None:
    ids = [log.add({"data": text}) for text in ("a", "b", "c")]
    entries = source.read(FIRST_ID, 10)
    assert [entry.id for entry in entries] == ids
    assert [entry.fields for entry in entries] == [{b"data": text} for text in (b"a", b"b", b"c")]
    assert sorted(ids, key=id_tuple) == ids


def test_reading_starts_at_the_id_itself_and_stops_at_the_count(
    log: Driver, source: EventSource
) -> None:
    ids = add_many(log, 5)
    assert [entry.id for entry in source.read(ids[1], 3)] == ids[1:4]
    assert source.read(ids[4], 3) == source.read(ids[4], 1)


def test_reading_an_absent_log_gives_nothing(log: Driver, source: EventSource) -> None:
    assert source.read(FIRST_ID, 10) == []
    bounds = source.bounds()
    assert (bounds.last_id, bounds.entries_added, bounds.length) == (FIRST_ID, 0, 0)
    assert bounds.first_id is None
    assert bounds.group_last_id is None


def test_bounds_count_what_was_added_and_what_is_left(log: Driver, source: EventSource) -> None:
    ids = add_many(log, 5)
    log.delete(ids[4])
    log.trim_to(ids[2])
    bounds = source.bounds()
    assert (bounds.last_id, bounds.entries_added) == (ids[4], 5)
    assert (bounds.first_id, bounds.length) == (ids[2], 2)


def test_waiting_ends_when_an_entry_comes(log: Driver, source: EventSource) -> None:
    first = log.add()
    threading.Timer(0.05, log.add).start()
    assert source.wait(first, 5.0)


def test_waiting_ends_in_time_when_nothing_comes(log: Driver, source: EventSource) -> None:
    first = log.add()
    assert not source.wait(first, 0.02)
    assert source.wait(FIRST_ID, 0.02)


def test_a_decision_is_appended_to_the_log(log: Driver, source: EventSource) -> None:
    entry_id = source.append({"id": "d", "data": b"\x00\xff"})
    assert [(entry.id, entry.fields[b"data"]) for entry in source.read(FIRST_ID, 2)] == [
        (entry_id, b"\x00\xff")
    ]


def test_the_group_is_made_where_it_is_missing_unless_that_is_forbidden(
    log: Driver, source: EventSource
) -> None:
    assert not source.display(FIRST_ID, 0, create=False)
    assert source.bounds().group_last_id is None
    assert source.display(FIRST_ID, 0)
    (entry_id,) = add_many(log, 1)
    assert source.display(entry_id, 1, create=False)
    bounds = source.bounds()
    assert (bounds.group_last_id, bounds.group_entries_read) == (entry_id, 1)


def test_the_group_can_be_set_back(log: Driver, source: EventSource) -> None:
    ids = add_many(log, 3)
    source.display(ids[2], 3)
    source.display(ids[0], 1)
    assert source.bounds().group_last_id == ids[0]


def test_trimming_keeps_the_id_itself(log: Driver, source: EventSource) -> None:
    ids = add_many(log, 4)
    assert source.trim(ids[2]) == 2
    assert [entry.id for entry in source.read(FIRST_ID, 9)] == ids[2:]
    assert source.trim(ids[2]) == 0


def test_a_delivery_sets_its_mark_and_appends_its_lines(log: Driver, source: EventSource) -> None:
    assert source.sent_mark() is None
    source.deliver(
        [{"id": "1-0", "reason": "nan_input", "rows": 3}],
        [{"kind": "start", "detail": {"a": 1}}],
        "1:2",
    )
    assert source.sent_mark() == "1:2"
    assert log.dead() == [{"id": "1-0", "reason": "nan_input", "rows": "3"}]


def test_a_writer_without_the_lease_changes_nothing(log: Driver) -> None:
    stranger = log.source("b")
    log.add()
    for write in (
        lambda: stranger.append(event()),
        lambda: stranger.deliver([], [], "1:1"),
        lambda: stranger.display(FIRST_ID, 0),
        stranger.renew,
    ):
        with pytest.raises(LeaseLost):
            write()
    assert stranger.bounds().entries_added == 1
    assert stranger.sent_mark() is None


def test_the_token_grows_beyond_the_servers_and_our_own(log: Driver) -> None:
    first = log.source()
    assert first.acquire(6, 0.0) == 7
    assert log.source().acquire(2, 0.0) == 8
    assert log.source().acquire(20, 0.0) == 21


def test_the_same_state_directory_takes_over_at_once_and_fences_its_predecessor(
    log: Driver,
) -> None:
    old, new = log.source(), log.source()
    old.acquire(0, 0.0)
    new.acquire(0, 0.0)
    for write in (
        old.renew,
        lambda: old.append(event()),
        lambda: old.deliver([], [], "1:1"),
        lambda: old.trim("9-9"),
    ):
        with pytest.raises(LeaseLost, match="token 2"):
            write()
    old.close()
    new.renew()
    assert new.bounds().entries_added == 0


def test_a_foreign_state_directory_waits_and_then_gives_up(log: Driver) -> None:
    log.source("a").acquire(0, 0.0)
    with pytest.raises(LeaseLost, match="state directory a holds the lease"):
        log.source("b").acquire(0, 0.01)


def test_a_foreign_state_directory_takes_an_expired_lease(log: Driver) -> None:
    first, second = log.source("a", ttl_s=0.05), log.source("b")
    first.acquire(0, 0.0)
    assert second.acquire(0, 2.0) >= 1
    with pytest.raises(LeaseLost):
        first.renew()


def test_a_released_lease_is_free_and_its_token_goes_on_growing(log: Driver) -> None:
    first = log.source("a")
    first.acquire(4, 0.0)
    first.close()
    assert log.source("b").acquire(0, 0.0) == 6


def test_a_lease_that_vanished_is_put_back_by_its_holder(log: Driver, source: EventSource) -> None:
    log.flush()
    source.append(event())
    with pytest.raises(LeaseLost):
        log.source("b").acquire(0, 0.0)
    log.flush()
    source.renew()
    with pytest.raises(LeaseLost):
        log.source("b").acquire(0, 0.0)


def test_a_lease_that_vanished_belongs_to_whoever_is_quicker(
    log: Driver, source: EventSource
) -> None:
    log.expire_lease()
    log.source("b").acquire(0, 0.0)
    with pytest.raises(LeaseLost):
        source.append(event())
    assert source.bounds().entries_added == 0


@pytest.mark.parametrize(
    "log", ["memory", *SERVERS], indirect=True
)  # fakeredis has no memory limit
def test_a_full_log_refuses_writes_but_can_be_trimmed_and_the_lease_kept(
    log: Driver, source: EventSource
) -> None:
    ids = add_many(log, 3)
    source.display(FIRST_ID, 0)
    log.fill(True)
    for write in (lambda: source.append(event()), lambda: source.deliver([], [], "1:1")):
        with pytest.raises(BrokerFull):
            write()
    source.renew()
    assert source.trim(ids[2]) == 2
    assert [entry.id for entry in source.read(FIRST_ID, 9)] == ids[2:]
    log.fill(False)
    source.append(event())


@pytest.mark.parametrize(
    "log", ["memory", *SERVERS], indirect=True
)  # fakeredis has no memory limit
def test_a_full_log_that_lost_the_lease_is_freed_before_the_lease_is_put_back(
    log: Driver, source: EventSource
) -> None:
    ids = add_many(log, 3)
    log.fill(True)
    log.expire_lease()
    with pytest.raises(BrokerFull):
        source.trim(ids[2])  # trimmed, but no room for the lease yet
    assert [entry.id for entry in source.read(FIRST_ID, 9)] == ids[2:]
    with pytest.raises(BrokerFull):
        log.source().acquire(0, 0.0)
    assert log.source().trim(ids[2]) == 0  # a starter may free the log before it holds the lease
    log.fill(False)
    source.renew()


def test_a_log_with_the_last_possible_id_is_exhausted(log: Driver, source: EventSource) -> None:
    log.add(entry_id=LAST_POSSIBLE_ID)
    assert [entry.id for entry in source.read(FIRST_ID, 2)] == [LAST_POSSIBLE_ID]
    assert source.bounds().last_id == LAST_POSSIBLE_ID
    with pytest.raises(StreamExhausted, match="last possible"):
        source.append(event())
    source.renew()
