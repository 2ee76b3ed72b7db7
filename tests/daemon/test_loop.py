"""The loop: whatever the clock, the operator, the server and crashes do, the machine gets the same entries."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint_store import Store
from daemon.config import Stream
from daemon.identity import id_tuple
from daemon.sources.memory import MemoryLog, MemorySource
from daemon.types import Request
from tests.support.core import (
    Killed,
    RecordingLog,
    add_task,
    ask,
    config,
    differences,
    eager,
    feed,
    fields,
    is_quiet,
    kill_at,
    loop,
    machine,
    play,
    restarted,
    rows,
    without_outbox,
)

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.config import Config
    from daemon.loop import Loop
    from tests.support.core import Script, Step

LINGERING = Stream(batch_size=4, linger_s=0.0)


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    eager(monkeypatch)


@pytest.fixture
def log() -> RecordingLog:
    """A log in which a task was added."""
    made = RecordingLog()
    made.add(add_task(holdout=0.2))
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    return config(tmp_path)


def _expected(one: Loop, log: RecordingLog) -> list[str]:
    """In what the loop's machine differs from one that read the whole log without any loop."""
    straight = machine(teacher_every=2000)
    feed(straight, log.ever)
    return differences(without_outbox(one.machine), without_outbox(straight))


def _kinds(log: MemoryLog) -> list[str]:
    return [line["kind"] for line in log.journal]


def _add(log: MemoryLog, *numbers: int) -> None:
    for number in numbers:
        log.add(rows(number))


def test_a_loop_makes_of_a_log_what_the_machine_alone_makes_of_it(
    settings: Config, log: RecordingLog
) -> None:
    one = loop(settings, log)
    _add(log, *range(1, 90, 4))
    play(one)
    assert _expected(one, log) == []
    assert one.machine.counters.accepted_events == 23


def test_a_drained_loop_has_everything_durable_and_shown_and_pending_rows_pending(
    settings: Config, log: RecordingLog
) -> None:
    one = loop(settings, log)
    _add(log, 1, 5, 9, 13)
    play(one)
    assert (one.steering.exit_code, is_quiet(one)) == (0, True)
    assert log.group == (log.ever[-1].id, 5)
    assert 0 < len(one.machine.batcher) < 4
    again = restarted(one, settings, log)
    assert differences(without_outbox(again.machine), without_outbox(one.machine)) == []
    assert again.reader.position == one.reader.position


PLACES = ["lease_taken", "read", "entered", "stepped", "switched", "staged", "displayed", "trimmed"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("time", [1, 2, 4])
def test_a_process_that_ends_anywhere_loses_and_repeats_nothing(
    settings: Config, log: RecordingLog, place: str, time: int
) -> None:
    _add(log, 1)
    log.add(rows(1, task="nobody"))
    log.add(rows(2, 30))
    for number in range(3):
        log.add(fields("mtl.task.switch.v1", "a", id=f"switch {number}"))
        _add(log, *range(40 + 30 * number, 60 + 30 * number, 5))
        log.add(rows(2 + number, task="nobody"))
    one, deaths = None, 0
    while deaths < 3:
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, place, time)
            try:
                one = restarted(one, settings, log) if one else loop(settings, log)
                play(one)
                break
            except Killed:
                deaths += 1
    one = restarted(one, settings, log) if one else loop(settings, log)
    play(one)
    assert _expected(one, log) == []
    dead = Counter(letter["event_id"] for letter in log.dead)
    assert dead == {f"nobody {number}": 1 for number in range(1, 5)}
    assert Counter(_kinds(log))["task_switched"] == 3
    assert len({line["seq"] for line in [*log.dead, *log.journal]}) == len(log.dead) + len(
        log.journal
    )


def test_a_process_killed_again_and_again_still_ends_bit_equal(
    settings: Config, log: RecordingLog
) -> None:
    _add(log, *range(1, 120, 4))
    one = loop(settings, log)
    for time in range(1, 8):
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, "stepped", time)
            with pytest.raises(Killed):
                play(one)
        one = restarted(one, settings, log)
    play(one)
    assert _expected(one, log) == []


def _after(num_looks: int) -> Step:
    """True after so many looks, whatever happens meanwhile."""
    looks = iter(range(num_looks))
    return lambda: next(looks, None) is None


# -- nothing leaves before its cause is durable --------------------------------------------------------------


class Witness(MemorySource):
    """A source that compares every write with the checkpoint that is current at that moment."""

    store: Store
    seen: Counter[str]

    def _durable(self, what: str) -> tuple[int, int]:
        self.seen[what] += 1
        lineage = self.store.lineage()
        return id_tuple(self.store.manifest(lineage[0])["watermark"] if lineage else "0-0")

    def deliver(self, dead: Any, journal: Any, mark: str) -> None:
        durable = self._durable("deliver")
        assert all(id_tuple(letter["id"]) <= durable for letter in dead)
        assert (
            int(mark.partition(":")[2])
            <= self.store.manifest(self.store.lineage()[0])["outbox_seq"]
        )
        super().deliver(dead, journal, mark)

    def display(self, last_id: str, entries_read: int, create: bool = True) -> bool:
        assert id_tuple(last_id) <= self._durable("display")
        return super().display(last_id, entries_read, create)

    def trim(self, min_id: str) -> int:
        assert id_tuple(min_id) <= self._durable("trim")
        return super().trim(min_id)


def test_nothing_is_shown_sent_or_trimmed_before_the_checkpoint_that_caused_it(
    settings: Config, log: RecordingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.core.MemorySource", Witness)
    Witness.store, Witness.seen = Store(settings.state_dir / "checkpoints"), Counter()
    one = loop(settings, log)

    def script() -> Script:
        for round_ in range(4):
            _add(log, *range(100 * round_, 100 * round_ + 40, 4))
            log.add(rows(round_, task="nobody"))
            yield lambda: len(one.machine.batcher) or one.machine.counters.accepted_events
            log.is_down = round_ % 2 == 0
            yield lambda: log.is_down is False or one.health._vitals.state == "broker_down"  # pyright: ignore
            log.is_down = False
            yield None

    play(one, script())
    assert min(Witness.seen["deliver"], Witness.seen["display"]) >= 4  # once a round at least
    assert Witness.seen["trim"] >= 1
    assert _expected(one, log) == []


def test_a_server_that_was_away_is_not_told_of_what_is_not_durable(
    settings: Config, log: RecordingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = loop(settings, log)
    _add(log, 1)

    def script() -> Script:
        yield None
        shown = log.group
        monkeypatch.setattr("daemon.durability.IDLE_S", 1e9)
        _add(log, 5, 9)
        yield lambda: one.machine.counters.accepted_events == 3
        log.is_down = True
        yield lambda: "broker_down" in one.health._vitals.faults  # pyright: ignore
        log.is_down = False
        yield lambda: one.health._vitals.state == "idle"  # pyright: ignore
        assert log.group == shown
        monkeypatch.setattr("daemon.durability.IDLE_S", 0.0)

    play(one, script())
    assert log.group == (log.ever[-1].id, 4)


# -- the operator --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pause", "checkpoint", "publish", "drain"])
def test_a_command_is_answered_once_a_checkpoint_with_its_effect_is_durable(
    settings: Config, log: RecordingLog, name: str
) -> None:
    one = loop(settings, log)
    store = Store(settings.state_dir / "checkpoints")
    answers: list[tuple[int, int]] = []

    def reply(answer: Any) -> None:
        answers.append((answer["seq"], store.lineage()[0]))

    def script() -> Script:
        _add(log, 1, 5, 9)
        yield None
        one._requests.put(Request(name, {}, reply))  # pyright: ignore[reportPrivateUsage]
        yield lambda: answers
        if name == "pause":
            paused = store.load(store.lineage()[0]).meta["process"]["paused"]
            assert paused == "no reason given"

    play(one, script())
    assert [seq for seq, _ in answers] == [current for _, current in answers]
    assert len(answers) == 1


def test_a_paused_daemon_reads_nothing_until_it_is_resumed(
    settings: Config, log: RecordingLog
) -> None:
    one = loop(settings, log)

    def script() -> Script:
        yield None
        answers = ask(one, "pause", reason="lunch")
        yield lambda: answers
        assert answers[0]["state"] == "paused"
        _add(log, 1, 5)
        yield _after(30)
        assert one.machine.counters.accepted_events == 0
        answers = ask(one, "resume")
        yield lambda: answers
        assert answers[0]["state"] == "running"
        yield None
        assert one.machine.counters.accepted_events == 2

    play(one, script())
    assert [kind for kind in _kinds(log) if kind != "task_added"] == ["paused", "resumed"]


def test_a_paused_daemon_that_is_started_again_stays_paused(
    settings: Config, log: RecordingLog
) -> None:
    one = loop(settings, log)

    def script() -> Script:
        answers = ask(one, "pause")
        yield lambda: answers

    play(one, script())
    _add(log, 1)
    again = restarted(one, settings, log)
    assert again.steering.stopped_because == "paused"
    play(again)
    assert again.machine.counters.accepted_events == 0


# -- time ----------------------------------------------------------------------------------------------------


def _flushes(log: RecordingLog) -> int:
    return sum(found.fields[b"type"] == b"mtl.control.v1" for found in log.ever)


def test_rows_that_linger_are_flushed_through_the_log_exactly_once(
    tmp_path: Path, log: RecordingLog
) -> None:
    one = loop(config(tmp_path, stream=LINGERING), log)

    def script() -> Script:
        for number in (1, 11, 21):
            log.add(rows(number))
            yield lambda: one.machine.counters.accepted_events and not len(one.machine.batcher)
            yield _after(20)

    play(one, script())
    assert _flushes(log) == 3
    assert _expected(one, log) == []
    told = one.machine.counters
    assert told.trained_rows + told.held_out_rows == 9


def test_a_flush_whose_reply_was_lost_flushes_once(tmp_path: Path, log: RecordingLog) -> None:
    one = loop(config(tmp_path, stream=LINGERING), log)
    real = one.source.append

    def lossy(made: Any) -> str:
        real(made)
        one.source.append = real  # pyright: ignore[reportAttributeAccessIssue]
        log.is_down = True
        log.check_up()
        return ""

    def script() -> Script:
        yield None
        one.source.append = lossy  # pyright: ignore[reportAttributeAccessIssue]
        log.add(rows(1))
        yield lambda: log.is_down
        log.is_down = False
        yield lambda: one.machine.counters.accepted_events and not len(one.machine.batcher)

    play(one, script())
    assert one.machine.engine.step_count == 1
    assert _expected(one, log) == []


def test_a_checkpoint_comes_at_half_of_what_producers_may_leave_unread(
    tmp_path: Path, log: RecordingLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.durability.IDLE_S", 1e9)
    one = loop(config(tmp_path, stream=Stream(batch_size=4, linger_s=60, max_unread=10)), log)
    _add(log, *range(1, 80, 4))

    def script() -> Script:
        yield lambda: one.machine.counters.accepted_events == 20

    play(one, script())
    assert len(Store(tmp_path / "checkpoints").lineage()) >= 3
