"""What happens to the log from outside: each fault is named, what is lost is counted, nothing is applied twice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.chaos.living import KEYS, Living
from tests.support.daemon_process import DaemonProcess
from tests.support.proxy import Fault
from tests.support.servers import SERVERS, Server
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

# The requests whose replies get lost: a read, a delivery of dead letters, the display, the trimming.
REQUESTS = (b"XRANGE", b":dead", b"SETID", b"XTRIM")


@pytest.fixture(scope="module", params=SERVERS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Living]:
    """One daemon for all faults on one kind of server: it has to live through every one of them."""
    living = Living(tmp_path_factory.mktemp("living"), request.param)
    yield living
    living.close()


@pytest.fixture
def living(shared: Living) -> Iterator[Living]:
    """The daemon, having learned something; whatever happened, it goes on learning afterwards."""
    shared.send(5)
    shared.settle()
    yield shared
    pid = shared.daemon.pid
    shared.send(5)
    shared.settle()
    assert shared.daemon.returncode is None
    assert shared.vitals().pid == pid


def test_a_server_that_is_killed_and_started_again_loses_nothing(living: Living) -> None:
    before, lost = living.faults("broker_down"), living.vitals().counters["lost_events"]
    living.send(4)
    living.server.crash()
    living.send(4)
    living.wait_fault("broker_down", before)
    told = living.settle()
    assert told.counters["lost_events"] == lost
    wait_until(lambda: living.journal("broker_down"), what="the journal line")


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda name: name.decode().strip(":").lower())
def test_a_lost_reply_repeats_and_skips_nothing(living: Living, request_: bytes) -> None:
    before, dead, fired = living.faults("broker_down"), len(living.dead()), living.proxy.fired
    living.proxy.arm(Fault.DROP_REPLY, request_)
    living.survive(living.add([*living.rows(2), living.bad(), *living.rows(2)]))
    wait_until(lambda: living.proxy.fired > fired, what=f"{request_!r} to be sent")
    living.wait_fault("broker_down", before)
    living.settle()
    wait_until(lambda: len(living.dead()) > dead, what="the dead letter")
    assert len(living.dead()) == len(set(living.dead())) == dead + 1


@pytest.mark.parametrize("fault", [Fault.HALF_CLOSE, Fault.SILENCE, Fault.LOSE_REQUEST])
def test_a_connection_that_is_half_closed_or_silent_is_replaced(
    living: Living, fault: Fault
) -> None:
    before, fired = living.faults("broker_down"), living.proxy.fired
    living.proxy.arm(fault, b"XRANGE")
    living.send(3)
    wait_until(lambda: living.proxy.fired > fired, what="a read")
    living.wait_fault("broker_down", before)
    living.settle()


@pytest.mark.parametrize("command", [("FLUSHALL",), ("DEL", KEYS.events)], ids=["flushall", "del"])
@pytest.mark.parametrize("unread", [0, 3])
def test_a_stream_made_anew_is_a_regression_with_a_stated_lower_bound(
    living: Living, command: tuple[str, ...], unread: int
) -> None:
    before, told = living.faults("stream_regressed"), living.vitals()
    living.pause()
    living.add(living.rows(unread))  # lost: the twin never sees them
    living.admin.call(*command)
    entries = living.send(4)
    assert _time(entries[0].id) > _time(told.watermark), "the new ids are higher: no help there"
    living.resume()
    living.wait_fault("stream_regressed", before)
    now = living.settle()
    assert now.epoch == told.epoch + 1
    assert 0 <= now.counters["lost_events"] - told.counters["lost_events"] <= unread
    assert now.counters["lost_is_lower_bound"] is True
    wait_until(lambda: living.journal("stream_regressed"), what="the journal line")
    assert living.journal("stream_regressed")[-1]["epoch"] == now.epoch


@pytest.mark.parametrize("is_down", [False, True], ids=["running", "stopped meanwhile"])
def test_an_older_append_only_file_is_a_regression_and_nothing_is_applied_twice(
    living: Living, tmp_path: Path, is_down: bool
) -> None:
    living.send(3)
    living.settle()
    living.server.keep_files(tmp_path / "older")
    living.send(4)  # applied, then forgotten by the server
    told = living.settle()
    if is_down:
        living.daemon.kill()
    living.server.crash_to(tmp_path / "older")
    living.send(7)  # more than were forgotten: the counts alone look right again
    if is_down:
        living.daemon.start()
        living.daemon.wait_started()
    living.wait_fault("stream_regressed", 0)
    now = living.settle()
    assert now.epoch == told.epoch + 1
    assert now.counters["lost_events"] == told.counters["lost_events"], "all were applied before"
    wait_until(
        lambda: [line["epoch"] for line in living.journal("stream_regressed")][-1:] == [now.epoch],
        what="the journal line",
    )


def test_a_foreign_trim_of_unread_entries_is_counted_exactly(living: Living) -> None:
    before, lost = living.faults("events_lost"), living.vitals().counters["lost_events"]
    living.pause()
    living.add(living.rows(6))
    living.admin.call("XTRIM", KEYS.events, "MAXLEN", "=", 0)
    living.send(4)
    living.resume()
    living.wait_fault("events_lost", before)
    told = living.settle()
    assert told.counters["lost_events"] == lost + 6
    wait_until(lambda: living.journal("events_lost"), what="the journal line")
    assert living.journal("events_lost")[-1]["events"] == 6


def test_foreign_deletions_of_unread_entries_are_counted_exactly(living: Living) -> None:
    before, lost = living.faults("events_lost"), living.vitals().counters["lost_events"]
    living.pause()
    entries = living.add(living.rows(8))
    gone = (1, 2, 5, 7)  # the last one too: nothing after it shows the gap
    living.admin.call("XDEL", KEYS.events, *[entries[place].id for place in gone])
    living.survive(entry for place, entry in enumerate(entries) if place not in gone)
    living.resume()
    living.wait_fault("events_lost", before)
    told = living.settle()
    wait_until(lambda: living.vitals().counters["lost_events"] == lost + 4, what=f"4 lost: {told}")


def test_a_full_server_is_named_while_training_goes_on_and_the_lease_stays(living: Living) -> None:
    before, dead = living.faults("broker_full"), len(living.dead())
    living.pause()
    living.survive(living.add([*living.rows(3), living.bad(), *living.rows(3)]))
    living.admin.call("CONFIG", "SET", "maxmemory", "1")
    try:
        lease = living.admin.call("GET", KEYS.lease)
        end = time.monotonic() + 2.5  # the lease would have run out twice
        living.resume()
        living.wait_fault("broker_full", before)
        living.caught_up()
        wait_until(lambda: time.monotonic() > end, what="the lease's time to pass")
        assert living.admin.call("GET", KEYS.lease) == lease
        assert len(living.dead()) == dead
    finally:
        living.admin.call("CONFIG", "SET", "maxmemory", "0")
    wait_until(lambda: len(living.dead()) == dead + 1, what="the dead letter")
    wait_until(lambda: living.journal("broker_full"), what="the journal line")
    living.settle()


def test_a_removed_group_is_made_again_and_named(living: Living) -> None:
    before, told = living.faults("group_missing"), living.vitals()
    living.admin.call("XGROUP", "DESTROY", KEYS.events, "mtld")
    living.send(2)
    living.wait_fault("group_missing", before)
    now = living.settle()
    assert now.epoch == told.epoch
    wait_until(lambda: living.group()["lag"] == 0, what="the group")


@pytest.mark.redis
def test_a_restart_after_sigkill_takes_the_lease_over_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path / "server", "valkey")
    with DaemonProcess(tmp_path / "state", server.url, "lease_ttl_s = 60.0\n") as daemon:
        daemon.start()
        token = daemon.wait_started().token
        daemon.kill()
        assert int(server.admin.call("PTTL", KEYS.lease)) > 30_000, "the dead one still holds it"
        daemon.start()
        told = daemon.wait_started()
        assert told.token == token + 1
        assert told.recovery_s is not None
        assert told.recovery_s < 3.0, "beyond importing torch"
    server.close()


def _time(entry_id: str) -> tuple[int, int]:
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq)
