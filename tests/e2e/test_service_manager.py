"""What a real daemon tells systemd over its life, and that a loop that hangs is not kept alive by other threads."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon_process import DaemonProcess
from tests.support.servers import Server
from tests.support.service_manager import ServiceManager
from tests.support.stream import Feed, send
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]
WATCHDOG_S = 0.6  # a beat is due every half of it


def settings(wedge: Path) -> str:
    return f"""
[engine]
trunk = {{width = 16, depth = 1}}
[strategy]
name = "tests.support.wedging:Wedging"
while_exists = "{wedge}"
[stream]
batch_size = 8
linger_s = 0.1
[checkpoint]
every_s = 0.1
[publish]
every_s = 0
"""


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceManager]:
    manager = ServiceManager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    yield manager
    manager.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server", "valkey")
    yield server
    server.close()


def test_the_loop_feeds_the_watchdog_while_it_trains_idles_pauses_and_drains_but_not_while_it_hangs(
    tmp_path: Path, manager: ServiceManager, server: Server
) -> None:
    wedge, feed = tmp_path / "wedge", Feed(3)
    add = feed.told("mtl.task.add.v1", "digits", {"modality": "image", "holdout": 0.0})
    with DaemonProcess(tmp_path / "state", server.url, settings(wedge)) as daemon:
        daemon.start()
        manager.wait("READY=1")
        told = [line for _, line in manager.heard]
        assert told[:2] == ["EXTEND_TIMEOUT_USEC=600000000", "WATCHDOG_USEC=600000000"], "loading"
        assert told[told.index("READY=1") - 2] == f"WATCHDOG_USEC={WATCHDOG_S * 1e6:.0f}"
        send(server.admin, [add, *(feed.digits(8, 4) for _ in range(20))])
        daemon.wait_caught_up(server.admin)
        manager.wait("STATUS=idle")
        manager.wait("WATCHDOG=1", manager.count("WATCHDOG=1") + 1)

        wedge.touch()
        send(server.admin, [feed.digits(8, 4)])
        assert beats_stop(manager), "a loop that hangs was fed"
        assert daemon.returncode is None
        wedge.unlink()
        manager.wait("WATCHDOG=1", manager.count("WATCHDOG=1"))

        daemon.ask("pause", reason="inspecting camera 7")
        manager.wait("STATUS=paused: inspecting camera 7")
        manager.wait("WATCHDOG=1", manager.count("WATCHDOG=1") + 1)
        extended = manager.count("EXTEND_TIMEOUT_USEC=")
        assert daemon.drain() == 0
        manager.wait("EXTEND_TIMEOUT_USEC=", extended)
    lines = [line for _, line in manager.heard]
    assert lines.count("READY=1") == lines.count("STOPPING=1") == 1
    assert lines.index("READY=1") < lines.index("STOPPING=1")


def test_a_loop_that_hangs_says_where_when_the_watchdog_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")  # as the unit does
    wedge, feed = tmp_path / "wedge", Feed(3)
    add = feed.told("mtl.task.add.v1", "digits", {"modality": "image", "holdout": 0.0})
    wedge.touch()
    with DaemonProcess(tmp_path / "state", server.url, settings(wedge)) as daemon:
        daemon.start()
        send(server.admin, [add, feed.digits(8, 4)])
        wait_until(lambda: Path(f"{wedge}.hit").exists(), 60.0, "a step that hangs")
        daemon.signal(signal.SIGABRT)  # systemd's WatchdogSignal=
        assert daemon.ended() == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in daemon.tail(20_000)
        assert 'wedging.py", line' in daemon.tail(20_000)


def beats_stop(manager: ServiceManager) -> bool:
    """Whether, before long, three watchdog periods pass without a beat."""
    pause, until = threading.Event(), monotonic() + 10.0
    while monotonic() < until:
        last = max(at for at, line in list(manager.heard) if line == "WATCHDOG=1")
        if monotonic() - last > 3 * WATCHDOG_S:
            return True
        pause.wait(0.05)
    return False
