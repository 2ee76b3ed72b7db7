"""Real servers that crash, go back in time, run full, and wires that fail: nothing is skipped, nothing done twice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from daemon.errors import BrokerFull, BrokerUnreachable, LeaseLost
from daemon.identity import FIRST_ID
from daemon.reader import StreamRegressed
from daemon.sources.redis_streams import RedisStreams
from tests.support.drivers import add_many, event
from tests.support.following import Follower, add_above, following
from tests.support.proxy import Fault
from tests.support.servers import NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.drivers import RedisDriver
    from tests.support.proxy import Proxy
    from tests.support.servers import Server

LOST = [Fault.LOSE_REQUEST, Fault.DROP_REPLY, Fault.HALF_CLOSE]


def through(proxy: Proxy, owner: str = "a") -> RedisStreams:
    """A source behind the proxy that holds the lease."""
    source = RedisStreams.open(proxy.url, NAMESPACE, owner)
    source.acquire(0, 0.0)
    return source


def test_a_server_that_is_killed_and_restarted_loses_nothing(
    server: Server, log: RedisDriver
) -> None:
    follower = following(log, 5)
    ids = add_many(log, 5)
    server.crash()
    with pytest.raises(BrokerUnreachable):
        follower.apply()
    follower.reader.reconnected()
    follower.source.renew()
    ids += add_many(log, 2)
    assert follower.settle() == 0
    assert follower.applied[5:] == ids
    follower.source.append(event())


def test_a_restart_after_sigkill_takes_the_lease_over_at_once(
    server: Server, log: RedisDriver
) -> None:
    log.source("a", ttl_s=60.0).acquire(0, 0.0)  # never released, as after SIGKILL
    begin = time.monotonic()
    assert log.source("a").acquire(0, 0.0) == 2
    assert time.monotonic() - begin < 3.0
    server.crash()
    assert log.source("a").acquire(0, 0.0) == 3


def test_an_older_file_is_a_regression_and_its_loss_is_bounded(
    server: Server, log: RedisDriver, tmp_path: Path
) -> None:
    follower = following(log, 5)
    retained = [follower.reader.position]
    server.keep_files(tmp_path / "older")
    applied = add_many(log, 5)
    follower.apply()
    follower.display()
    unread = add_many(log, 4)
    follower.reader.fence()
    server.crash_to(tmp_path / "older")
    follower.reader.reconnected()
    new = add_above(log, unread[-1], 30)
    with pytest.raises(BrokerUnreachable):
        follower.apply()
    with pytest.raises(StreamRegressed) as caught:
        follower.apply()
    assert caught.value.lost_at_least == 4
    assert follower.reader.regress(retained).id == retained[0].id
    assert follower.settle() == 0
    assert follower.applied[5:] == applied + new


def test_an_older_file_that_still_has_the_watermark_goes_on_from_there(
    server: Server, log: RedisDriver, tmp_path: Path
) -> None:
    follower = following(log, 5)
    kept = add_many(log, 2)
    server.keep_files(tmp_path / "older")
    gone = add_many(log, 3)
    follower.reader.fence()
    server.crash_to(tmp_path / "older")
    new = add_above(log, gone[-1], 2)
    follower.reader.reconnected()
    with pytest.raises(BrokerUnreachable):
        follower.apply()
    with pytest.raises(StreamRegressed) as caught:
        follower.apply()
    assert caught.value.lost_at_least == 3
    watermark = follower.applied[-1]
    assert follower.reader.regress([]).id == watermark
    assert follower.settle() == 0
    assert follower.applied[5:] == kept + new


def test_an_older_file_with_as_many_new_entries_as_were_lost_is_found_by_the_fence(
    server: Server, log: RedisDriver, tmp_path: Path
) -> None:
    follower = following(log, 5)
    kept = add_many(log, 2)
    server.keep_files(tmp_path / "older")
    gone = add_many(log, 3)
    follower.reader.fence()
    server.crash_to(tmp_path / "older")
    new = add_above(log, gone[-1], 3)
    follower.reader.reconnected()
    with pytest.raises(BrokerUnreachable):
        follower.apply()
    follower.apply()
    assert follower.lost == 3
    assert follower.applied[5:] == kept + new


def test_a_full_server_is_read_and_trimmed_and_goes_on_when_there_is_room(
    server: Server, log: RedisDriver
) -> None:
    follower = following(log, 5)
    ids = add_many(log, 20)
    log.fill(True)
    with pytest.raises(BrokerFull):
        log.add()
    assert follower.settle() == 0
    with pytest.raises(BrokerFull):
        follower.source.deliver([], [], "1:1")
    follower.source.renew()
    assert follower.source.trim(ids[-1]) == 24
    log.fill(False)
    follower.source.deliver([], [], "1:1")
    assert follower.settle() == 0
    assert follower.applied[5:] == ids


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_read_is_repeated_and_skips_nothing(
    log: RedisDriver, proxy: Proxy, fault: Fault
) -> None:
    follower = Follower(through(proxy))
    ids = add_many(log, 10)
    follower.apply(3)
    proxy.arm(fault, b"XRANGE")
    with pytest.raises(BrokerUnreachable):
        follower.apply()
    follower.reader.reconnected()
    assert follower.settle() == 0
    assert (follower.applied, proxy.fired) == (ids, 1)


@pytest.mark.parametrize("fault", LOST)
def test_after_a_lost_delivery_the_mark_says_whether_it_happened(
    log: RedisDriver, proxy: Proxy, fault: Fault
) -> None:
    source = through(proxy)
    source.deliver([{"id": "1-0"}], [], "1:1")
    proxy.arm(fault, b"EXEC")
    with pytest.raises(BrokerUnreachable):
        source.deliver([{"id": "2-0"}], [], "1:2")
    if source.sent_mark() == "1:1":
        source.deliver([{"id": "2-0"}], [], "1:2")
    assert [line["id"] for line in log.dead()] == ["1-0", "2-0"]
    assert source.sent_mark() == "1:2"


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_fence_check_writes_nothing(log: RedisDriver, proxy: Proxy, fault: Fault) -> None:
    source = through(proxy)
    proxy.arm(fault, b"WATCH")
    with pytest.raises(BrokerUnreachable):
        source.append(event())
    assert source.bounds().entries_added == 0
    source.append(event())
    assert source.bounds().entries_added == 1


@pytest.mark.parametrize("fault", LOST)
def test_a_lease_whose_reply_was_lost_is_taken_again(
    log: RedisDriver, proxy: Proxy, fault: Fault
) -> None:
    source = RedisStreams.open(proxy.url, NAMESPACE, "a")
    proxy.arm(fault, b"EXEC")
    with pytest.raises(BrokerUnreachable):
        source.acquire(0, 0.0)
    source.acquire(0, 0.0)
    source.append(event())
    with pytest.raises(LeaseLost):
        log.source("b").acquire(0, 0.0)


def test_a_waiting_reader_notices_that_the_wire_broke(log: RedisDriver, proxy: Proxy) -> None:
    source = through(proxy)
    proxy.arm(Fault.DROP_REPLY, b"XREAD")
    with pytest.raises(BrokerUnreachable):
        source.wait(FIRST_ID, 0.05)
    add_many(log, 1)
    assert source.wait(FIRST_ID, 1.0)


def test_a_late_reply_is_not_taken_for_the_next_one(
    log: RedisDriver, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.sources.redis_streams.ANSWER_S", 0.4)
    follower = Follower(through(proxy))
    ids = add_many(log, 3)
    proxy.arm(Fault.DELAY, b"XRANGE", delay_s=0.8)
    with pytest.raises(BrokerUnreachable, match="does not answer"):
        follower.apply()
    follower.reader.reconnected()
    assert follower.settle() == 0
    assert follower.applied == ids


def test_a_slow_server_is_waited_for(log: RedisDriver, proxy: Proxy) -> None:
    source = through(proxy)
    proxy.arm(Fault.DELAY, b"XADD", delay_s=0.2)
    source.append(event())
    assert source.bounds().entries_added == 1


def test_a_server_that_never_answers_is_unreachable(
    log: RedisDriver, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.sources.redis_streams.ANSWER_S", 0.4)
    source = through(proxy)
    proxy.arm(Fault.SILENCE, b"GET")
    with pytest.raises(BrokerUnreachable):
        source.renew()
    source.renew()
