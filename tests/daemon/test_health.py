"""How the trainer is: collected in one place, written to one small file, faults counted and never lost."""

from __future__ import annotations

import json
import os
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest
import torch
from structlog.testing import capture_logs

from daemon import finite, vitals
from daemon.sources.memory import MemoryLog
from tests.support.core import add_task, ask, config, eager, fields, loop, play, rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from daemon.loop import Loop
    from daemon.types import Vitals
    from tests.support.core import Script


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    eager(monkeypatch)


@pytest.fixture
def log() -> MemoryLog:
    """A log in which a task was added."""
    made = MemoryLog()
    made.add(add_task(holdout=0.3))
    return made


@pytest.fixture
def one(tmp_path: Path, log: MemoryLog) -> Loop:
    return loop(config(tmp_path), log)


def _read(one: Loop) -> Vitals:
    found = vitals.read(one.health.path)
    assert found is not None
    return found


def test_the_file_says_where_the_trainer_stands(one: Loop, log: MemoryLog) -> None:
    def script() -> Script:
        log.add(rows(1, 20))
        log.add(fields("mtl.task.switch.v1", "a", id="s", data={"phase": "p"}))
        log.add(rows(40, 2))
        yield None
        answers = ask(one, "publish")
        yield lambda: answers
        yield None
        one.health.write(one, force=True)
        told = _read(one)
        assert (told.state, told.pid, told.namespace) == ("idle", os.getpid(), "default")
        assert (told.task, told.phase, told.epoch) == ("a", "p", 1)
        assert told.step == one.machine.engine.step_count > 0
        assert told.watermark == one.reader.position.id
        assert told.pending_rows == len(one.machine.batcher)
        assert told.counters["accepted_events"] == 2
        assert [task["name"] for task in told.tasks] == ["a"]
        assert told.replay_rows > 0
        assert told.replay_bytes > 0
        assert told.checkpoint["seq"] == one.durability.checkpointer.retained()[0]["seq"]
        assert told.checkpoint["bytes"] > 0
        assert told.snapshot["version"] == 1
        assert told.lag_events == 0
        assert told.bit_exact

    play(one, script())
    assert _read(one).state == "stopped"


def test_the_lag_is_what_the_server_has_and_we_have_not(one: Loop, log: MemoryLog) -> None:
    for number in range(5):
        log.add(rows(number))
    one.health.bounds(one.source.bounds())
    one.health.write(one, force=True)
    assert _read(one).lag_events == 6


def test_the_file_is_replaced_once_a_second_and_at_once_when_forced(one: Loop) -> None:
    one.health.write(one)
    first = one.health.path.stat().st_ino
    one.health.write(one)
    assert one.health.path.stat().st_ino == first
    one.health.write(one, force=True)
    assert one.health.path.stat().st_ino != first


def test_a_change_of_state_is_written_sooner(one: Loop) -> None:
    one.health.write(one)
    due = one.health._next_write  # pyright: ignore[reportPrivateUsage]
    one.health.state("starting")
    assert one.health._next_write == due  # pyright: ignore[reportPrivateUsage]
    one.health.state("paused", "lunch")
    assert one.health._next_write < due  # pyright: ignore[reportPrivateUsage]


def test_faults_are_counted_with_the_detail_of_the_last_cut_to_a_line(one: Loop) -> None:
    one.health.fault("disk", "first")
    one.health.fault("disk", "x" * 5000)
    one.health.write(one, force=True)
    fault = _read(one).faults["disk"]
    assert (fault["count"], len(fault["detail"])) == (2, 300)
    assert fault["last"]


def test_another_build_is_told_and_the_reason(one: Loop) -> None:
    one.health.not_bit_exact("torch 1 -> 2")
    one.health.write(one, force=True)
    assert (_read(one).bit_exact, _read(one).bit_exact_reason) == (False, "torch 1 -> 2")


def test_whatever_is_written_is_strict_json_where_scores_are_not_defined_too(
    tmp_path: Path, one: Loop, log: MemoryLog
) -> None:
    def script() -> Script:
        log.add(add_task("price", kind="regression", holdout=0.5))
        x = [[place / 9, 1.0, 0.0] for place in range(24)]
        log.add(fields("mtl.data.v1", "price", id="p", data={"x": x, "y": [0.1] * 24}))
        log.add(fields("mtl.task.switch.v1", "price", id="s"))
        yield None
        answers = ask(one, "publish")
        yield lambda: answers
        yield None
        one.health.write(one, force=True)
        assert _read(one).snapshot["scores"]["price"]["r2"] is None

    play(one, script())
    switched = next(line for line in log.journal if line["kind"] == "task_switched")
    assert switched["detail"]["scores"] == {"price": None}
    texts = [path.read_text() for path in tmp_path.rglob("*.json")] + [finite.dumps([*log.journal])]
    assert len(texts) >= 5
    for text in texts:
        json.loads(text, parse_constant=pytest.fail)


def test_every_process_has_a_nonce_of_its_own(tmp_path: Path, log: MemoryLog, one: Loop) -> None:
    assert one.health.boot != loop(config(tmp_path / "two"), MemoryLog()).health.boot


def test_the_last_journal_lines_are_shown_bounded(one: Loop) -> None:
    for number in range(50):
        one.journal("line", {"number": number})
    one.health.write(one, force=True)
    assert [line["detail"]["number"] for line in _read(one).events] == list(range(42, 50))


def test_what_keeps_the_loop_from_ticking_is_written_before_it_does(one: Loop) -> None:
    with one.health.busy("checkpoint"):
        told = _read(one)
        assert (told.busy, told.step) == ("checkpoint", 0)
        assert 500 < -(vitals.age_s(told.busy_until) or 0) <= 600
        with one.health.busy("publishing"):
            assert _read(one).busy == "publishing"
        one.health.write(one, force=True)
        assert _read(one).busy == "checkpoint"
    one.health.write(one)  # at once
    assert (_read(one).busy, _read(one).busy_until) == ("", "")


def test_losses_are_numbers_of_tasks_that_live(one: Loop, log: MemoryLog) -> None:
    def script() -> Script:
        log.add(add_task("b"))
        log.add(rows(1, 8))
        log.add(rows(1, 8, task="b"))
        yield None
        one.health.write(one, force=True)
        first = _read(one).losses
        assert first.keys() == {"a", "b"}
        assert all(loss > 0 for loss in first.values())
        one.machine.last_losses = {"a": torch.tensor(float("nan")), "b": torch.tensor(0.5)}
        one.health.write(one, force=True)
        assert _read(one).losses == {"b": 0.5}
        log.add(fields("mtl.task.retire.v1", "b", id="r"))
        yield None
        one.health.write(one, force=True)
        assert "b" not in _read(one).losses

    play(one, script())


def test_a_switch_is_timed_and_its_scores_and_matrix_are_told(
    tmp_path: Path, one: Loop, log: MemoryLog
) -> None:
    def script() -> Script:
        log.add(rows(1, 40))
        log.add(fields("mtl.task.switch.v1", "a", id="s", data={"phase": "p"}))
        log.add(fields("mtl.task.switch.v1", "nobody", id="x"))
        yield None
        one.health.write(one, force=True)
        told = _read(one)
        assert told.totals["task_switches"] == 1  # the other was refused
        assert told.switch_s is not None
        assert told.switch_s > 0
        assert told.scores == one.machine.last_switch["scores"]
        (row,) = told.matrix["rows"]
        assert row.keys() == {"step", "task", "phase", "parts"}
        assert told.matrix["average_accuracy"] == told.scores["a"]
        assert told.matrix["min_acc"] == row["parts"]
        assert told.dead_reasons == {"unknown_task": 1}
        assert told.events[-1]["kind"] in {"dead_letter", "task_switched"}
        assert told.totals["checkpoints"] >= 1
        assert sum(told.event_checkpoint_seconds["counts"]) == 4
        assert 0 < sum(told.step_seconds["counts"]) <= told.step

    play(one, script())
    again = loop(config(tmp_path), log)
    again.health.write(again, force=True)
    after = _read(again)
    assert after.scores == _read(one).scores
    assert after.matrix["rows"]
    assert after.checkpoint["at"]
    assert after.totals == {}


def _phases_begun(lines: Sequence[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "first step of a phase"]


def test_the_first_step_after_a_switch_is_logged_with_the_moments_of_both(
    one: Loop, log: MemoryLog
) -> None:
    begin = monotonic()
    filled: list[str] = []

    def script() -> Script:
        log.add(rows(1, 40))
        log.add(fields("mtl.task.switch.v1", "a", id="s", data={"phase": "p"}))
        yield None
        log.add(rows(100, 2))
        filled.append(log.add(rows(200, 12)))
        log.add(rows(300, 12))
        yield None

    with capture_logs() as lines:
        play(one, script())
    (told,) = _phases_begun(lines)
    assert (told["task"], told["phase"]) == ("a", "p")
    assert told["after"] == filled[0] > told["switch"]
    applied_s = told["begun_monotonic_s"] + told["applied_s"]
    assert begin - 1e-4 < told["begun_monotonic_s"] < applied_s
    assert applied_s - 1e-4 <= told["at_monotonic_s"] < monotonic() + 1e-4
    assert [line["event"] for line in lines].count("first step") == 1


def test_a_flush_may_be_the_first_step_of_a_phase(one: Loop, log: MemoryLog) -> None:
    def script() -> Script:
        log.add(fields("mtl.task.switch.v1", "a", id="s"))
        log.add(rows(1, 3))
        yield None
        one.decide("flush")
        yield None

    with capture_logs() as lines:
        play(one, script())
    assert len(_phases_begun(lines)) == 1
    assert one.machine.engine.step_count == 1


def test_a_switch_that_was_rolled_back_has_no_first_step(one: Loop) -> None:
    with capture_logs() as lines:
        one.machine.last_switch = {"task": "a", "phase": "p", "step": 0, "scores": {}}
        one.health.switched(one.machine, monotonic())
        one.machine.last_switch = {}
        one.health.stepped(one.machine)
    assert [line["event"] for line in lines] == ["first step"]


def test_the_matrix_that_is_told_is_bounded(one: Loop) -> None:
    parts = {f"a/{number}": 0.5 for number in range(500)}
    row = {"task": "a", "phase": "p", "step": 1, "scores": {"a": 0.5}, "parts": parts}
    one.machine.engine.judge.matrix.rows = [row] * 200
    one.health.write(one, force=True)
    told = _read(one).matrix
    assert len(told["rows"]) == 32
    assert list(told["rows"][0]["parts"]) == list(parts)[-64:]
    assert told["min_acc"].keys() == told["best"].keys() == told["rows"][0]["parts"].keys()
    assert one.health.path.stat().st_size < 200_000


def test_a_disk_that_is_full_does_not_end_the_training(one: Loop, tmp_path: Path) -> None:
    one.health.path = tmp_path / "not there" / "vitals.json"
    one.health.write(one, force=True)
    one.health.write(one, force=True)
    one.health.path.parent.mkdir()
    one.health.write(one, force=True)
    assert _read(one).state == "starting"
