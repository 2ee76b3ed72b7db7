"""The control client: every way in which a daemon does not answer has its own exit code."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.client import call
from daemon.control import ControlServer
from daemon.errors import (
    BrokerFull,
    ConfigError,
    DaemonError,
    IntegrityError,
    NotRunning,
    Refused,
    TimedOut,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    running = ControlServer(tmp_path / "control.sock")
    yield running
    running.close()


def answer(server: ControlServer, reply: dict[str, object]) -> None:
    threading.Thread(
        target=lambda: server.requests.get(timeout=5).reply(reply), daemon=True
    ).start()


def test_the_answer_is_what_the_daemon_said(server: ControlServer, tmp_path: Path) -> None:
    answer(server, {"seq": 3})
    assert call(tmp_path, "checkpoint", {"by": "me"}) == {"seq": 3}


def test_no_socket_means_that_no_daemon_runs(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="start one with `mtld run`"):
        call(tmp_path, "pause")


def test_a_socket_left_behind_means_that_no_daemon_runs(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "control.sock"))
    with pytest.raises(NotRunning):
        call(tmp_path, "pause")


def test_a_daemon_that_dies_before_it_answers_is_not_running(
    server: ControlServer, tmp_path: Path
) -> None:
    threading.Thread(
        target=lambda: (server.requests.get(timeout=5), server.close()), daemon=True
    ).start()
    with pytest.raises(NotRunning):
        call(tmp_path, "pause")


def test_an_answer_that_does_not_come_is_a_time_out(server: ControlServer, tmp_path: Path) -> None:
    with pytest.raises(TimedOut, match="may still carry it out"):
        call(tmp_path, "pause", timeout_s=0.02)


@pytest.mark.parametrize(
    ("exit_code", "leaf"),
    [
        (2, ConfigError),
        (7, Refused),
        (6, TimedOut),
        (8, IntegrityError),
        (75, BrokerFull),
        (1, DaemonError),
    ],
)
def test_an_error_keeps_its_exit_code(
    server: ControlServer, tmp_path: Path, exit_code: int, leaf: type[DaemonError]
) -> None:
    answer(server, {"error": "because", "exit_code": exit_code})
    with pytest.raises(leaf, match="because") as caught:
        call(tmp_path, "pause")
    assert caught.value.exit_code == exit_code


@pytest.mark.parametrize("text", [b"hello\n", b"[1]\n"])
def test_something_else_on_the_socket_is_said_to_be_that(tmp_path: Path, text: bytes) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "control.sock"))
    listener.listen()

    def speak() -> None:
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(text)
        connection.close()

    thread = threading.Thread(target=speak)
    thread.start()
    with pytest.raises(Refused, match="not a daemon's control socket"):
        call(tmp_path, "pause")
    thread.join()
    listener.close()
