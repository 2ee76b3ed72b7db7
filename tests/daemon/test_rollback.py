"""Rolling back: an older checkpoint counts again, and of the log after it what was chosen is replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from daemon.sources.memory import MemoryLog
from tests.support.core import (
    Killed,
    ask,
    differences,
    eager,
    fields,
    kill_at,
    loop,
    play,
    recovered,
    restarted,
    rows,
    state_of,
)
from tests.support.spoilt import good, settings, spoilt, started

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.loop import Loop
    from daemon.types import Json
    from tests.support.core import Script


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    eager(monkeypatch)


@pytest.fixture
def log() -> MemoryLog:
    return started()


def learned(one: Loop) -> Any:
    """The engine's state and the pending rows: what a run that never saw the bad part would have too."""
    found = recovered(state_of(one.machine))
    return {
        **{name: value for name, value in found.tensors.items() if not name.startswith("machine/guard")},
        **{f"{name}/{column}": value for name, part in found.segments.items() if name.startswith("engine/")
           for column, value in part.items()},
    }  # fmt: skip


def same(one: Loop, other: Loop) -> None:
    mine, theirs = learned(one), learned(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name].tobytes() != theirs[name].tobytes()] == []


def never_saw_it(path: Path) -> Loop:
    """A run over the good part alone."""
    log = started()
    one = loop(settings(path), log)

    def script() -> Script:
        good(log, 0)
        yield None
        good(log, 5)
        yield None

    play(one, script())
    return one


def test_replaying_without_the_bad_part_is_as_if_it_had_never_come(
    tmp_path: Path, log: MemoryLog
) -> None:
    one = loop(settings(tmp_path / "a"), log)
    answers: list[list[Json]] = []

    def script() -> Script:
        good(log, 0)
        yield None
        first = log.add(spoilt(1000))
        last = log.add(spoilt(2000))
        good(log, 5)
        yield None
        seq = one.durability.checkpointer.retained()[-1]["seq"]
        answers.append(
            ask(one, "rollback", seq=seq, skips=[[first, last]], reason="bad labels", by="olga")
        )
        yield lambda: bool(answers[0])
        yield None

    play(one, script())
    ((reply,),) = answers
    assert (reply["epoch"], one.process.epoch) == (2, 2)
    assert reply["is_replayable"]
    same(one, never_saw_it(tmp_path / "b"))
    counters = one.machine.counters
    assert (counters.skipped_events, counters.skipped_rows) == (2, 8)
    assert counters.trained_rows + counters.held_out_rows + len(one.machine.batcher) == 40
    told = [line for line in log.journal if line["kind"] == "rolled_back"]
    assert [(line["detail"]["by"], line["detail"]["reason"]) for line in told] == [
        ("olga", "bad labels")
    ]


def test_a_dead_letter_that_waits_is_told_once_and_not_if_it_is_left_out(
    tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = loop(settings(tmp_path), log)
    answers: list[list[Json]] = []

    def script() -> Script:
        good(log, 0)
        yield None
        monkeypatch.setattr("daemon.durability.IDLE_S", 1e9)  # no cut, so nothing leaves
        kept, left = log.add(rows(7, task="nobody")), log.add(rows(9, task="nobody"))
        yield lambda: one.reader.position.id == left
        assert len(one.machine.outbox) == 2
        monkeypatch.setattr("daemon.durability.IDLE_S", 0.0)
        seq = one.durability.checkpointer.retained()[-1]["seq"]
        answers.append(ask(one, "rollback", seq=seq, skips=[[left, left]]))
        yield lambda: bool(answers[0])
        yield None
        assert [letter["id"] for letter in log.dead] == [kept]

    play(one, script())
    assert one.machine.counters.dead_events == 1


def test_what_was_left_out_stays_out_of_the_next_rollback(tmp_path: Path, log: MemoryLog) -> None:
    one = loop(settings(tmp_path / "a"), log)
    answers: list[list[Json]] = []

    def script() -> Script:
        good(log, 0)
        yield None
        bad = log.add(spoilt(1000))
        good(log, 5)
        yield None
        seq = one.durability.checkpointer.retained()[-1]["seq"]
        answers.append(ask(one, "rollback", seq=seq, skips=[[bad, bad]]))
        yield lambda: bool(answers[0])
        yield None
        answers.append(ask(one, "rollback", seq=seq))
        yield lambda: bool(answers[1])
        yield None

    play(one, script())
    assert answers[1][0]["skips"] == answers[0][0]["skips"]
    same(one, never_saw_it(tmp_path / "b"))
    assert one.machine.counters.skipped_events == 1


def test_replaying_everything_ends_where_it_was(tmp_path: Path, log: MemoryLog) -> None:
    one = loop(settings(tmp_path), log)
    answers: list[list[Json]] = []
    before: list[Any] = []

    def script() -> Script:
        good(log, 0)
        yield None
        good(log, 5)
        yield None
        before.append(learned(one))
        seq = one.durability.checkpointer.retained()[-1]["seq"]
        answers.append(ask(one, "rollback", seq=seq))
        yield lambda: bool(answers[0])
        yield None

    play(one, script())
    after = learned(one)
    assert [name for name in after if after[name].tobytes() != before[0][name].tobytes()] == []
    assert one.machine.counters.duplicate_events == 0


def test_skipping_to_now_keeps_the_old_state_and_goes_on_with_what_comes(
    tmp_path: Path, log: MemoryLog
) -> None:
    one = loop(settings(tmp_path / "a"), log)
    answers: list[list[Json]] = []

    def script() -> Script:
        good(log, 0)
        yield None
        seq = one.durability.checkpointer.retained()[0]["seq"]
        for number in range(4):
            log.add(spoilt(1000 + 4 * number))
        yield None
        answers.append(ask(one, "rollback", seq=seq, skip_to_now=True))
        yield lambda: bool(answers[0])
        good(log, 5)
        yield None

    play(one, script())
    same(one, never_saw_it(tmp_path / "b"))
    assert one.machine.counters.skipped_events == 4


def test_what_the_log_no_longer_holds_cannot_be_replayed_but_left_out(
    tmp_path: Path, log: MemoryLog
) -> None:
    one = loop(settings(tmp_path), log)
    answers: list[list[Json]] = []

    def script() -> Script:
        good(log, 0)
        yield None
        seq = one.durability.checkpointer.retained()[0]["seq"]
        good(log, 5)
        yield None
        one.source.trim(one.reader.position.id)
        answers.append(ask(one, "rollback", seq=seq))
        yield lambda: bool(answers[0])
        answers.append(ask(one, "rollback", seq=seq, skip_to_now=True))
        yield lambda: bool(answers[1])
        yield None

    play(one, script())
    assert answers[0][0]["exit_code"] == 7
    assert "--skip-to-now" in answers[0][0]["error"]
    assert not answers[1][0]["is_replayable"]
    assert one.machine.counters.skipped_events == 5
    assert one.machine.counters.lost_events == 0


def test_what_waited_to_leave_leaves_once(tmp_path: Path, log: MemoryLog) -> None:
    one = loop(settings(tmp_path), log)
    answers: list[list[Json]] = []

    def script() -> Script:
        good(log, 0)
        yield None
        one.journal("line", {"number": 1})
        yield None
        log.add(fields("mtl.data.v1", "nobody", id="dead"))
        seq = one.durability.checkpointer.retained()[0]["seq"]
        answers.append(ask(one, "rollback", seq=seq))
        yield lambda: bool(answers[0])
        yield None

    play(one, script())
    assert [line["kind"] for line in log.journal].count("line") == 1
    assert [line["kind"] for line in log.journal].count("rolled_back") == 1
    assert len(log.dead) == 1


def test_after_going_back_to_before_a_regression_entries_known_from_then_are_no_duplicates(
    tmp_path: Path, log: MemoryLog
) -> None:
    one = loop(settings(tmp_path), log)
    answers: list[list[Json]] = []

    def script() -> Script:
        good(log, 0)
        yield None
        seq = one.durability.checkpointer.retained()[0]["seq"]
        one.machine.rereading = True  # as if a regression since then were not yet passed
        answers.append(ask(one, "rollback", seq=seq))
        yield lambda: bool(answers[0])
        yield None

    play(one, script())
    assert not one.machine.rereading


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path: Path, log: MemoryLog) -> None:
    one = loop(settings(tmp_path), log)
    answers: list[list[Json]] = []

    def script() -> Script:
        good(log, 0)
        yield None
        seq = one.durability.checkpointer.retained()[-1]["seq"]
        answers.append(ask(one, "rollback", seq=seq, dry_run=True))
        answers.append(ask(one, "rollback", seq=404))
        yield lambda: all(answers)

    play(one, script())
    assert answers[0][0]["from_step"] == one.machine.engine.step_count
    assert answers[0][0]["events_after_it"] > 0
    assert answers[1][0]["error"].startswith("no checkpoint 404 can be rolled back to; there are ")
    assert one.process.epoch == 1


@pytest.mark.parametrize("place", ["rolled_back", "staged"])
def test_whoever_dies_inside_a_rollback_wakes_up_in_one_of_the_two_states(
    tmp_path: Path, log: MemoryLog, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    chosen = settings(tmp_path)
    one = loop(chosen, log)

    def script() -> Script:
        good(log, 0)
        yield None
        good(log, 5)
        yield None

    play(one, script())
    before = recovered(state_of(one.machine))
    two = restarted(one, chosen, log)
    seq = two.durability.checkpointer.retained()[-1]["seq"]

    def dying() -> Script:
        monkeypatch.setattr("daemon.rollback.reach", lambda name: _die(name, place))
        kill_at(monkeypatch, place)
        ask(two, "rollback", seq=seq)
        yield lambda: False

    with pytest.raises((Killed, AssertionError)):
        play(two, dying())
    monkeypatch.undo()
    eager(monkeypatch)
    three = restarted(two, chosen, log)
    assert three.process.epoch in {1, 2}
    if three.process.epoch == 1:
        assert three.machine.engine.step_count == before.header["step"]
    play(three)
    after = recovered(state_of(three.machine))
    assert [name for name in differences(before, after) if name.startswith("engine/")] == []


def _die(name: str, place: str) -> None:
    if name == place:
        raise Killed
