"""Who is told of a promotion is told by a real program or a real server, again until it works, and never in our way."""

from __future__ import annotations

import hmac
import json
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from daemon import hooks
from daemon.config import Hook
from daemon.hooks import Hooks
from daemon.types import Json
from tests.support.waiting import wait_until


def event(version: int = 7) -> Json:
    return {
        "version": version,
        "path": f"/models/v{version:06d}",
        "reason": "gate",
        "scores": {"a": 0.5},
    }


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(hooks, "BACK_OFF_S", (0.01, 0.02))


@dataclass
class Outcomes:
    """What was reported."""

    found: list[tuple[bool, str]] = field(default_factory=list)

    def __call__(self, ok: bool, detail: str) -> None:
        self.found.append((ok, detail))

    def wait(self, num: int = 1) -> list[tuple[bool, str]]:
        wait_until(lambda: len(self.found) >= num, what=f"{num} outcomes")
        return self.found


Started = Callable[[Hook], tuple[Hooks, Outcomes]]


@pytest.fixture
def started() -> Iterator[Started]:
    made: list[Hooks] = []

    def start(settings: Hook) -> tuple[Hooks, Outcomes]:
        outcomes = Outcomes()
        made.append(Hooks(settings, outcomes))
        return made[-1], outcomes

    yield start
    for one in made:
        one.close(5.0)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], list[str]]:
    """An executable made of shell lines, in a folder where it may write."""

    def write(lines: str) -> list[str]:
        path = tmp_path / "hook"
        path.write_text(f"#!/bin/sh\ncd {tmp_path}\n{lines}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return [str(path), "an argument"]

    return write


# -- programs ----------------------------------------------------------------------------------------------


def test_a_program_gets_the_event_on_stdin_and_its_core_in_the_environment(
    started: Started, program: Callable[[str], list[str]], tmp_path: Path
) -> None:
    lines = 'cat > got\necho "$1 $MTLD_VERSION $MTLD_PATH $MTLD_REASON" > told'
    one, outcomes = started(Hook(exec=program(lines)))
    one.notify(event())
    assert outcomes.wait() == [(True, "exec told of v000007")]
    assert json.loads((tmp_path / "got").read_text()) == event()
    assert (tmp_path / "told").read_text() == "an argument 7 /models/v000007 gate\n"


def test_a_program_that_fails_is_tried_again_until_it_works(
    started: Started, program: Callable[[str], list[str]], tmp_path: Path
) -> None:
    one, outcomes = started(
        Hook(exec=program("echo x >> tries\n[ $(wc -l < tries) -ge 3 ]"), tries=5)
    )
    one.notify(event())
    assert outcomes.wait() == [(True, "exec told of v000007")]
    assert (tmp_path / "tries").read_text() == "x\n" * 3


def test_a_program_that_never_works_is_given_up_and_reported_with_what_it_said(
    started: Started, program: Callable[[str], list[str]]
) -> None:
    one, outcomes = started(Hook(exec=program("echo no such model >&2; exit 3"), tries=2))
    one.notify(event())
    assert outcomes.wait() == [
        (False, "exec of v000007 failed 2 times: exit code 3: no such model")
    ]


def test_a_program_that_does_not_exist_is_reported(started: Started, tmp_path: Path) -> None:
    one, outcomes = started(Hook(exec=[str(tmp_path / "none")], tries=1))
    one.notify(event())
    ((ok, detail),) = outcomes.wait()
    assert not ok
    assert "No such file" in detail


def test_a_program_that_hangs_is_killed_with_all_it_started(
    started: Started, program: Callable[[str], list[str]], tmp_path: Path
) -> None:
    lines = "sleep 600 &\necho $! > child\nsleep 600"
    one, outcomes = started(Hook(exec=program(lines), tries=1, timeout_s=0.3))
    one.notify(event())
    assert outcomes.wait() == [
        (False, "exec of v000007 failed 1 times: no end within 0.3 s; killed")
    ]
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


# -- web hooks ---------------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """A server that answers with what `answers` says, the last one for ever."""

    url: str
    answers: list[int]
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.got.append((self.path, dict(self.headers), body))
            self.send_response(told.answers.pop(0) if len(told.answers) > 1 else told.answers[0])
            self.send_header("Location", told.url)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = Receiver(f"http://127.0.0.1:{server.server_port}/hook?from=mtld", [204])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_web_hook_gets_a_signed_body_with_the_time_inside(
    started: Started, receiver: Receiver, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key\n")
    one, outcomes = started(Hook(webhook=receiver.url, secret_file=secret))
    one.notify(event())
    assert outcomes.wait() == [(True, "webhook told of v000007")]
    ((path, headers, body),) = receiver.got
    assert path == "/hook?from=mtld"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Mtld-Signature"] == f"sha256={hmac.new(b'key', body, 'sha256').hexdigest()}"
    sent = json.loads(body)
    assert datetime.fromisoformat(sent.pop("sent_at")).tzinfo is not None
    assert sent == event()


def test_a_web_hook_without_a_secret_is_not_signed(started: Started, receiver: Receiver) -> None:
    one, outcomes = started(Hook(webhook=receiver.url))
    one.notify(event())
    outcomes.wait()
    assert hooks.SIGNATURE not in receiver.got[0][1]


def test_a_server_that_fails_is_tried_again_and_a_redirect_is_not_followed(
    started: Started, receiver: Receiver
) -> None:
    receiver.answers = [500, 503, 200]
    one, outcomes = started(Hook(webhook=receiver.url))
    one.notify(event())
    assert outcomes.wait() == [(True, "webhook told of v000007")]
    assert len(receiver.got) == 3
    receiver.answers = [307]
    two, outcomes = started(Hook(webhook=receiver.url, tries=2))
    two.notify(event())
    assert outcomes.wait() == [
        (False, "webhook of v000007 failed 2 times: the server answered 307")
    ]
    assert len(receiver.got) == 5


def test_a_server_that_is_not_there_or_never_answers_is_reported(
    started: Started, receiver: Receiver
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        one, outcomes = started(Hook(webhook=url, tries=1, timeout_s=0.2))
        one.notify(event())
        ((ok, detail),) = outcomes.wait()
        assert (ok, "timed out" in detail) == (False, True)
    two, outcomes = started(Hook(webhook=url, tries=1))
    two.notify(event())
    ((ok, detail),) = outcomes.wait()
    assert (ok, "refused" in detail) == (False, True)


# -- both, order, ends -------------------------------------------------------------------------------------


def test_a_program_and_a_web_hook_are_told_apart_from_each_other(
    started: Started, receiver: Receiver, program: Callable[[str], list[str]]
) -> None:
    one, outcomes = started(Hook(exec=program("exit 1"), webhook=receiver.url, tries=1))
    one.notify(event())
    assert [ok for ok, _ in outcomes.wait(2)] == [False, True]


def test_notify_never_waits_and_the_newest_event_wins(
    started: Started, program: Callable[[str], list[str]], tmp_path: Path
) -> None:
    lines = "touch begun\nwhile [ ! -e go ]; do sleep 0.01; done\necho $MTLD_VERSION >> told"
    one, outcomes = started(Hook(exec=program(lines)))
    begin = time.monotonic()
    one.notify(event(1))
    wait_until((tmp_path / "begun").exists)
    for version in range(2, 30):
        one.notify(event(version))
    assert time.monotonic() - begin < 5
    (tmp_path / "go").touch()
    found = outcomes.wait(29)
    assert (tmp_path / "told").read_text().split() == ["1", "29"]
    assert (False, "v000002 gave way to v000003 before it was told") in found
    assert sum(ok for ok, _ in found) == 2


def test_a_newer_event_ends_the_tries_of_an_older_one(
    started: Started, program: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "BACK_OFF_S", (600.0, 600.0))
    tried = threading.Event()
    one, outcomes = started(Hook(exec=program("[ $MTLD_VERSION = 2 ]"), tries=5))
    failed = hooks.HookFailed.__init__

    def noticing(self: hooks.HookFailed, *words: object) -> None:
        failed(self, *words)
        tried.set()

    monkeypatch.setattr(hooks.HookFailed, "__init__", noticing)
    one.notify(event(1))
    assert tried.wait(10)
    one.notify(event(2))
    assert outcomes.wait(2) == [
        (False, "exec of v000001 failed 1 times: exit code 1"),
        (True, "exec told of v000002"),
    ]


def test_closing_ends_a_program_that_hangs(
    started: Started, program: Callable[[str], list[str]], tmp_path: Path
) -> None:
    one, outcomes = started(
        Hook(exec=program("echo $$ > pid.new; mv pid.new pid; sleep 600"), timeout_s=600)
    )
    one.notify(event())
    wait_until((tmp_path / "pid").exists)
    begin = time.monotonic()
    one.close(0.1)
    assert time.monotonic() - begin < 5
    assert not _runs(int((tmp_path / "pid").read_text()))
    assert [ok for ok, _ in outcomes.found] == [False]


def test_without_hooks_nothing_runs(started: Started) -> None:
    before = threading.active_count()
    one, outcomes = started(Hook())
    one.notify(event())
    assert threading.active_count() == before
    assert outcomes.found == []
