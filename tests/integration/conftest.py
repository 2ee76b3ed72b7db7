"""A real server of each kind for every test of this folder, checked for keys that nobody documented."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.drivers import RedisDriver
from tests.support.proxy import Proxy
from tests.support.servers import SERVERS, Server, check_keys

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=SERVERS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server for the tests of a module."""
    server = Server(tmp_path_factory.mktemp("server"), request.param)
    yield server
    server.close()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """The module's server, empty and with memory to spare; afterwards it holds the documented keys and no others."""
    running.admin.call("FLUSHALL")
    yield running
    running.admin.call("CONFIG", "SET", "maxmemory", "0")
    check_keys(running)


@pytest.fixture
def log(server: Server) -> RedisDriver:
    """What producers, operators and accidents do to that server."""
    return RedisDriver(server.admin, server.url)


@pytest.fixture
def proxy(server: Server, tmp_path: object) -> Iterator[Proxy]:
    """A wire to the server that can fail."""
    path = server.broker.socket_path.with_name("proxy.sock")
    path.unlink(missing_ok=True)
    with Proxy(path, server.broker.socket_path) as proxy:
        yield proxy
