"""Drift in a stream begins a phase, through the log: once, and at the same place however often the process dies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from daemon.config import DriftSettings, Stream
from daemon.guard import Guard
from daemon.machine import LogMachine
from daemon.phases import Phases
from daemon.types import Limits
from mtl_engine.drift import Drift
from tests.support.core import (
    Killed,
    RecordingLog,
    add_task,
    config,
    differences,
    eager,
    engine,
    entry,
    feed,
    fields,
    kill_at,
    loop,
    play,
    restarted,
    state_of,
    without_outbox,
)

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.config import Config
    from daemon.loop import Loop
    from daemon.sources.memory import MemoryLog

STREAM = Stream(batch_size=32, linger_s=60.0)
GOOD, EXCHANGED = 50, 25  # events of 32 rows


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    eager(monkeypatch)


def events(exchanged: bool = True) -> list[dict[str, str]]:
    """A task, rows that are learned, and rows whose two labels are exchanged."""
    draw = np.random.default_rng(5)
    made = [add_task(holdout=0.1)]
    for number in range(GOOD + EXCHANGED):
        x = draw.standard_normal((32, 3)).round(3)
        y = (x[:, 0] > 0).astype(int)
        if exchanged and number >= GOOD:
            y = 1 - y
        data = {"x": x.tolist(), "y": y.tolist()}
        made.append(fields("mtl.data.v1", "a", id=str(number), data=data, mtlrows=32))
    return made


@pytest.fixture
def log() -> RecordingLog:
    made = RecordingLog()
    for one in events():
        made.add(one)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config(tmp_path, stream=STREAM, drift=DriftSettings(detect=True))


def machine() -> LogMachine:
    """As the daemon makes it of these settings."""
    return LogMachine(
        engine(teacher_every=2000), STREAM, Limits(), Guard(20), Phases(Drift(seed=0))
    )


def straight(log: RecordingLog) -> LogMachine:
    """A machine that read the whole log without any loop, and never died."""
    one = machine()
    feed(one, log.ever)
    return one


def marks(log: RecordingLog) -> list[dict[str, Any]]:
    """The decisions in the log."""
    found = [one.fields for one in log.ever if one.fields[b"type"] == b"mtl.control.v1"]
    return [{"id": one[b"id"], **json.loads(one[b"data"])} for one in found]


def told(log: MemoryLog, kind: str) -> list[Any]:
    lines = [line for line in log.journal if line["kind"] == kind]
    return [
        json.loads(line["detail"]) if isinstance(line["detail"], str) else line["detail"]
        for line in lines
    ]


def test_labels_that_are_exchanged_in_a_stream_begin_one_phase_through_the_log(
    settings: Config, log: RecordingLog
) -> None:
    one = loop(settings, log)
    play(one)
    [mark] = marks(log)
    assert (mark["kind"], mark["task"]) == ("phase", "a")
    [line] = told(log, "drift_detected")
    assert (line["task"], line["phase"]) == ("a", mark["phase"])
    assert 0.8 * GOOD < line["step"] < GOOD + EXCHANGED  # some rows are held out
    assert abs(line["moved"]) > line["allowed"] > 0
    [switched] = told(log, "task_switched")
    assert switched["phase"] == mark["phase"] == f"drift-{line['step']}"
    assert one.machine.engine.focus == ("a", mark["phase"])
    assert len(one.machine.engine.matrix_rows) == 1
    assert one.machine.phases.counts == {"a": 1}
    assert not one.machine.phases.waiting
    assert differences(without_outbox(one.machine), without_outbox(straight(log))) == []


def test_a_stream_that_stays_as_it_is_begins_none(settings: Config) -> None:
    log = RecordingLog()
    for one in events(exchanged=False):
        log.add(one)
    play(loop(settings, log))
    assert marks(log) == []


def test_without_the_setting_nothing_is_looked_for(tmp_path: Path, log: RecordingLog) -> None:
    one = loop(config(tmp_path, stream=STREAM), log)
    play(one)
    assert marks(log) == []
    assert not any(name.startswith("machine/drift") for name in state_of(one.machine).tensors)


@pytest.mark.parametrize("is_written", [True, False])
def test_a_process_that_ends_between_alarm_and_mark_begins_the_phase_once(
    settings: Config, log: RecordingLog, is_written: bool
) -> None:
    one = loop(settings, log)
    append = one.source.append

    def killed(fields: Any) -> str:
        if is_written:
            append(fields)
        raise Killed

    one.source.append = killed  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(Killed):
        play(one)
    assert one.machine.phases.waiting.keys() == {"a"}
    again = restarted(one, settings, log)
    play(again)
    assert len(marks(log)) == 1 + is_written
    assert len({mark["id"] for mark in marks(log)}) == 1
    assert len(told(log, "drift_detected")) == len(told(log, "task_switched")) == 1
    assert differences(without_outbox(again.machine), without_outbox(straight(log))) == []


@pytest.mark.parametrize("time", [7, 23])
def test_a_process_killed_again_and_again_finds_the_same_at_the_same_step(
    settings: Config, log: RecordingLog, time: int
) -> None:
    one: Loop | None = None
    for _ in range(4):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, "stepped", time)
            one = restarted(one, settings, log) if one else loop(settings, log)
            try:
                play(one)
                break
            except Killed:
                continue
    assert one is not None
    one = restarted(one, settings, log)
    play(one)
    assert len({mark["id"] for mark in marks(log)}) == 1
    assert len(told(log, "drift_detected")) == 1
    assert differences(without_outbox(one.machine), without_outbox(straight(log))) == []


def alarmed() -> tuple[LogMachine, dict[str, str]]:
    """A machine whose task waits for its mark, and that mark."""
    one = machine()
    feed(one, [entry(made, f"{place}-0") for place, made in enumerate(events(), 1)])
    phase = one.phases.waiting["a"]["phase"]
    data = {"kind": "phase", "task": "a", "phase": phase}
    return one, fields("mtl.control.v1", id="m", source="mtld", data=data)


def test_a_switch_that_comes_first_makes_the_mark_void() -> None:
    one, mark = alarmed()
    feed(one, [entry(fields("mtl.task.switch.v1", "a", id="s", data={"phase": "mine"}), "900-0")])
    assert not one.phases.waiting
    feed(one, [entry(mark, "901-0")])
    assert one.engine.focus == ("a", "mine")
    assert (one.phases.counts, one.counters.dead_events) == ({}, 0)


def test_a_task_that_was_retired_meanwhile_has_no_phase() -> None:
    one, mark = alarmed()
    feed(one, [entry(fields("mtl.task.retire.v1", "a", id="r"), "900-0"), entry(mark, "901-0")])
    assert (one.phases.waiting, one.phases.counts, one.counters.dead_events) == ({}, {}, 0)


@pytest.mark.parametrize("data", [{}, {"task": ["a"]}, {"task": "b", "phase": "drift-1"}, {"task": "a", "phase": 3}])  # fmt: skip
def test_a_mark_that_nothing_waits_for_changes_nothing(data: dict[str, Any]) -> None:
    one, _ = alarmed()
    before = one.engine.focus
    feed(one, [entry(fields("mtl.control.v1", id="m", source="mtld", data={"kind": "phase", **data}), "900-0")])  # fmt: skip
    assert (one.engine.focus, one.phases.waiting.keys()) == (before, {"a"})
    assert one.counters.dead_events == 0


def test_a_state_without_a_detector_is_taken_over_by_one_and_the_other_way_round() -> None:
    one, _ = alarmed()
    arrays, meta = one.phases.state()
    without = Phases()
    without.load_state(arrays, meta)
    assert not without.waiting
    with_one = Phases(Drift())
    with_one.load_state(*without.state())
    assert with_one.state()[1]["drift"] == {"watches": {}, "alarms": {}}
