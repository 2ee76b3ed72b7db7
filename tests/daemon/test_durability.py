"""The rhythm of checkpoints: when one is due, and what follows from one that was written or failed."""

from __future__ import annotations

import errno
import json
import os
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from daemon import checkpointer as writing
from daemon.checkpoint_store import Store
from daemon.config import Checkpoint, Stream
from daemon.sources.memory import MemoryLog
from daemon.types import Request
from tests.support.core import (
    Killed,
    add_task,
    ask,
    config,
    eager,
    fields,
    is_quiet,
    kill_at,
    loop,
    play,
    restarted,
    rows,
)

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.config import Config
    from daemon.loop import Loop
    from daemon.types import Json
    from tests.support.core import Script


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    eager(monkeypatch)


@pytest.fixture
def log() -> MemoryLog:
    """A log in which a task was added."""
    made = MemoryLog()
    made.add(add_task())
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config(tmp_path)


def _seqs(settings: Config) -> list[int]:
    return Store(settings.state_dir / "checkpoints").lineage()


def _faults(one: Loop) -> dict[str, Any]:
    return one.health._vitals.faults  # pyright: ignore[reportPrivateUsage]


def once() -> Script:
    """Until everything is durable and shown."""
    yield None


def _refuse(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_idle_loop_makes_durable_what_it_applied_and_then_rests(
    settings: Config, log: MemoryLog
) -> None:
    one = loop(settings, log)

    def script() -> Script:
        yield None
        before = _seqs(settings)
        looks = iter(range(40))
        yield lambda: next(looks, None) is None
        assert _seqs(settings) == before

    play(one, script())


def test_a_cut_counts_the_losses_that_its_watermark_is_past(
    settings: Config, log: MemoryLog
) -> None:
    one = loop(settings, log)
    play(one, once())
    log.delete(log.add(rows(1)))
    one.reader.fence()
    assert one.reader.read(10) == []  # the loop would sleep now, and take a cut before it
    one.durability.stage(one)
    assert one.machine.counters.lost_events == 1
    assert restarted(one, settings, log).machine.counters.lost_events == 1


def test_a_busy_loop_takes_a_cut_after_a_while(
    tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.durability.IDLE_S", 1e9)
    one = loop(config(tmp_path, checkpoint=Checkpoint(every_s=0.0)), log)
    log.add(rows(1))
    play(one)
    assert one.durability.checkpointer.retained()[0]["watermark"] == log.rows[-1][1].id


def test_half_of_what_producers_may_leave_unread_makes_a_cut_urgent(
    tmp_path: Path, log: MemoryLog
) -> None:
    one = loop(config(tmp_path, stream=Stream(max_unread=10)), log)
    for number in range(5):
        assert not one.durability.is_urgent
        one.durability.applied(100 + number)
    assert one.durability.is_urgent
    assert one.durability.log_bytes == 510


def test_a_switch_makes_a_cut_at_once(
    settings: Config, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.durability.IDLE_S", 1e9)
    one = loop(settings, log)
    log.add(rows(1, 9))
    switch = log.add(fields("mtl.task.switch.v1", "a", id="s"))

    def script() -> Script:
        yield (
            lambda: one.durability.checkpointer.retained() and not one.durability.checkpointer.busy
        )
        assert one.durability.checkpointer.retained()[0]["watermark"] == switch

    play(one, script())


def test_lines_for_the_journal_are_reason_enough_for_a_cut(
    settings: Config, log: MemoryLog
) -> None:
    one = loop(settings, log)

    def script() -> Script:
        yield None
        one.journal("something", {"detail": "else"})
        yield lambda: [line["kind"] for line in log.journal][-1] == "something"

    play(one, script())


def test_the_bytes_of_the_log_are_counted_on_after_a_start(
    settings: Config, log: MemoryLog
) -> None:
    one = loop(settings, log)
    log.add(rows(1))
    play(one)
    sizes = [sum(map(len, found.fields.values())) for _, found in log.rows]
    assert one.durability.log_bytes >= sum(sizes) > 0
    again = restarted(one, settings, log)
    assert again.durability.log_bytes == one.durability.log_bytes


def test_a_cut_that_failed_is_tried_again_and_nothing_left_meanwhile(
    settings: Config, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = loop(settings, log)

    def script() -> Script:
        shown = log.group
        with monkeypatch.context() as patch:
            patch.setattr(writing, "write_tensors", _refuse)
            log.add(rows(1, task="nobody"))
            yield lambda: _faults(one).get("checkpoint_failed", {}).get("count", 0) >= 3
            assert (len(log.dead), log.group, len(log.rows)) == (0, shown, 2)
        yield None
        assert len(log.dead) == 1

    play(one, script())
    assert "No space left" in _faults(one)["checkpoint_failed"]["detail"]
    assert is_quiet(one)


def _attempts(one: Loop, clock: list[float], until: float) -> list[float]:
    """When an idle loop tried to take a cut, looking four times a second."""
    found: list[float] = []
    while clock[0] < until:
        clock[0] += 0.25
        one.durability.idle()
        one.durability.look(one)
        if one.durability.checkpointer.busy:
            found.append(clock[0])
        one.durability.wait(one)
    return found


def test_a_state_with_scores_that_are_no_numbers_is_gone_on_from(
    settings: Config, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = loop(settings, log)
    one.machine.last_switch = {"scores": {"a": float("nan")}}
    with monkeypatch.context() as patch:  # as an earlier version wrote it
        patch.setattr(writing, "encoded", lambda meta: json.dumps(meta).encode())
        play(one)
    again = restarted(one, settings, log)
    assert again.machine.last_switch == {"scores": {"a": None}}
    log.add(rows(1, 8))
    play(again)
    assert "checkpoint_failed" not in _faults(again)


def test_cuts_that_fail_are_tried_less_and_less_often_but_at_once_for_whoever_waits(
    settings: Config, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("daemon.durability.monotonic", lambda: clock[0])
    monkeypatch.setattr("daemon.durability.RETRY_S", (1.0, 60.0))
    one = loop(settings, log)
    one.durability.applied(1)
    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_tensors", _refuse)
        tried = _attempts(one, clock, 250.0)
        waits = [late - early for early, late in pairwise(tried)]
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert not one.durability.is_urgent
        one.steering.checkpoint(Request("checkpoint", {}, lambda _: None))
        assert _attempts(one, clock, 250.25) == [250.25]
    assert _attempts(one, clock, 311.0) == [310.25], "the disk is good again"
    one.durability.applied(1)
    monkeypatch.setattr(writing, "write_tensors", _refuse)
    assert _attempts(one, clock, 313.0) == [311.25, 312.25]


def test_a_snapshot_asked_for_with_a_cut_that_failed_is_published_with_the_next(
    settings: Config, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = loop(settings, log)
    log.add(rows(1, 8))

    def script() -> Script:
        yield None
        with monkeypatch.context() as patch:
            patch.setattr(writing, "write_tensors", _refuse)
            answers = ask(one, "publish")
            yield lambda: answers
            assert "No space left" in answers[0]["error"]
        yield lambda: one.health.last_snapshot

    play(one, script())
    assert (settings.state_dir / "models" / "latest" / "manifest.json").exists()
    assert [line["kind"] for line in log.journal][-1] == "snapshot_published"


def test_the_schedule_publishes_only_what_was_learned_since(
    settings: Config, log: MemoryLog
) -> None:
    one = loop(settings, log)
    answers: list[list[Json]] = []

    def script() -> Script:
        for more in (0, 1, 0, 1):  # nothing trained, trained, nothing new, trained
            if more:
                log.add(rows(40 * len(answers), 8))
                yield None
            answers.append(ask(one, "publish", by="schedule"))
            yield lambda: bool(answers[-1])
        answers.append(ask(one, "publish", by="olga"))  # a person gets what she asks for
        yield lambda: bool(answers[-1])

    play(one, script())
    told = ["snapshot" in answer for (answer,) in answers]
    assert told == [False, True, False, True, True]


def test_a_published_version_is_told_in_the_answer(settings: Config, log: MemoryLog) -> None:
    one = loop(settings, log)
    log.add(rows(1, 8))

    def script() -> Script:
        yield None
        answers = ask(one, "publish")
        yield lambda: answers
        assert answers[0]["snapshot"]["version"] == 1

    play(one, script())


def test_what_a_dead_process_had_promised_the_next_one_carries_out(
    settings: Config, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = loop(settings, log)
    log.add(rows(1, 8))
    log.add(rows(1, task="nobody"))
    ask(one, "publish")
    with monkeypatch.context() as patch:
        kill_at(patch, "displayed")
        patch.setattr(one.durability.publication, "_publish", _refuse)  # the writer dies with it
        patch.setattr("threading.excepthook", lambda _: None)
        with pytest.raises(Killed):
            play(one)
    models = settings.state_dir / "models"
    assert not models.exists()
    told: list[Json] = []
    monkeypatch.setattr("daemon.hooks.Hooks.notify", lambda _, event: told.append(event))
    again = restarted(one, settings, log)
    assert (models / "latest" / "manifest.json").exists()
    assert again.durability.committer.is_due
    play(again, once())
    play(restarted(again, settings, log), once())
    assert len(log.dead) == 1
    lines = [line["detail"] for line in log.journal if line["kind"] == "snapshot_published"]
    assert [(line["version"], line["decision"]) for line in lines] == [(1, "promoted")]
    assert [(event["version"], event["reason"]) for event in told] == [(1, "gate")]


def test_a_full_server_is_asked_again_and_told_of_once(settings: Config, log: MemoryLog) -> None:
    one = loop(settings, log)

    def script() -> Script:
        yield None
        log.add(rows(1))
        log.is_full = True
        yield lambda: _faults(one).get("broker_full", {}).get("count", 0) >= 3
        log.is_full = False
        yield None

    play(one, script())
    assert [line["kind"] for line in log.journal].count("broker_full") == 1


def test_a_drained_daemon_starts_no_other_cut(
    settings: Config, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = loop(settings, log)
    finish = one.steering._finish  # pyright: ignore[reportPrivateUsage]

    def finish_when_one_is_due(exit_code: int) -> None:
        finish(exit_code)
        one.durability.ask()

    monkeypatch.setattr(one.steering, "_finish", finish_when_one_is_due)
    play(one)
    assert one.steering.is_drained
    assert not one.durability.checkpointer.busy
