"""The life of a task from the command line, against a real daemon: declared, fed, changed, switched to, retired."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from daemon import cli
from tests.support.daemon_process import DaemonProcess
from tests.support.servers import NAMESPACE, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

SETTINGS = """
[engine]
buffer_rows = 40
replay_batch = 8
trunk = {width = 16, depth = 1}
[checkpoint]
every_s = 0.5
[publish]
every_s = 0
"""


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DaemonProcess]:
    server = Server(tmp_path / "server", "valkey")
    for name in ("MTLD_REDIS_URL", "MTLD_NAMESPACE", "MTLD_CONFIG", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MTLD_STATE", str(tmp_path / "state"))
    with DaemonProcess(tmp_path / "state", server.url, SETTINGS, NAMESPACE) as daemon:
        daemon.start()
        daemon.wait(lambda told: told.state == "idle")
        yield daemon
        assert daemon.drain() == 0
    server.close()


def test_waiting_returns_when_a_change_is_applied_or_refused(
    daemon: DaemonProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def typed(*words: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = cli.run([*words, "-o", "json"], lambda *_: 0)
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    def known() -> dict[str, Any]:
        _, tasks = typed("task", "list")
        return {task["name"]: task for task in tasks}

    assert typed("task", "add", "mood", "--modality", "text", "--wait")[1]["applied"] is True
    assert set(known()) == {"mood"}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"text": "a fine day", "label": "good"}\n{"text": "dreadful", "label": "bad"}\n' * 40
    )
    code, sent = typed("push", str(rows), "-t", "mood", "--durable")
    assert (code, sent["rows"], sent["durable"]) == (0, 80, sent["events"])
    assert typed("task", "update", "mood", "--loss-weight", "2", "--wait")[0] == 0
    assert known()["mood"]["loss_weight"] == 2.0
    assert typed("task", "switch", "mood", "--phase", "second", "--wait")[0] == 0
    told = daemon.vitals()
    assert told is not None
    assert (told.task, told.phase) == ("mood", "second")
    assert typed("task", "switch", "nobody", "--wait")[0] == 7
    assert typed("task", "retire", "mood", "--confirm", "mood", "--wait")[0] == 0
    assert known() == {}
    daemon.wait(lambda told: told.counters["dead_events"] == 1, what="the refusal")


def test_waiting_ends_in_time_when_the_daemon_is_paused(
    daemon: DaemonProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.ask("pause", reason="test")
    daemon.wait(lambda told: told.state == "paused")
    words = ["task", "add", "late", "--modality", "text", "--wait", "--timeout", "0.3"]
    assert cli.run(words, lambda *_: 0) == 6
    assert "the daemon is paused: `mtld resume`" in capsys.readouterr().err
