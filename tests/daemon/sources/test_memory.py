"""The memory log: what may be done to it, beyond the contract that all sources share."""

from __future__ import annotations

import pytest

from daemon.errors import BrokerFull, BrokerUnreachable, LeaseLost, Refused
from daemon.identity import FIRST_ID
from daemon.sources import SOURCES
from daemon.sources.memory import MemoryLog, MemorySource


def test_a_log_that_is_down_answers_nothing_and_keeps_everything() -> None:
    log = MemoryLog()
    source = MemorySource(log)
    source.acquire(0, 0.0)
    entry_id = source.append({"a": "b"})
    log.is_down = True
    for act in (
        lambda: source.read(FIRST_ID, 1),
        source.bounds,
        source.renew,
        source.sent_mark,
        lambda: source.wait(FIRST_ID, 0.0),
        lambda: source.append({"a": "c"}),
        lambda: log.add({"a": "c"}),
    ):
        with pytest.raises(BrokerUnreachable):
            act()
    log.is_down = False
    assert [entry.id for entry in source.read(FIRST_ID, 9)] == [entry_id]


def test_a_full_log_refuses_producers_too() -> None:
    log = MemoryLog(is_full=True)
    with pytest.raises(BrokerFull):
        log.add({"a": "b"})


def test_ids_only_grow() -> None:
    log = MemoryLog()
    log.add({"a": "b"}, "5-5")
    with pytest.raises(Refused, match="not above the last one"):
        log.add({"a": "b"}, "5-5")
    assert log.add({"a": "b"}, "5-6") == "5-6"


def test_a_sequence_that_is_used_up_goes_on_in_the_next_millisecond() -> None:
    log = MemoryLog()
    far = 2**63
    log.add({"a": "b"}, f"{far}-{2**64 - 1}")
    assert log.add({"a": "b"}) == f"{far + 1}-0"


def test_a_lease_ends_by_the_logs_own_clock() -> None:
    now = [0.0]
    log = MemoryLog(clock=lambda: now[0])
    first, second = MemorySource(log, "a", ttl_s=10.0), MemorySource(log, "b", ttl_s=10.0)
    first.acquire(0, 0.0)
    now[0] = 9.0
    first.renew()
    now[0] = 18.0
    with pytest.raises(LeaseLost):
        second.acquire(0, 0.0)
    now[0] = 20.0
    assert second.acquire(0, 0.0) == 2


def test_every_source_of_the_table_exists() -> None:
    for where in SOURCES.values():
        module, _, name = where.partition(":")
        assert name in vars(__import__(module, fromlist=[name]))
