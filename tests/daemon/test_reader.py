"""The accounting of the reader against a log that anything may happen to, and how a log is joined."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon import reader as reader_module
from daemon.errors import IntegrityError
from daemon.identity import FIRST_ID, id_tuple
from daemon.reader import Position, StreamRegressed, join
from daemon.types import Entry
from tests.support.drivers import MemoryDriver, add_many
from tests.support.following import Follower, add_above, following

MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 8)),
        st.tuples(st.just("apply"), st.integers(1, 5)),
        st.tuples(st.just("delete"), st.integers(0, 30)),
        st.tuples(st.just("trim"), st.integers(0, 30)),
        st.tuples(st.just("fence"), st.just(0)),
        st.tuples(st.just("display"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=40,
)


class Life:
    """A log that is written, damaged and read in any order."""

    def __init__(self) -> None:
        self.log = MemoryDriver()
        self.follower = following(self.log, 0)
        self.added: list[str] = []

    def move(self, kind: str, number: int) -> None:
        present = [entry.id for _, entry in self.log.log.rows]
        chosen = present[number] if number < len(present) else None
        if kind == "add":
            self.added += add_many(self.log, number)
        elif kind == "apply":
            self.follower.apply(number)
        elif kind == "restart":
            before = self.follower
            self.follower = Follower(before.source, before.reader.position, FIRST_ID)
            # a cut takes over what the reader has found, together with its position
            self.follower.lost = before.lost + before.reader.take_lost()
            self.follower.applied = before.applied
        elif kind in ("fence", "display"):
            {"fence": self.follower.reader.fence, "display": self.follower.display}[kind]()
        elif chosen is not None:
            {"delete": self.log.delete, "trim": self.log.trim_to}[kind](chosen)


@settings(max_examples=150, deadline=None)
@example(moves=[("add", 1), ("fence", 0), ("add", 1), ("delete", 1)])
@example(moves=[("add", 2), ("delete", 0), ("apply", 1), ("fence", 0), ("restart", 0)])
@given(moves=MOVES)
def test_applied_and_lost_are_all_that_was_ever_added(moves: list[tuple[str, int]]) -> None:
    life = Life()
    for kind, number in moves:
        life.move(kind, number)
    lost = life.follower.settle()
    applied = life.follower.applied
    assert applied == sorted(set(applied), key=life.added.index)
    assert len(applied) + lost == len(life.added)


def test_more_entries_than_were_ever_added_is_a_regression() -> None:
    log = MemoryDriver()
    follower = following(log, 3)
    *_, last = add_above(log, follower.applied[-1], 4)
    follower.reader.fence()
    at = (id_tuple(last)[0] - 1, 7)
    log.log.rows.insert(-1, (at, Entry(f"{at[0]}-{at[1]}", {b"data": b"never added"})))
    with pytest.raises(StreamRegressed, match="1 more entries came"):
        follower.apply()
    assert follower.reader.regress([]).id == last
    assert follower.settle() == 0


def test_a_large_backlog_is_read_in_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "READ_BYTES", 40_000)
    log = MemoryDriver()
    follower = following(log, 0)
    for _ in range(60):
        log.add({"data": "x" * 10_000})
    sizes: list[int] = []
    while follower.apply(1):
        sizes.append(len(follower.reader.read(1000)))
    assert sizes[0] <= reader_module.FIRST_READ * 2
    assert max(sizes[2:]) <= 4


def test_joining_skips_what_was_trimmed_before_and_calls_it_no_loss() -> None:
    log = MemoryDriver()
    ids = add_many(log, 10)
    log.trim_to(ids[6])
    position, skipped = join(log.source())
    assert (position.id, position.n, skipped) == (FIRST_ID, 6, 6)
    follower = Follower(log.source(), position)
    assert follower.settle() == 0
    assert follower.applied == ids[6:]


def test_joining_a_stream_that_another_state_has_read_is_refused() -> None:
    log = MemoryDriver()
    following(log, 3)
    with pytest.raises(IntegrityError, match="--start earliest"):
        join(log.source())


@pytest.mark.parametrize(("start", "first"), [("earliest", 0), ("group", 3)])
def test_joining_where_the_operator_says(start: str, first: int) -> None:
    log = MemoryDriver()
    old = following(log, 3)
    ids = old.applied + add_many(log, 4)
    log.delete(ids[5])
    position, _ = join(log.source(), start)
    follower = Follower(log.source(), position)
    lost = follower.settle()
    assert follower.applied == [entry_id for entry_id in ids[first:] if entry_id != ids[5]]
    assert lost == (1 if start == "group" else 0)


def test_a_position_without_a_key_is_trusted() -> None:
    log = MemoryDriver()
    ids = add_many(log, 3)
    follower = Follower(log.source(), Position(ids[0], b"", 1, 3))
    assert follower.apply() == ids[1:]
