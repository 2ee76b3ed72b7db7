"""What a service manager is told: datagrams to the socket it names, and nothing elsewhere."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from daemon import notify


def test_the_service_manager_hears_ready_and_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        notify.ready()
        assert manager.recv(100) == b"READY=1"
        notify.stopping()
        assert manager.recv(100) == b"STOPPING=1"


def test_without_a_service_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready()


def test_a_service_manager_that_does_not_listen_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify.ready()
    assert "does not take READY=1" in capfd.readouterr().err


def test_the_watchdog_is_fed_only_where_it_asks_for_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert notify.watchdog_s() == 3.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert notify.watchdog_s() == 3.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert notify.watchdog_s() == 0.0
    monkeypatch.setenv("WATCHDOG_USEC", "")
    assert notify.watchdog_s() == 0.0


def test_a_state_is_told_once_in_one_line_and_a_drain_asks_for_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        pulse = notify.Pulse()
        for _ in range(3):
            pulse.beat("broker_down", "it said:\nno")
        for _ in range(3):
            pulse.beat("draining", "")
        manager.setblocking(False)
        heard = []
        while len(heard) < 4:
            heard.append(manager.recv(1000))
        with pytest.raises(BlockingIOError):
            manager.recv(1000)
    assert heard == [
        b"STATUS=broker_down: it said: no",
        b"STOPPING=1",
        b"EXTEND_TIMEOUT_USEC=30000000",
        b"STATUS=draining",
    ]


def test_what_is_announced_may_take_longer_than_the_watchdog_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        notify.busy(300.0)
        assert manager.recv(200).decode().split() == [
            "EXTEND_TIMEOUT_USEC=300000000",
            "WATCHDOG_USEC=300000000",
            "WATCHDOG=1",
        ]
        notify.usual()
        assert manager.recv(200) == b"WATCHDOG_USEC=60000000\nWATCHDOG=1"
