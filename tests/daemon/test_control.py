"""The control socket: only its owner, many clients, bounded lines, and answers that come when they come."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import control
from daemon.client import address
from daemon.control import ControlServer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
def server(path: Path) -> Iterator[ControlServer]:
    running = ControlServer(path)
    yield running
    running.close()


@pytest.fixture
def connect(path: Path) -> Iterator[Any]:
    opened: list[socket.socket] = []

    def one() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5)
        with address(path) as where:
            connection.connect(where)
        opened.append(connection)
        return connection

    yield one
    for connection in opened:
        connection.close()


def line(connection: socket.socket) -> Any:
    received = b""
    while not received.endswith(b"\n"):
        chunk = connection.recv(65_536)
        if not chunk:
            return None
        received += chunk
    return json.loads(received)


def test_only_the_owner_may_connect(server: ControlServer, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["control.sock"]


def test_a_line_becomes_a_request_and_its_reply_a_line(server: ControlServer, connect: Any) -> None:
    client = connect()
    client.sendall(b'{"name": "pause", "args": {"reason": "x"}}\n')
    request = server.requests.get(timeout=5)
    assert (request.name, request.args) == ("pause", {"reason": "x"})
    request.reply({"state": "paused"})
    assert line(client) == {"state": "paused"}


def test_a_command_may_come_in_pieces(server: ControlServer, connect: Any) -> None:
    client = connect()
    for piece in (b'{"name"', b': "drain"', b"}\n"):
        client.sendall(piece)
    assert server.requests.get(timeout=5).args == {}


def test_replies_come_in_the_order_they_are_given_not_asked(
    server: ControlServer, connect: Any
) -> None:
    first, second = connect(), connect()
    first.sendall(b'{"name": "a"}\n')
    slow = server.requests.get(timeout=5)
    second.sendall(b'{"name": "b"}\n')
    server.requests.get(timeout=5).reply({"is": "b"})
    assert line(second) == {"is": "b"}
    slow.reply({"is": "a"})
    assert line(first) == {"is": "a"}


def test_a_clients_next_command_waits_for_its_answer(server: ControlServer, connect: Any) -> None:
    client = connect()
    client.sendall(b'{"name": "a"}\n{"name": "b"}\n')
    first = server.requests.get(timeout=5)
    assert server.requests.empty()
    first.reply({})
    assert line(client) == {}
    assert server.requests.get(timeout=5).name == "b"


@pytest.mark.parametrize(
    "text",
    [b"pause", b"[1]", b"{}", b'{"name": 3}', b'{"name": "a", "args": []}', b"\xff", b"[" * 9000],
)
def test_what_is_no_command_is_answered_and_the_client_may_go_on(
    server: ControlServer, connect: Any, text: bytes
) -> None:
    client = connect()
    client.sendall(text + b"\n")
    assert line(client)["exit_code"] == 2
    client.sendall(b'{"name": "a"}\n')
    assert server.requests.get(timeout=5).name == "a"


def test_a_line_without_end_is_refused(server: ControlServer, connect: Any) -> None:
    client = connect()
    client.sendall(b"x" * control.MAX_LINE_BYTES)
    assert "at most 65536 are read" in line(client)["error"]
    assert server.requests.empty()


def test_a_client_that_left_does_not_hold_up_the_others(
    server: ControlServer, connect: Any
) -> None:
    gone, stays = connect(), connect()
    gone.sendall(b'{"name": "a"}\n')
    request = server.requests.get(timeout=5)
    gone.close()
    stays.sendall(b'{"name": "b"}\n')
    other = server.requests.get(timeout=5)
    request.reply({"late": True})
    other.reply({"is": "b"})
    assert line(stays) == {"is": "b"}


def test_one_client_too_many_is_told_so(
    server: ControlServer, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 2)
    clients = [connect() for _ in range(3)]
    assert line(clients[2])["exit_code"] == 75
    assert line(clients[2]) is None
    clients[1].sendall(b'{"name": "a"}\n')
    assert server.requests.get(timeout=5).name == "a"


def test_answers_given_before_the_close_still_leave(path: Path, connect: Any) -> None:
    server = ControlServer(path)
    client = connect()
    client.sendall(b'{"name": "drain"}\n')
    server.requests.get(timeout=5).reply({"seq": 3, "padding": "x" * 100_000})
    server.close()
    assert line(client)["seq"] == 3
    assert not path.exists()


def test_a_reply_after_the_close_is_dropped(path: Path, connect: Any) -> None:
    server = ControlServer(path)
    client = connect()
    client.sendall(b'{"name": "a"}\n')
    request = server.requests.get(timeout=5)
    server.close()
    server.close()
    request.reply({})
    assert line(client) is None


def test_the_socket_of_a_killed_daemon_is_replaced(path: Path, connect: Any) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    server = ControlServer(path)
    connect().sendall(b'{"name": "a"}\n')
    assert server.requests.get(timeout=5).name == "a"
    server.close()


def test_a_state_directory_may_have_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    server = ControlServer(folder / "control.sock")
    client = socket.socket(socket.AF_UNIX)
    with address(folder / "control.sock") as where:
        client.connect(where)
    client.sendall(b'{"name": "a"}\n')
    assert server.requests.get(timeout=5).name == "a"
    client.close()
    server.close()


def test_no_descriptor_and_no_thread_outlives_the_server(path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked

    before = descriptors()
    for _ in range(3):
        ControlServer(path).close()
    assert descriptors() == before
