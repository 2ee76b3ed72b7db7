"""One way to do to any log what producers, operators and accidents do to it, so that one test serves all kinds."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Protocol

import fakeredis

from daemon.sources.link import Keys, Link
from daemon.sources.memory import MemoryLog, MemorySource
from daemon.sources.redis_streams import GROUP, RedisStreams
from tests.support.servers import NAMESPACE

if TYPE_CHECKING:
    from daemon.types import EventSource

_number = count()


def event(number: int | None = None, **more: str) -> dict[str, str]:
    """The fields of an event that no other test event equals."""
    which = next(_number) if number is None else number
    return {
        "specversion": "1.0",
        "id": str(which),
        "source": "test",
        "type": "mtl.data.v1",
        "data": "x",
        **more,
    }


class Driver(Protocol):
    """A log under test."""

    def source(self, owner: str = "a", ttl_s: float = 10.0) -> EventSource: ...
    def add(self, fields: dict[str, str] | None = None, entry_id: str = "*") -> str: ...
    def delete(self, *entry_ids: str) -> None: ...
    def trim_to(self, entry_id: str) -> None: ...
    def flush(self) -> None: ...
    def delete_stream(self) -> None: ...
    def destroy_group(self) -> None: ...
    def expire_lease(self) -> None: ...
    def fill(self, full: bool) -> None: ...
    def dead(self) -> list[dict[str, str]]: ...


def add_many(log: Driver, num: int) -> list[str]:
    """Append `num` different events; returns their ids."""
    return [log.add() for _ in range(num)]


class MemoryDriver:
    """A log in this process."""

    def __init__(self) -> None:
        self.log = MemoryLog()

    def source(self, owner: str = "a", ttl_s: float = 10.0) -> EventSource:
        return MemorySource(self.log, owner, ttl_s)

    def add(self, fields: dict[str, str] | None = None, entry_id: str = "*") -> str:
        return self.log.add(fields or event(), None if entry_id == "*" else entry_id)

    def delete(self, *entry_ids: str) -> None:
        for entry_id in entry_ids:
            assert self.log.delete(entry_id)

    def trim_to(self, entry_id: str) -> None:
        self.log.trim_to(entry_id)

    def flush(self) -> None:
        self.log.flush()

    def delete_stream(self) -> None:
        self.log.rows.clear()
        self.log.last, self.log.entries_added, self.log.group = (0, 0), 0, None

    def destroy_group(self) -> None:
        self.log.group = None

    def expire_lease(self) -> None:
        assert self.log.lease is not None
        self.log.lease = (self.log.lease[0], self.log.clock())

    def fill(self, full: bool) -> None:
        self.log.is_full = full

    def dead(self) -> list[dict[str, str]]:
        return [{name: str(value) for name, value in line.items()} for line in self.log.dead]


class RedisDriver:
    """A server, real or fake, reached over links."""

    def __init__(
        self, admin: Link, url: str | None, fake: fakeredis.FakeServer | None = None
    ) -> None:
        self.admin = admin
        self.keys = Keys.of(NAMESPACE)
        self._url = url
        self._fake = fake

    def source(self, owner: str = "a", ttl_s: float = 10.0) -> EventSource:
        if self._url is not None:
            return RedisStreams.open(self._url, NAMESPACE, owner, ttl_s=ttl_s)
        assert self._fake is not None
        return RedisStreams.over(fake_pool(self._fake), NAMESPACE, owner, ttl_s)

    def add(self, fields: dict[str, str] | None = None, entry_id: str = "*") -> str:
        flat = [part for pair in (fields or event()).items() for part in pair]
        return self.admin.call("XADD", self.keys.events, entry_id, *flat).decode()

    def delete(self, *entry_ids: str) -> None:
        assert self.admin.call("XDEL", self.keys.events, *entry_ids) == len(entry_ids)

    def trim_to(self, entry_id: str) -> None:
        self.admin.call("XTRIM", self.keys.events, "MINID", "=", entry_id)

    def flush(self) -> None:
        self.admin.call("FLUSHALL")

    def delete_stream(self) -> None:
        self.admin.call("DEL", self.keys.events)

    def destroy_group(self) -> None:
        assert self.admin.call("XGROUP", "DESTROY", self.keys.events, GROUP) == 1

    def expire_lease(self) -> None:
        self.admin.call("DEL", self.keys.lease)

    def fill(self, full: bool) -> None:
        self.admin.call("CONFIG", "SET", "maxmemory", "1" if full else "0")

    def dead(self) -> list[dict[str, str]]:
        rows = self.admin.call("XRANGE", self.keys.dead, "-", "+")
        return [
            {
                name.decode(): value.decode()
                for name, value in zip(flat[::2], flat[1::2], strict=True)
            }
            for _, flat in rows
        ]


def fake_pool(server: fakeredis.FakeServer):
    """Connections to a fake server that answer as the wire does."""
    return fakeredis.FakeRedis(server=server, protocol=2).connection_pool


def fake_driver() -> RedisDriver:
    """A fake server: right about streams and transactions, wrong about memory, durability and faults."""
    server = fakeredis.FakeServer(version=(7, 0))
    return RedisDriver(Link(fake_pool(server)), None, server)
