"""Producers and operators against real servers: durable receipts, lost replies, back-pressure, dead letters, journal."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from daemon.deadletter import DeadLetters
from daemon.errors import Refused
from daemon.identity import FIRST_ID
from daemon.journal import Journal
from daemon.producer import Producer
from tests.support.drivers import event
from tests.support.following import Follower, following
from tests.support.proxy import Fault
from tests.support.servers import NAMESPACE, SERVERS, Server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.drivers import RedisDriver
    from tests.support.proxy import Proxy


def test_a_durable_receipt_says_that_the_server_has_it_on_disk(server: Server) -> None:
    with Producer(server.url, NAMESPACE) as producer:
        producer.switch("t")
        if server.has_waitaof:
            assert [receipt.is_durable for receipt in producer.flush(durable=True)] == [True]
        else:
            with pytest.raises(Refused, match=r"7\.2"):
                producer.flush(durable=True)


def test_a_durable_producer_flushes_to_the_disk_or_is_refused_at_its_first_push(
    server: Server,
) -> None:
    with Producer(server.url, NAMESPACE, timeout_s=5.0, durable=True) as producer:
        if not server.has_waitaof:
            with pytest.raises(Refused, match="WAITAOF"):
                producer.push("a", [[1.0, 2.0]])
            return
        producer.push("a", [[1.0, 2.0]])
        assert [receipt.is_durable for receipt in producer.flush()] == [True]


@pytest.mark.redis
def test_a_server_that_writes_no_file_refuses_a_durable_producer(tmp_path: Path) -> None:
    server = Server(tmp_path, "valkey")
    server.admin.call("CONFIG", "SET", "appendonly", "no")
    producer = Producer(server.url, NAMESPACE, timeout_s=5.0, durable=True)
    with producer, pytest.raises(Refused, match="appendonly no"):
        producer.push("a", [[1.0, 2.0]])
    server.close()


@pytest.mark.parametrize("running", SERVERS[:1], indirect=True)  # Redis 7.0 has no WAITAOF
def test_a_receipt_from_before_the_wire_broke_is_not_called_durable(
    server: Server, proxy: Proxy
) -> None:
    with Producer(proxy.url, NAMESPACE) as producer:
        producer.switch("t")
        proxy.break_all()
        producer.switch("u")
        assert [receipt.is_durable for receipt in producer.flush(durable=True)] == [False, True]


@pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.DROP_REPLY, Fault.HALF_CLOSE])
def test_after_a_lost_reply_the_same_event_is_sent_again(
    log: RedisDriver, proxy: Proxy, fault: Fault
) -> None:
    with Producer(proxy.url, NAMESPACE) as producer:
        producer.switch("t")
        proxy.arm(fault, b"XADD")
        producer.switch("u")
    ids = [entry.fields[b"id"] for entry in log.source().read(FIRST_ID, 9)]
    assert ids == ([b"1", b"2"] if fault is Fault.LOSE_REQUEST else [b"1", b"2", b"2"])


def test_producers_faster_than_the_daemon_keep_within_their_bound_and_lose_nothing(
    server: Server, log: RedisDriver
) -> None:
    follower = following(log, 0)
    bound, per_producer = 10, 60
    most = 0

    def push() -> None:
        with Producer(server.url, NAMESPACE, max_unread=bound) as producer:
            for _ in range(per_producer):
                producer.switch("t")

    pushing = [threading.Thread(target=push) for _ in range(3)]
    for thread in pushing:
        thread.start()
    while len(follower.applied) < 3 * per_producer:
        most = max(most, follower.source.bounds().entries_added - follower.reader.position.n)
        follower.apply(4)
        follower.display()
    for thread in pushing:
        thread.join()
    assert follower.settle() == 0
    assert most <= 3 * bound


def test_a_server_that_restarts_is_waited_for_by_its_producers(
    server: Server, log: RedisDriver
) -> None:
    with Producer(server.url, NAMESPACE) as producer:
        producer.switch("t")
        server.crash()
        producer.switch("u")
    assert len(log.source().read(FIRST_ID, 9)) == 2


def test_a_dead_letter_is_replayed_from_the_log(server: Server, log: RedisDriver) -> None:
    follower = following(log, 0)
    place = log.add(event(1))
    follower.source.deliver([{"id": place, "event_id": "1", "reason": "nan_input"}], [], "1:1")
    letters = DeadLetters.open(server.url, NAMESPACE)
    again = letters.replay(letters.newest(1)[0].letter_id)
    letters.close()
    follower.apply()
    assert follower.applied == [place, again]


def test_the_journal_is_followed_while_it_grows(server: Server, log: RedisDriver) -> None:
    source = log.source()
    source.acquire(0, 0.0)
    journal = Journal.open(server.url, NAMESPACE)
    threading.Timer(0.05, source.deliver, ([], [{"kind": "drained"}], "1:1")).start()
    lines = journal.after(timeout_s=2.0)
    assert [line.kind for line in lines] == ["drained"]
    assert journal.after(lines[0].id, 0.01) == []
    journal.close()


def test_the_source_says_which_server_it_is(server: Server, log: RedisDriver) -> None:
    described = log.source().describe()
    assert described.endswith(server.url)
    assert described.startswith(("valkey 9.", "redis 7.0"))
    assert Follower(log.source()).apply() == []
