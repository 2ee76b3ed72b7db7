"""After a durable checkpoint: letters and journal leave, the group shows it, the log is trimmed, in this order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from daemon.commit import Committer
from daemon.config import Stream
from daemon.cut import Process
from daemon.errors import BrokerFull, BrokerUnreachable
from daemon.identity import event_key
from daemon.outbox import Outbox
from daemon.reader import Position, Reader
from daemon.sources.memory import MemoryLog, MemorySource
from tests.support.core import rows

if TYPE_CHECKING:
    from daemon.types import Json

NOW_MS = int(datetime.now(UTC).timestamp() * 1000)


class Bench:
    """A log of ten entries, all of them applied, with an outbox and a committer beside it."""

    def __init__(self, **stream: Any) -> None:
        self.log = MemoryLog()
        self.ids = [self.log.add(rows(number), f"{NOW_MS + number}-0") for number in range(10)]
        self.source = MemorySource(self.log)
        self.source.acquire(0, 0.0)
        self.committer = Committer(self.source, Stream(**stream), Position())
        self.outbox = Outbox()
        self.process = Process()
        self.reader = Reader(self.source, Position(), "0-0")
        for number in range(10):
            (found, *_) = self.reader.read(10)
            self.reader.advance(found, event_key(found))
            self.outbox.add("dead", {"number": number})

    def header(self, place: int, **more: Any) -> Json:
        """The manifest of a checkpoint taken after so many entries."""
        position = {"id": self.ids[place - 1], "key": "", "n": place, "a_max": place}
        return {"watermark": self.ids[place - 1], "epoch": 1, "outbox_seq": place, "log_bytes": place,
                "position": position, **more}  # fmt: skip

    def commit(self) -> None:
        self.committer.commit(self.outbox, self.process, self.reader)

    @property
    def sent(self) -> list[int]:
        return [letter["number"] for letter in self.log.dead]


def test_only_what_the_checkpoint_contains_leaves() -> None:
    bench = Bench()
    bench.committer.durable(bench.header(4), [bench.header(4)])
    assert bench.committer.is_due
    bench.commit()
    assert not bench.committer.is_due
    assert bench.sent == [0, 1, 2, 3]
    assert bench.log.group == (bench.ids[3], 4)
    assert bench.log.rows[0][1].id == bench.ids[3]
    assert bench.process.displayed == bench.ids[3]
    assert bench.log.sent == "1:4"


def test_where_nothing_is_due_nothing_happens() -> None:
    bench = Bench()
    bench.commit()
    assert (bench.sent, bench.log.group, len(bench.log.rows)) == ([], None, 10)


def test_committing_again_changes_nothing() -> None:
    bench = Bench()
    for _ in range(3):
        bench.committer.durable(bench.header(4), [bench.header(4)])
        bench.commit()
    assert (bench.sent, bench.log.group, len(bench.log.rows)) == (
        [0, 1, 2, 3],
        (bench.ids[3], 4),
        7,
    )


@pytest.mark.parametrize("what", ["deliver", "display", "trim"])
@pytest.mark.parametrize("happened", [True, False])
def test_a_lost_reply_at_any_step_is_made_good_by_the_next_try(what: str, happened: bool) -> None:
    bench = Bench()
    real = vars(MemorySource)[what]

    def lossy(*args: Any, **more: Any) -> Any:
        vars(bench.source).pop(what)
        if happened:
            real(bench.source, *args, **more)
        raise BrokerUnreachable("no reply")

    vars(bench.source)[what] = lossy
    bench.committer.durable(bench.header(4), [bench.header(4)])
    with pytest.raises(BrokerUnreachable):
        bench.commit()
    assert bench.committer.is_due
    bench.outbox.drop_covered(bench.source.sent_mark())  # as after every reconnect
    bench.commit()
    assert (bench.sent, bench.log.group, len(bench.log.rows)) == (
        [0, 1, 2, 3],
        (bench.ids[3], 4),
        7,
    )


def test_more_than_one_delivery_is_made_where_many_wait() -> None:
    bench = Bench()
    for number in range(10, 1203):
        bench.outbox.add("journal" if number % 2 else "dead", {"number": number})
    bench.committer.durable(bench.header(10, outbox_seq=1203), [])
    bench.commit()
    assert sorted([*bench.sent, *(line["number"] for line in bench.log.journal)]) == [*range(1203)]
    assert (len(bench.outbox), bench.log.sent) == (0, "1:1203")
    assert all(line["seq"] and line["at"] for line in bench.log.journal)


# -- how much of the log is kept -----------------------------------------------------------------------------


def _first_kept(bench: Bench, newest: Json, *older: Json) -> int:
    """The number of the first entry that is left after a commit with these checkpoints."""
    bench.committer.durable(newest, [newest, *older])
    bench.commit()
    return bench.ids.index(bench.log.rows[0][1].id) + 1


def test_the_log_is_kept_from_the_oldest_checkpoint_that_could_be_replayed() -> None:
    bench = Bench()
    assert _first_kept(bench, bench.header(9), bench.header(6), bench.header(3)) == 3


def test_a_checkpoint_from_before_a_rollback_is_held_as_any_other() -> None:
    bench = Bench()
    assert _first_kept(bench, bench.header(9, epoch=2), bench.header(3)) == 3


def test_a_checkpoint_of_a_log_that_is_no_more_holds_nothing() -> None:
    bench = Bench()
    assert (
        _first_kept(
            bench, bench.header(9, regressions=1), bench.header(6, regressions=1), bench.header(3)
        )
        == 6
    )


def test_the_first_checkpoint_holds_the_whole_log() -> None:
    first = {"watermark": "0-0", "at": datetime.now(UTC).isoformat(), "log_bytes": 0}
    assert _first_kept(Bench(), Bench().header(9), first) == 1


def test_the_log_is_kept_up_to_a_number_of_bytes() -> None:
    bench = Bench(log_retain_bytes=4)
    assert _first_kept(bench, bench.header(9), bench.header(6), bench.header(3)) == 6


def test_the_log_is_kept_up_to_an_age() -> None:
    bench = Bench(log_retain_hours=1.0)
    old = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    kept = bench.header(3) | {"watermark": f"{int(old * 1000)}-0"}
    assert _first_kept(bench, bench.header(9), bench.header(6), kept) == 6
    first = {"watermark": "0-0", "at": datetime.fromtimestamp(old, UTC).isoformat(), "log_bytes": 0}
    assert _first_kept(bench, bench.header(9), bench.header(6), first) == 6


def test_the_watermark_itself_stays_as_the_anchor() -> None:
    bench = Bench()
    assert _first_kept(bench, bench.header(10)) == 10


def test_before_anything_was_applied_nothing_is_trimmed() -> None:
    bench = Bench()
    bench.committer.durable(bench.header(1, watermark="0-0", outbox_seq=0), [])
    bench.commit()
    assert len(bench.log.rows) == 10


# -- a full server -------------------------------------------------------------------------------------------


def test_a_full_server_is_freed_of_all_that_is_durable_before_anything_is_sent() -> None:
    bench = Bench()
    bench.log.is_full = True
    bench.committer.durable(bench.header(8), [bench.header(8), bench.header(2)])
    with pytest.raises(BrokerFull):
        bench.commit()
    assert bench.log.rows[0][1].id == bench.ids[7]
    assert (bench.sent, bench.log.group, bench.committer.is_due) == ([], None, True)
    bench.log.is_full = False
    bench.commit()
    assert len(bench.sent) == 8


# -- what the group may show ---------------------------------------------------------------------------------


def test_what_may_be_shown_moves_only_with_durable_checkpoints() -> None:
    bench = Bench()
    assert bench.committer.shown == Position()
    bench.committer.durable(bench.header(4), [])
    assert bench.committer.shown == Position()
    bench.commit()
    assert bench.committer.shown.id == bench.ids[3]


def test_after_a_regression_nothing_of_the_old_stream_is_carried_out() -> None:
    bench = Bench()
    bench.committer.durable(bench.header(4), [])
    bench.committer.restart(Position("1-0", n=1))
    assert not bench.committer.is_due
    bench.commit()
    assert (bench.sent, bench.log.group, len(bench.log.rows)) == ([], None, 10)
    assert bench.committer.shown.id == "1-0"
