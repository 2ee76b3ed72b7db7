"""SIGTERM in every phase of the process's life: how it ends, and that nothing is lost or flushed by it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.errors import DaemonError
from daemon.identity import id_tuple
from daemon.sources.lease import Lease
from daemon.sources.link import Keys
from tests.support.daemon_process import DaemonProcess
from tests.support.servers import Server
from tests.support.stream import Feed, send
from tests.support.twin import Twin, entry
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]

BEFORE_PYTHON_RAN = -signal.SIGTERM  # nobody can catch a signal then, and nothing was taken
LEFT_AT_ONCE = 128 + signal.SIGTERM
# Checkpoints follow one another without a pause, so a signal finds one being written.
SETTINGS = """
[engine]
buffer_rows = 40
replay_batch = 8
trunk = {width = 16, depth = 1}
[stream]
batch_size = 8
linger_s = 3600
[checkpoint]
every_s = 0.05
keep = 2
[publish]
every_s = 0
"""
ADD = {"modality": "image", "holdout": 0.1}


class Life:
    """A server, a daemon, its twin, and the events sent so far."""

    def __init__(self, folder: Path) -> None:
        self.server = Server(folder / "server", "valkey")
        self.daemon = DaemonProcess(folder / "state", self.server.url, SETTINGS)
        self.twin = Twin(self.daemon)
        self.feed = Feed(3)
        self.last = "0-0"
        self._add = self.feed.told("mtl.task.add.v1", "digits", ADD)

    def start(self) -> None:
        self.daemon.start()
        self.daemon.wait_started()
        if self.last == "0-0":
            self._send(self._add)

    def send(self, num: int) -> None:
        """Events of five rows, which never fill batches of eight evenly."""
        for _ in range(num):
            self._send(self.feed.digits(5, 4))

    def _send(self, event: dict[str, str | bytes]) -> None:
        self.last = send(self.server.admin, [event])
        self.twin.apply([entry(self.last, event)])

    def read_all(self) -> None:
        self.daemon.wait(lambda told: told.watermark == self.last and told.state == "idle")

    def close(self) -> None:
        self.daemon.close()
        self.server.close()


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    life = Life(tmp_path)
    yield life
    life.close()


def test_a_drain_leaves_pending_rows_unflushed_and_the_state_bit_exact(life: Life) -> None:
    life.start()
    life.send(3)
    life.read_all()
    assert life.daemon.drain() == 0
    found = life.twin.assert_equals_checkpoint()
    pending = {name: part for name, part in found.tensors.items() if "machine/pending" in name}
    assert pending, "no pending row was saved"
    told = life.daemon.vitals()
    assert told is not None
    assert (told.state, told.reason) == ("stopped", "")
    assert 0 < told.pending_rows < 8
    life.start()
    life.send(4)
    life.read_all()
    assert life.daemon.drain() == 0
    life.twin.assert_equals_checkpoint()


def test_sigterm_while_training_and_checkpointing_stops_in_the_middle_and_loses_nothing(
    life: Life,
) -> None:
    life.start()
    life.send(100)
    wait_until(life.daemon.durable, 30.0, "a first checkpoint")
    life.send(100)
    life.daemon.signal(signal.SIGTERM)
    life.send(100)  # the stream goes on while it stops
    assert life.daemon.ended() == 0, life.daemon.tail()
    durable = life.daemon.durable()
    assert durable is not None
    assert (0, 0) < id_tuple(durable["watermark"]) < id_tuple(life.last), "it read to the end"
    life.start()
    life.read_all()
    assert life.daemon.drain() == 0
    life.twin.assert_equals_checkpoint()


def test_sigterm_during_a_checkpoint_that_somebody_waits_for_answers_them(life: Life) -> None:
    life.start()
    life.send(20)
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(life.daemon.ask("checkpoint"))
        except DaemonError as error:
            answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert life.daemon.drain() == 0
    for thread in threads:
        thread.join(30.0)
    assert len(answers) == len(threads)
    life.start()
    life.read_all()
    assert life.daemon.drain() == 0
    life.twin.assert_equals_checkpoint()


def test_sigterm_while_idle_and_while_paused_exits_zero_and_a_pause_outlives_it(
    life: Life,
) -> None:
    life.start()
    life.send(4)
    life.read_all()
    assert life.daemon.drain() == 0
    life.start()
    life.daemon.ask("pause", reason="maintenance")
    life.send(4)
    assert life.daemon.drain() == 0
    life.start()
    told = life.daemon.wait(lambda told: told.state == "paused")
    assert told.watermark != life.last
    life.daemon.ask("resume")
    life.read_all()
    assert life.daemon.drain() == 0
    life.twin.assert_equals_checkpoint()


@pytest.mark.parametrize("phase", ["spawned", "catching", "locked"])
def test_sigterm_while_starting_ends_it_and_the_next_start_works(life: Life, phase: str) -> None:
    life.start()
    life.send(3)
    life.read_all()
    assert life.daemon.kill() == -signal.SIGKILL
    before = _socket(life)
    life.daemon.start()
    if phase == "catching":
        wait_until(lambda: life.daemon.catches(signal.SIGTERM), 60.0, "the handler")
    if phase == "locked":
        wait_until(lambda: _socket(life) not in (0, before), 60.0, "the control socket")
    allowed = (0, BEFORE_PYTHON_RAN) if phase == "spawned" else (0,)
    assert life.daemon.drain() in allowed, life.daemon.tail()
    life.start()
    life.send(3)
    life.read_all()
    assert life.daemon.drain() == 0
    life.twin.assert_equals_checkpoint()


def _socket(life: Life) -> int:
    """The inode of the control socket, 0 where there is none."""
    socket = life.daemon.state / "control.sock"
    return socket.stat().st_ino if socket.exists() else 0


def test_sigterm_reaches_the_daemon_that_the_console_script_becomes(life: Life) -> None:
    life.daemon.program = [str(Path(sys.executable).with_name("mtld"))]
    life.daemon.start()
    wait_until(lambda: life.daemon.catches(signal.SIGTERM), 60.0, "the handler")
    assert life.daemon.drain() == 0, life.daemon.tail()


def test_sigterm_while_it_waits_for_its_server_ends_it_at_once(life: Life) -> None:
    life.server.admin.drop()
    life.server.broker.kill()
    life.daemon.start()
    wait_until(lambda: "does not answer; tried again" in life.daemon.tail(), 60.0, "a first try")
    life.daemon.signal(signal.SIGTERM)
    assert life.daemon.ended(5.0) == 0, life.daemon.tail()
    assert "before anything was read" in life.daemon.tail()
    assert _socket(life) == 0


def test_sigterm_as_soon_as_the_lease_is_taken_gives_it_back(life: Life) -> None:
    def lease() -> Lease | None:
        return Lease.parse(life.server.admin.call("GET", Keys.of("test").lease))

    life.daemon.start()
    wait_until(lease, 60.0, "the lease")
    assert life.daemon.drain() == 0, life.daemon.tail()
    assert lease() == Lease(1)


def test_a_second_sigterm_leaves_at_once_and_loses_nothing_durable(life: Life) -> None:
    life.start()
    life.send(10)
    life.read_all()
    server = life.server.broker.pid
    assert server is not None
    os.kill(server, signal.SIGSTOP)  # a drain would wait for it
    try:
        life.daemon.signal(signal.SIGTERM)
        wait_until(lambda: '"draining' in life.daemon.tail(), what="the drain to begin")
        life.daemon.signal(signal.SIGTERM)
        assert life.daemon.ended(3.0) == LEFT_AT_ONCE
    finally:
        os.kill(server, signal.SIGCONT)
    life.start()
    life.send(2)
    life.read_all()
    assert life.daemon.drain() == 0
    life.twin.assert_equals_checkpoint()


def test_a_server_that_is_gone_does_not_hold_a_drain_up(life: Life) -> None:
    life.start()
    life.send(10)
    life.read_all()
    life.server.admin.drop()
    life.server.broker.kill()
    life.daemon.signal(signal.SIGTERM)
    assert life.daemon.ended(15.0) == 0
    life.server.broker.ensure()
    life.start()
    life.send(2)
    life.read_all()
    assert life.daemon.drain() == 0
    life.twin.assert_equals_checkpoint()
