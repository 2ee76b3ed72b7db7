"""pause, resume, drain, checkpoint now, snapshot publish: what is asked of the daemon and what is said of its answer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from daemon import vitals
from daemon.commands.pause import seconds
from daemon.errors import ConfigError
from daemon.types import Vitals
from tests.daemon.commands.conftest import Answering, Mtld

DONE = {"seq": 12, "step": 3400, "state": "running", "snapshot": {"path": "/models/v000003"}}


@pytest.mark.parametrize(
    ("words", "name", "args", "says"),
    [
        (
            ["pause", "--reason", "disk"],
            "pause",
            {"reason": "disk"},
            "paused at step 3,400, checkpoint 000012",
        ),
        (["pause"], "pause", {"reason": "no reason given"}, "go on with `mtld resume`"),
        (["resume"], "resume", {}, "resumed at step 3,400"),
        (["checkpoint", "now"], "checkpoint", {}, "durable at step 3,400"),
        (["snapshot", "publish"], "publish", {}, "published /models/v000003"),
        (["drain"], "drain", {}, "drained at step 3,400"),
    ],
)
def test_a_command_is_asked_of_the_daemon_and_its_answer_told(
    mtld: Mtld,
    daemon: Answering,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    name: str,
    args: dict[str, str],
    says: str,
) -> None:
    monkeypatch.setenv("USER", "olga")
    daemon.answers[name] = DONE
    result = mtld(*words)
    assert result.code == 0
    assert says in result.out
    assert [(one.name, one.args) for one in daemon.asked] == [(name, {**args, "by": "olga"})]
    assert mtld(*words, "-o", "json").json == DONE


@pytest.mark.parametrize(
    "words", [["pause"], ["resume"], ["drain"], ["checkpoint", "now"], ["snapshot", "publish"]]
)
def test_without_a_daemon_a_command_exits_3(mtld: Mtld, words: list[str]) -> None:
    result = mtld(*words)
    assert (result.code, result.out) == (3, "")
    assert result.err.count("\n") == 1


def test_what_the_daemon_refuses_is_said_with_its_exit_code(mtld: Mtld, daemon: Answering) -> None:
    daemon.answers["resume"] = {"error": "the daemon is draining", "exit_code": 7}
    result = mtld("resume")
    assert (result.code, result.err) == (7, "mtld: the daemon is draining\n")


def test_resuming_what_runs_says_that_nothing_changed(mtld: Mtld, daemon: Answering) -> None:
    daemon.answers["resume"] = {"state": "running", "changed": False}
    assert "it was running already" in mtld("resume").out


def test_a_pause_may_end_by_itself(mtld: Mtld, daemon: Answering) -> None:
    mtld("pause", "--for", "30m")
    until = datetime.fromisoformat(daemon.asked[0].args["until"])
    assert until - datetime.now(UTC) == pytest.approx(
        timedelta(minutes=30), abs=timedelta(seconds=5)
    )


def test_a_duration_is_a_number_and_its_unit() -> None:
    assert [seconds(text) for text in ("90s", "30m", "1.5h", "1d")] == [90, 1800, 5400, 86_400]


@pytest.mark.parametrize("text", ["", "30", "m", "-1m", "0s", "1w", "1e3s"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="for example 30m"):
        seconds(text)


def test_a_drain_returns_when_the_process_is_gone(
    mtld: Mtld, daemon: Answering, tell: Callable[..., Vitals], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    tell(pid=process.pid)
    looks: list[bool] = []

    def look(_: float) -> None:
        looks.append(process.poll() is None)
        process.communicate(b"\n")

    monkeypatch.setattr("daemon.commands.drain.time.sleep", look)
    assert mtld("drain").code == 0
    assert looks == [True]


def test_a_drain_whose_process_stays_times_out(
    mtld: Mtld, daemon: Answering, tell: Callable[..., Vitals], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(pid=os.getpid())
    monkeypatch.setattr(vitals, "is_alive", lambda _: True)
    result = mtld("drain", "--timeout", "0.1")
    assert result.code == 6
    assert "everything is durable" in result.err
