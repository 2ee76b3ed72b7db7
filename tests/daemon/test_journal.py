"""The journal: the newest lines in order, and new ones while they come."""

from __future__ import annotations

import json

import pytest

from daemon.journal import Journal
from daemon.sources import redis_streams
from tests.support.drivers import RedisDriver, fake_driver
from tests.support.servers import NAMESPACE


@pytest.fixture
def log() -> RedisDriver:
    """A log on a fake server."""
    return fake_driver()


@pytest.fixture
def journal(log: RedisDriver) -> Journal:
    """Its journal as an operator reads it."""
    return Journal(log.admin, NAMESPACE)


def write(log: RedisDriver, *details: object) -> None:
    source = log.source()
    source.acquire(0, 0.0)
    lines = [
        {"seq": "1:1", "at": "2026-01-01T00:00:00Z", "kind": "k", "detail": detail}
        for detail in details
    ]
    source.deliver([], lines, "1:1")


def test_the_newest_lines_come_in_the_order_they_were_written(
    log: RedisDriver, journal: Journal
) -> None:
    write(log, {"n": 1}, {"n": 2}, {"n": 3})
    lines = journal.newest(2)
    assert [(line.at, line.kind, json.loads(line.detail)) for line in lines] == [
        ("2026-01-01T00:00:00Z", "k", {"n": 2}),
        ("2026-01-01T00:00:00Z", "k", {"n": 3}),
    ]


def test_following_gives_each_line_once(log: RedisDriver, journal: Journal) -> None:
    write(log, {"n": 1}, {"n": 2})
    first, second = journal.after(timeout_s=0.01)
    assert journal.after(first.id, 0.01) == [second]
    assert journal.after(second.id, 0.01) == []
    write(log, {"n": 3})
    assert [line.detail for line in journal.after(second.id, 0.01)] == ['{"n":3}']


def test_a_detail_that_is_too_long_is_cut_and_stays_json(
    log: RedisDriver, journal: Journal
) -> None:
    write(log, {"n": "x" * 20_000}, "y" * 20_000)
    cut, text = journal.newest(2)
    assert len(json.loads(cut.detail)["cut"]) == 1000
    assert len(text.detail) == redis_streams.FIELD_BYTES
