"""One process writes to one state directory and beside one stream; whoever else tries is told so and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.sources.link import Keys
from tests.support.daemon_process import DaemonProcess
from tests.support.servers import NAMESPACE, Server
from tests.support.stream import SETTINGS, TASKS, Feed, send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

SHORT_LEASE = "lease_ttl_s = 0.5\n" + SETTINGS + TASKS
KEYS = Keys.of(NAMESPACE)
REFUSED, INTEGRITY, LEASE_LOST, CONFIG = 7, 8, 9, 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server", "valkey")
    yield server
    server.close()


@pytest.fixture
def first(tmp_path: Path, server: Server) -> Iterator[DaemonProcess]:
    """A daemon at work."""
    with DaemonProcess(tmp_path / "first", server.url, SHORT_LEASE) as daemon:
        daemon.start()
        daemon.wait_started()
        yield daemon


def test_a_second_daemon_on_a_state_directory_is_refused_and_the_first_goes_on(
    first: DaemonProcess, server: Server
) -> None:
    second = DaemonProcess(first.state, server.url, SHORT_LEASE)
    second.log = first.log.with_name("second.log")
    with second:
        second.start()
        assert second.ended() == REFUSED
    assert "another daemon uses" in second.tail()
    last = send(server.admin, Feed(1).chunk(0))
    first.wait(lambda told: told.watermark >= last)
    assert first.drain() == 0


def test_a_second_daemon_on_a_stream_is_refused_by_the_lease(
    tmp_path: Path, first: DaemonProcess, server: Server
) -> None:
    lease = server.admin.call("GET", KEYS.lease)
    with DaemonProcess(tmp_path / "second", server.url, SHORT_LEASE) as second:
        second.start()
        assert second.ended() == LEASE_LOST
        assert "holds the lease" in second.tail()
    assert server.admin.call("GET", KEYS.lease) == lease
    assert first.drain() == 0


def test_an_empty_state_directory_does_not_take_over_a_stream_that_was_read(
    tmp_path: Path, first: DaemonProcess, server: Server
) -> None:
    send(server.admin, Feed(1).chunk(0))
    first.wait_caught_up(server.admin)
    first.kill()
    with DaemonProcess(tmp_path / "second", server.url, SHORT_LEASE) as second:
        second.start()
        assert second.ended() == INTEGRITY
        assert "--start earliest" in second.tail()
        second.start("", "--start", "earliest")
        second.wait_started()
        send(server.admin, Feed(2).chunk(0))
        told = second.wait_caught_up(server.admin)
        assert told.counters["accepted_events"] > 0
        assert told.token > 1
        assert second.drain() == 0


def test_a_daemon_whose_lease_was_taken_writes_nothing_more_and_ends(
    first: DaemonProcess, server: Server
) -> None:
    send(server.admin, Feed(1).chunk(0))
    first.wait_caught_up(server.admin)
    server.admin.call("SET", KEYS.lease, "99:somebody-else:nonce")
    before = server.admin.call("XLEN", KEYS.events)
    assert first.ended() == LEASE_LOST
    assert server.admin.call("GET", KEYS.lease) == b"99:somebody-else:nonce"
    assert server.admin.call("XLEN", KEYS.events) == before


def test_a_setting_that_does_not_exist_ends_with_the_code_of_a_config_error(
    tmp_path: Path, server: Server
) -> None:
    with DaemonProcess(tmp_path / "wrong", server.url, "[stream]\nbatch_sise = 3\n") as daemon:
        daemon.start()
        assert daemon.ended() == CONFIG
        assert "batch_size" in daemon.tail()
