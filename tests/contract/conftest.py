"""The logs that every test of the source contract runs against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.drivers import Driver, MemoryDriver, RedisDriver, fake_driver
from tests.support.servers import SERVERS, Server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Server]]:
    """Servers started so far, each once for all tests of this folder."""
    servers: dict[str, Server] = {}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture(params=["memory", "fakeredis", *SERVERS])
def log(
    request: pytest.FixtureRequest,
    running: dict[str, Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Driver]:
    """An empty log of each kind."""
    if request.param == "memory":
        yield MemoryDriver()
        return
    if request.param == "fakeredis":
        yield fake_driver()
        return
    if request.param not in running:
        running[request.param] = Server(tmp_path_factory.mktemp(request.param), request.param)
    server = running[request.param]
    server.admin.call("FLUSHALL")
    yield RedisDriver(server.admin, server.url)
    server.admin.call("CONFIG", "SET", "maxmemory", "0")
