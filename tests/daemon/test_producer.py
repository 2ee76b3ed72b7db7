"""The producer: what it puts on the wire, how it waits for a daemon that is behind, and its receipts."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from daemon.errors import BrokerFull, BrokerUnreachable, Refused, StreamExhausted, TimedOut
from daemon.events import parse
from daemon.identity import FIRST_ID, LAST_POSSIBLE_ID
from daemon.producer import Producer
from daemon.types import Entry, Limits
from tests.support.drivers import RedisDriver, add_many, fake_driver
from tests.support.servers import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.types import EventSource


@pytest.fixture
def log() -> RedisDriver:
    """A log on a fake server."""
    return fake_driver()


@pytest.fixture
def source(log: RedisDriver) -> EventSource:
    """The daemon's side of it."""
    source = log.source()
    source.acquire(0, 0.0)
    return source


def producer(log: RedisDriver, max_unread: int = 100, timeout_s: float = 0.05) -> Producer:
    return Producer(log.admin, NAMESPACE, "p", max_unread=max_unread, timeout_s=timeout_s)


def entries(log: RedisDriver) -> list[Entry]:
    return log.source().read(FIRST_ID, 1000)


def test_rows_become_one_event_with_all_its_attributes(log: RedisDriver) -> None:
    receipt = producer(log).push("digits", np.zeros((3, 2), np.uint8), [1, 2, 3])
    (entry,) = entries(log)
    fields = {
        name.decode(): value.decode()
        for name, value in entry.fields.items()
        if name not in (b"data", b"time")
    }
    assert fields == {
        "specversion": "1.0",
        "id": "1",
        "source": receipt.source,
        "type": "mtl.data.v1",
        "subject": "digits",
        "sequence": "1",
        "mtlrows": "3",
        "datacontenttype": "application/vnd.safetensors",
    }
    assert receipt.entry_id == entry.id
    assert receipt.source.startswith("p/")


@pytest.mark.parametrize(
    "tell",
    [
        lambda p: p.push("t", [[1.0]], [1]),
        lambda p: p.push("t", ["text"], ["label"]),
        lambda p: p.push(
            None, [[1.0]], {"t": [1], "u": ["a"]}, mask={"t": [1]}, weight={"u": [0.5]}
        ),
        lambda p: p.push("t", [[1.0]]),
        lambda p: p.add_task("t", modality="table", classes=["a", "b"]),
        lambda p: p.switch("t"),
        lambda p: p.switch("t", "phase 2"),
        lambda p: p.update_task("t", share=2.0),
        lambda p: p.retire_task("t"),
    ],
)
def test_the_daemon_understands_everything_a_producer_says(
    log: RedisDriver, tell: Callable[[Producer], object]
) -> None:
    tell(producer(log))
    (entry,) = entries(log)
    parse(entry, Limits())


def test_two_starts_under_one_name_never_share_ids(log: RedisDriver) -> None:
    first, second = producer(log), producer(log)
    first.switch("t")
    second.switch("t")
    assert len({(entry.fields[b"source"], entry.fields[b"id"]) for entry in entries(log)}) == 2


def test_an_id_of_ones_own_is_kept(log: RedisDriver) -> None:
    assert producer(log).push("t", [[1.0]], [1], id="order-7").id == "order-7"
    assert entries(log)[0].fields[b"id"] == b"order-7"


def test_flushing_returns_the_receipts_since_the_last_flush(log: RedisDriver) -> None:
    pushing = producer(log)
    pushed = [pushing.switch("t"), pushing.push("t", [[1.0]], [1])]
    assert pushing.flush() == pushed
    assert pushing.flush() == []
    assert [receipt.is_durable for receipt in pushed] == [False, False]


def test_a_server_without_waitaof_refuses_durable_receipts(log: RedisDriver) -> None:
    pushing = producer(log)
    pushing.switch("t")
    with pytest.raises(Refused, match="WAITAOF"):
        pushing.flush(durable=True)


def test_a_durable_producer_is_refused_before_anything_is_sent(log: RedisDriver) -> None:
    pushing = Producer(log.admin, NAMESPACE, "p", timeout_s=0.05, durable=True)
    with pytest.raises(Refused, match=r"Redis before 7\.2"):
        pushing.push("digits", np.zeros((1, 2), np.float32))
    assert entries(log) == []


def test_a_producer_waits_at_its_bound_even_before_the_daemon_was_ever_there(
    log: RedisDriver,
) -> None:
    pushing = producer(log, max_unread=5)
    for _ in range(5):
        pushing.switch("t")
    with pytest.raises(TimedOut, match="5 events behind"):
        pushing.switch("t")
    assert len(entries(log)) == 5


def test_the_bound_is_on_what_is_unread_and_not_on_the_length_of_the_log(
    log: RedisDriver, source: EventSource
) -> None:
    ids = add_many(log, 50)
    source.display(ids[-1], 50)
    pushing = producer(log, max_unread=3)
    for _ in range(3):
        pushing.switch("t")
    with pytest.raises(TimedOut):
        pushing.switch("t")
    assert source.bounds().length == 53


def test_a_producer_goes_on_as_soon_as_the_daemon_has_caught_up(
    log: RedisDriver, source: EventSource
) -> None:
    source.display(FIRST_ID, 0)
    pushing = producer(log, max_unread=2, timeout_s=5.0)
    pushing.switch("t")
    last = pushing.switch("t").entry_id
    threading.Timer(0.02, source.display, (last, 2)).start()
    pushing.switch("t")
    assert pushing.lag() == 1


def test_the_lag_is_known_where_the_server_cannot_say(
    log: RedisDriver, source: EventSource
) -> None:
    ids = add_many(log, 6)
    source.display(ids[1], 2)
    log.delete(ids[3])
    assert producer(log).lag() == 4


def test_an_absent_stream_has_no_lag(log: RedisDriver) -> None:
    assert producer(log).lag() == 0


def test_an_exhausted_stream_is_named_at_once(log: RedisDriver) -> None:
    log.add(entry_id=LAST_POSSIBLE_ID)
    with pytest.raises(StreamExhausted):
        producer(log, timeout_s=60.0).switch("t")


@pytest.mark.parametrize("error", [BrokerFull, BrokerUnreachable])
def test_a_server_in_trouble_is_waited_for_and_the_same_event_is_sent_again(
    log: RedisDriver, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    exchange, failures = log.admin.exchange, [error("not now"), error("not now")]

    def fail_first(commands: list[tuple[str, ...]]) -> list[object]:
        replies = exchange(commands)
        if commands[0][0] == "XADD" and failures:
            raise failures.pop()  # the reply is lost, the event is in the log
        return replies

    monkeypatch.setattr(log.admin, "exchange", fail_first)
    producer(log, timeout_s=5.0).switch("t")
    assert [entry.fields[b"id"] for entry in entries(log)] == [b"1", b"1", b"1"]


def test_a_server_in_trouble_for_too_long_is_reported(
    log: RedisDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(commands: object) -> list[object]:
        raise BrokerUnreachable("gone")

    monkeypatch.setattr(log.admin, "exchange", fail)
    with pytest.raises(BrokerUnreachable, match="gone"):
        producer(log).switch("t")


def test_what_is_too_large_for_one_event_is_refused_before_it_is_sent(log: RedisDriver) -> None:
    with pytest.raises(ValueError, match="push them in parts"):
        producer(log).push("t", np.zeros(65_537, np.uint8))
    with pytest.raises(ValueError, match="push them in parts"):
        producer(log).push("t", np.zeros((1, 17 << 20), np.uint8))
    assert entries(log) == []


def test_labels_by_task_and_a_task_exclude_each_other(log: RedisDriver) -> None:
    with pytest.raises(ValueError, match="task=None"):
        producer(log).push("t", [[1.0]], {"t": [1]})
    with pytest.raises(ValueError, match="mapping"):
        producer(log).push(None, [[1.0]], [1])


def test_a_task_carries_its_specification(log: RedisDriver) -> None:
    producer(log).add_task("t", modality="text", classes=("a", "b"))
    assert json.loads(entries(log)[0].fields[b"data"]) == {
        "modality": "text",
        "classes": ["a", "b"],
    }


def test_a_bound_below_one_is_refused(log: RedisDriver) -> None:
    with pytest.raises(ValueError, match="max_unread is 0"):
        producer(log, max_unread=0)
