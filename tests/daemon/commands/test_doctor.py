"""`mtld doctor`: each thing that would break a promise is found, and told with what to do about it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.commands import checks
from daemon.commands.server_checks import _server
from daemon.control import ControlServer
from daemon.types import Vitals
from tests.daemon.commands.conftest import Answering, Mtld, add_checkpoint
from tests.support.servers import Server

Tell = Callable[..., Vitals]
GOOD = {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.2", "role": "master",
        "aof_enabled": "1", "maxmemory_policy": "noeviction", "used_memory": "100", "maxmemory": "0"}  # fmt: skip


def findings(mtld: Mtld, *words: str) -> dict[str, Any]:
    return {one["check"]: one for one in mtld("doctor", "-o", "json", *words).json}


def test_a_fresh_machine_has_nothing_that_fails(mtld: Mtld, state: Path) -> None:
    result = mtld("doctor")
    assert result.code == 0
    assert "0 fail" in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    assert list(state.iterdir()) == []  # it looks and leaves nothing behind


def test_every_row_that_is_not_ok_says_what_to_do(mtld: Mtld) -> None:
    found = findings(mtld).values()
    assert {one["level"] for one in found} == {"ok", "warn"}
    assert all(one["fix"] for one in found if one["level"] != "ok")


def test_another_package_of_our_name_fails(mtld: Mtld, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "3.1" if name == "python-daemon" else real(name)
    )
    assert findings(mtld)["package"]["level"] == "fail"
    assert mtld("doctor").code == 1


@pytest.mark.parametrize(
    ("version", "level"), [("2.7.9", "fail"), ("2.8.0", "ok"), ("2.13.0+cpu", "ok"), (None, "fail")]
)
def test_the_version_of_torch_is_told_without_importing_it(
    mtld: Mtld, monkeypatch: pytest.MonkeyPatch, version: str | None, level: str
) -> None:
    monkeypatch.setattr(checks, "_version", lambda name: version if name == "torch" else None)
    assert findings(mtld)["torch"]["level"] == level


def test_a_state_directory_that_others_may_read_is_warned_of(mtld: Mtld, state: Path) -> None:
    state.chmod(0o755)
    assert findings(mtld)["state"]["fix"] == f"chmod 700 {state}"


@pytest.mark.parametrize(("free", "level"), [(1 << 20, "fail"), (1 << 30, "warn"), (1 << 40, "ok")])
def test_a_disk_that_fills_up_is_told_in_time(
    mtld: Mtld, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    assert findings(mtld)["disk free"]["level"] == level


@pytest.mark.parametrize(("took", "level"), [(0.001, "ok"), (0.2, "warn"), (3.0, "fail")])
def test_a_slow_disk_is_told(
    mtld: Mtld, monkeypatch: pytest.MonkeyPatch, took: float, level: str
) -> None:
    monkeypatch.setattr(checks, "_fsync_s", lambda _: took)
    assert findings(mtld)["fsync"]["level"] == level


def test_a_full_disk_is_a_finding_and_no_traceback(
    mtld: Mtld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> float:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checks, "_fsync_s", fail)
    found = findings(mtld)["fsync"]
    assert found["level"] == "fail"
    assert "No space left" in found["found"]


@pytest.mark.parametrize(
    ("load", "threads", "level"),
    [(0.5, 2, "ok"), (2.0, 2, "ok"), (2.1, 2, "warn"), (9.0, 1, "ok"), (9.0, None, "warn")],
)
def test_threads_that_wait_for_crowded_cores_are_told(
    mtld: Mtld,
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    load: float,
    threads: int | None,
    level: str,
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    if threads is not None:
        path = add_checkpoint(state, 7) / "manifest.json"
        said = {**json.loads(path.read_text()), "build": {"threads": threads}}
        path.write_text(json.dumps(said))
    found = findings(mtld)["load"]
    assert (found["level"], "num_threads = 1" in found["fix"]) == (level, level == "warn")


def test_a_running_daemon_holds_its_lock_and_answers(
    mtld: Mtld, state: Path, tell: Tell, daemon: Answering
) -> None:
    tell()
    with (state / "LOCK").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = findings(mtld)
    assert (found["daemon"]["level"], found["control"]["level"]) == ("ok", "ok")
    assert "mode 600" in found["control"]["found"]


def test_a_daemon_without_its_lock_fails(mtld: Mtld, tell: Tell, daemon: Answering) -> None:
    tell()
    assert findings(mtld)["daemon"]["level"] == "fail"


def test_a_lock_without_a_daemon_is_warned_of(mtld: Mtld, state: Path) -> None:
    with (state / "LOCK").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "LOCK is held" in findings(mtld)["daemon"]["found"]


def test_a_control_socket_that_others_may_use_fails(
    mtld: Mtld, state: Path, tell: Tell, daemon: Answering
) -> None:
    tell()
    (state / "control.sock").chmod(0o666)
    assert findings(mtld)["control"]["fix"] == f"chmod 600 {state / 'control.sock'}"


def test_a_control_socket_that_is_gone_fails(mtld: Mtld, tell: Tell) -> None:
    tell()
    assert "missing" in findings(mtld)["control"]["found"]


def test_a_daemon_that_does_not_answer_fails(
    mtld: Mtld, state: Path, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(pid=os.getpid())
    server = ControlServer(state / "control.sock")
    monkeypatch.setattr(checks, "ANSWER_S", 0.02)
    assert "kill -9 is safe" in findings(mtld)["control"]["fix"]
    server.close()


def test_the_checkpoint_that_a_start_resumes_at_is_verified(mtld: Mtld, state: Path) -> None:
    path = add_checkpoint(state, 7)
    assert "000007 verified" in findings(mtld)["checkpoints"]["found"]
    (path / "state.safetensors").write_bytes(b"stbte")
    (path.parent / "000006.bad").mkdir()
    found = findings(mtld)
    assert found["checkpoints"]["level"] == "fail"
    assert found["set aside"]["found"] == "000006.bad"


def test_checkpoints_without_a_current_one_fail(mtld: Mtld, state: Path) -> None:
    add_checkpoint(state, 7, current=False)
    assert findings(mtld)["checkpoints"]["level"] == "fail"
    (state / "checkpoints" / "CURRENT").write_text("{")
    assert findings(mtld)["checkpoints"]["level"] == "fail"


@pytest.mark.parametrize(
    ("said", "check", "level"),
    [
        ({}, "broker", "ok"),
        ({"redis_version": "6.2.14", "server_name": "redis"}, "broker", "fail"),
        ({"aof_enabled": "0"}, "appendonly", "warn"),
        ({"maxmemory_policy": "allkeys-lru"}, "eviction", "fail"),
        ({"role": "slave"}, "role", "fail"),
        ({"used_memory": "95", "maxmemory": "100"}, "memory", "warn"),
        ({"used_memory": "80", "maxmemory": "100"}, "memory", "ok"),
    ],
)
def test_a_server_that_would_lose_the_log_is_told(
    said: dict[str, str], check: str, level: str
) -> None:
    found = {one.check: one for one in _server({**GOOD, **said})}
    assert found[check].level == level
    assert bool(found[check].fix) == (level != "ok")


def test_a_server_that_does_not_answer_fails(mtld: Mtld, state: Path) -> None:
    found = findings(mtld, "--redis-url", f"unix://{state}/none.sock")
    assert found["broker"]["level"] == "fail"


@pytest.mark.redis
def test_the_embedded_server_is_set_up_as_it_should_be(mtld: Mtld, server: Server) -> None:
    found = findings(mtld)
    assert {
        name: found[name]["level"] for name in ("broker", "appendonly", "eviction", "memory")
    } == dict.fromkeys(("broker", "appendonly", "eviction", "memory"), "ok")
    assert found["stream"]["level"] == "warn"  # nobody has made it yet


@pytest.mark.redis
def test_the_stream_its_group_and_the_clock_are_told(mtld: Mtld, server: Server) -> None:
    server.admin.call("XADD", "mtl:{default}:events", "*", "a", "b")
    assert findings(mtld)["group"]["level"] == "warn"
    server.admin.call("XGROUP", "CREATE", "mtl:{default}:events", "mtld", "0")
    found = findings(mtld)
    assert (found["group"]["level"], found["lag"]["found"], found["clock"]["level"]) == (
        "ok",
        "1 event",
        "ok",
    )
