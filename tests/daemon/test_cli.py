"""The command line itself: what is imported, what is printed, and the code it ends with."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon import cli, early, vitals
from daemon.config import Config
from daemon.errors import DaemonError, IntegrityError, LeaseLost, NotRunning, Refused
from daemon.types import Vitals


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MTLD_CONFIG", "MTLD_REDIS_URL", "MTLD_NAMESPACE", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MTLD_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the signals are those of the tests
    monkeypatch.setattr(signal, "pthread_sigmask", lambda *_: None)


def typed(*words: str, launch: Any = lambda *_: 0) -> int:
    return cli.run(words, launch)


@pytest.mark.parametrize(
    "words", [["stauts"], ["status", "--chek"], ["task"], ["task", "ad"], ["push"], []]
)
def test_what_is_no_command_exits_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(*words) == 2
    printed = "".join(capsys.readouterr())
    assert "Usage: mtld" in printed
    assert "Traceback" not in printed


def test_a_mistyped_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    typed("stauts")
    assert "status" in capsys.readouterr().err


@pytest.mark.parametrize("leaf", [DaemonError, NotRunning, Refused, IntegrityError, LeaseLost])
def test_an_error_is_one_line_and_its_exit_code(
    leaf: type[DaemonError], capsys: pytest.CaptureFixture[str]
) -> None:
    def launch(*_: object) -> int:
        raise leaf("found this; do that")

    assert typed("run", launch=launch) == leaf.exit_code
    out, err = capsys.readouterr()
    assert (out, err) == ("", "mtld: found this; do that\n")


def test_a_start_that_was_asked_to_end_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    def launch(*_: object) -> int:
        raise early.Left

    assert typed("run", launch=launch) == 0
    assert capsys.readouterr() == ("", "mtld: asked to end before anything was read\n")


def test_run_starts_a_daemon_with_what_was_typed(tmp_path: Path) -> None:
    started: list[tuple[Config, str | None]] = []
    file = tmp_path / "mtld.toml"
    file.write_text('namespace = "file"\n[stream]\nbatch_size = 8\n')

    def launch(config: Config, start: str | None) -> int:
        started.append((config, start))
        return 0

    words = (
        "run",
        "-c",
        str(file),
        "--redis-url",
        "redis://h",
        "--start",
        "group",
        "--log-level",
        "debug",
        "-o",
        "json",
    )
    assert typed(*words, launch=launch) == 0
    ((config, start),) = started
    assert (config.redis_url, config.namespace, config.stream.batch_size, start) == (
        "redis://h",
        "file",
        8,
        "group",
    )
    assert (config.log.level, config.log.format) == ("debug", "json")
    assert config.state_dir == tmp_path / "state"


def test_run_ends_with_the_daemons_exit_code() -> None:
    assert typed("run", launch=lambda *_: 8) == 8


@pytest.mark.parametrize(
    "words",
    [
        ["--log-level", "loud"],
        ["-c", "/nowhere.toml"],
        ["--redis-url", "http://x"],
        ["--start", "later"],
    ],
)
def test_run_complains_before_it_starts_anything(words: list[str]) -> None:
    def launch(*_: object) -> int:
        raise AssertionError("started")

    assert typed("run", *words, launch=launch) == 2


def test_the_console_script_becomes_a_process_that_may_know_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    became: list[list[str]] = []

    def execv(_: str, words: list[str]) -> None:
        became.append(words)
        raise SystemExit(0)

    monkeypatch.setattr("os.execv", execv)
    monkeypatch.setattr("sys.argv", ["mtld", "run", "--namespace", "a.b"])
    assert cli.main() == 0
    monkeypatch.setattr("sys.argv", ["mtld", "demo", "-o", "json", "--", "--fast"])
    assert cli.main() == 0
    assert became == [
        [sys.executable, "-m", "daemon", "run", "--namespace", "a.b"],
        [sys.executable, "-m", "daemon.demo", "--fast", "--json"],
    ]


def test_the_module_speaks_the_same_verbs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["daemon", "config", "check", "-o", "json"])
    with pytest.raises(SystemExit) as done:
        runpy.run_module("daemon", run_name="__main__")
    assert done.value.code == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_only_the_verb_that_was_typed_is_imported() -> None:
    code = """
import sys
from daemon.cli import run
run(["config", "check"], None)
print(sorted(name for name in sys.modules if name.startswith("daemon.commands.")))
print([name for name in ("torch", "redis", "numpy", "rich", "structlog", "apscheduler") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    verbs, heavy = done.stdout.splitlines()[-2:]
    assert verbs == "['daemon.commands.config', 'daemon.commands.shared', 'daemon.commands.words']"
    assert heavy == "[]"


def test_what_a_producer_wrote_cannot_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def launch(*_: object) -> int:
        raise Refused("task '\x1b[2Jmood'\nis not known")

    typed("run", launch=launch)
    assert capsys.readouterr().err == "mtld: task '\ufffd[2Jmood' is not known\n"


def test_a_terminal_without_our_signs_shows_others(tmp_path: Path) -> None:
    tell = Vitals(
        written_at=vitals.now(), pid=1, state="training", faults={"r": {"detail": "r" * 90}}
    )
    vitals.write(tmp_path / vitals.NAME, tell)
    code = "import sys; from daemon.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "status", "--state", str(tmp_path)],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.stderr == b""
    assert b"rr?" in done.stdout
