"""The server: who may reach it, what it answers, how it is bounded, and that nothing brings it down."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from daemon import condition, vitals
from daemon.errors import ConfigError, Refused
from daemon.types import Vitals
from daemon.web import server as serving
from daemon.web.answers import STATIC, TYPES, Answers
from daemon.web.history import History
from daemon.web.server import Server, address
from daemon.web.streaming import Pulse
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    known = Vitals(written_at=vitals.now(), pid=os.getpid(), state="training", broker_up=True)
    vitals.write(tmp_path / vitals.NAME, known)
    return tmp_path


@contextmanager
def running(state: Path) -> Iterator[Server]:
    history = History(state / "history.jsonl", pytest.fail)
    pulse = Pulse(state, history)
    made = Server(("127.0.0.1", 0), Answers(state, history, lambda: ()), pulse)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        pulse.stop()
        made.shutdown()
        made.server_close()
        thread.join()


@pytest.fixture
def server(state: Path) -> Iterator[Server]:
    with running(state) as made:
        yield made


Reply = tuple[int, dict[str, str], bytes]


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> Reply:
    link = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    try:
        link.request(method, path, headers=headers)
        answer = link.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        link.close()


def raw(server: Server, sent: bytes) -> bytes:
    """What comes back for these bytes, until the server closes."""
    with socket.create_connection(server.server_address[:2], timeout=10) as link:
        link.sendall(sent)
        return b"".join(iter(lambda: link.recv(65536), b""))


@pytest.mark.parametrize(
    ("listen", "found"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("localhost:0", ("127.0.0.1", 0)),
        ("127.8.9.1:80", ("127.8.9.1", 80)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_an_address_of_this_machine_alone_is_taken(listen: str, found: tuple[str, int]) -> None:
    assert address(listen) == found


@pytest.mark.parametrize("listen", ["0.0.0.0:9464", "[::]:9464", "10.0.0.1:80", "example.org:80"])
def test_an_address_that_others_reach_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="other machines"):
        address(listen)


@pytest.mark.parametrize(
    "listen", ["9464", ":9464", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", ""]
)
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        address(listen)


def test_a_port_that_is_taken_is_told_with_what_to_do(server: Server) -> None:
    host, port = server.server_address[:2]
    with pytest.raises(Refused, match="choose another --listen"):
        Server((str(host), int(port)), server.answers, server.pulse)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/livez", "text/plain; charset=utf-8"),
        ("/readyz?verbose", "text/plain; charset=utf-8"),
        ("/healthz", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/api/status", "application/json"),
        ("/api/history", "application/json"),
        ("/api/releases", "application/json"),
    ],
)
def test_every_path_answers_with_its_type_and_protects_the_browser(
    server: Server, path: str, kind: str
) -> None:
    status, headers, body = ask(server, path)
    assert status == 200
    assert headers["Content-Type"] == kind
    assert int(headers["Content-Length"]) == len(body) > 0
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    if kind == "application/json":
        json.loads(body)
    assert ask(server, path, "HEAD")[2] == b""


def test_the_status_is_that_of_the_verb(state: Path, server: Server) -> None:
    told: dict[str, Any] = json.loads(ask(server, "/api/status")[2])
    known = vitals.read(state / vitals.NAME)
    assert known is not None
    expected = json.loads(json.dumps(condition.judge(known, state)))
    assert {**told, "written_s_ago": 0} == {**expected, "written_s_ago": 0}


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": {}}', '{"tasks": [1]', "\x00"])
def test_torn_vitals_are_answered_as_none(state: Path, server: Server, content: str) -> None:
    (state / vitals.NAME).write_text(content)
    for path in ("/livez", "/readyz", "/healthz", "/api/status"):
        assert ask(server, path)[0] == 503
    assert b"mtld_up 0.0" in ask(server, "/metrics")[2]


def test_every_file_of_the_page_is_served_and_no_other(server: Server) -> None:
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        status, headers, body = ask(server, f"/static/{path.relative_to(STATIC).as_posix()}")
        assert (status, body) == (200, path.read_bytes())
        assert headers["Content-Type"] == TYPES.get(path.suffix, "application/octet-stream")
    for path in (
        "/static/",
        "/static/js",
        "/static/../answers.py",
        "/static/%2e%2e/answers.py",
        "/static//etc/passwd",
        "/x",
    ):
        assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(server: Server, method: str) -> None:
    status, headers, _ = ask(server, "/livez", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "host", ["evil.example", "10.0.0.1", "", "127.0.0.1.evil.example:9464", "["]
)
def test_a_request_for_another_host_is_refused(server: Server, host: str) -> None:
    assert ask(server, "/api/status", Host=host)[0] == 421
    assert ask(server, "/api/status", Host="localhost:1234")[0] == 200


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_the_next_one_answered(
    server: Server, sent: bytes
) -> None:
    answer = raw(server, sent)
    assert int(answer.split()[1]) >= 400
    assert b"Content-Security-Policy" in answer
    assert ask(server, "/livez")[0] == 200


def test_a_client_that_says_nothing_is_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.Handler, "timeout", 0.05)
    assert raw(server, b"GET / HT") == b""


def test_connections_beyond_the_bound_are_turned_away_at_once(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 2)
    with running(state) as server:
        idle = [socket.create_connection(server.server_address[:2]) for _ in range(2)]
        wait_until(lambda: not server._slots._value)  # pyright: ignore
        assert raw(server, b"").startswith(b"HTTP/1.1 503")
        for link in idle:
            link.close()
        wait_until(lambda: server._slots._value == 2)  # pyright: ignore
        assert ask(server, "/livez")[0] == 200


def test_events_are_streamed_to_a_bounded_number_of_listeners(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "listeners", threading.BoundedSemaphore(1))
    link = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    link.request("GET", "/events")
    answer = link.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    assert answer.readline() == b"retry: 3000\n"
    answer.readline()
    status, headers, _ = ask(server, "/events")
    assert (status, headers["Retry-After"]) == (503, "5")
    server.pulse.beat()
    assert answer.readline() == b"event: status\n"
    assert json.loads(answer.readline()[6:])["state"] == "training"
    link.close()
    answer.close()

    def is_free() -> bool:
        server.pulse.beat()  # writing shows that nobody listens any more
        return ask(server, "/events", "HEAD")[0] == 200

    wait_until(is_free)


def test_a_quiet_stream_says_that_it_is_still_there(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "QUIET_S", 0.01)
    with socket.create_connection(server.server_address[:2], timeout=10) as link:
        link.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        file = link.makefile("rb")
        assert any(line == b": still here\n" for line in file)


def test_an_answer_that_fails_is_told_in_one_line_and_the_next_one_given(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(path: str, query: str) -> None:
        raise RuntimeError("told you so")

    with monkeypatch.context() as patch:
        patch.setattr(server.answers, "to", broken)
        assert raw(server, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
    wait_until(lambda: "told you so" in capsys.readouterr().err)
    assert ask(server, "/livez")[0] == 200
