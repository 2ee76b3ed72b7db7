"""The log in memory: the same contract as Redis Streams, for tests and for trying things without a server.

A `MemoryLog` is the server: it outlives its sources as a stream outlives its readers. What happens to a real
server can be done to it: `trim_to`, `delete`, `flush`, `is_down`, `is_full`, and `add` with an id of choice.
"""

from __future__ import annotations

import secrets
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter

from daemon.errors import BrokerFull, BrokerUnreachable, LeaseLost, Refused, StreamExhausted
from daemon.identity import FIRST_ID, LAST_POSSIBLE_ID, id_tuple
from daemon.sources.lease import POLL_S, Lease
from daemon.types import Bounds, Entry, Json

DEAD_KEPT = 10_000  # as in redis_streams
JOURNAL_KEPT = 100_000
LAST_SEQ = 2**64 - 1

Id = tuple[int, int]


@dataclass
class MemoryLog:
    """What a server would hold; safe for several threads."""

    clock: Callable[[], float] = time.monotonic
    is_down: bool = False
    is_full: bool = False
    last: Id = (0, 0)
    entries_added: int = 0
    group: tuple[str, int] | None = None  # last-delivered-id, entries-read
    lease: tuple[Lease, float] | None = None  # with its end on `clock`
    sent: str | None = None
    dead: deque[Json] = field(default_factory=lambda: deque[Json](maxlen=DEAD_KEPT))
    journal: deque[Json] = field(default_factory=lambda: deque[Json](maxlen=JOURNAL_KEPT))
    rows: list[tuple[Id, Entry]] = field(default_factory=list[tuple[Id, Entry]])
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, fields: Mapping[str, str | bytes], entry_id: str | None = None) -> str:
        """Append an entry as a producer does; returns its id."""
        with self.changed:
            self.check_writable()
            at = id_tuple(entry_id) if entry_id else self._next_id()
            if at <= self.last:
                msg = f"the id {entry_id} is not above the last one, {_text(self.last)}"
                raise Refused(msg)
            flat = {
                name.encode(): value if isinstance(value, bytes) else value.encode()
                for name, value in fields.items()
            }
            self.rows.append((at, Entry(_text(at), flat)))
            self.last = at
            self.entries_added += 1
            self.changed.notify_all()
            return _text(at)

    def delete(self, entry_id: str) -> bool:
        """Remove one entry, as XDEL does; whether it was there."""
        with self.changed:
            at = self.place(entry_id)
            is_there = at < len(self.rows) and self.rows[at][0] == id_tuple(entry_id)
            if is_there:
                del self.rows[at]
            return is_there

    def trim_to(self, min_id: str) -> int:
        """Remove all entries below an id; returns how many."""
        with self.changed:
            removed = self.place(min_id)
            del self.rows[:removed]
            return removed

    def flush(self) -> None:
        """Forget everything, as FLUSHALL does."""
        with self.changed:
            self.rows.clear()
            self.dead.clear()
            self.journal.clear()
            self.last, self.entries_added = (0, 0), 0
            self.group = self.lease = self.sent = None

    def place(self, entry_id: str) -> int:
        """The index of the first entry with id >= `entry_id`."""
        return bisect_left(self.rows, id_tuple(entry_id), key=itemgetter(0))

    def check_up(self) -> None:
        """BrokerUnreachable while the log is down."""
        if self.is_down:
            msg = "the memory log is down"
            raise BrokerUnreachable(msg)

    def check_writable(self) -> None:
        """The same, and BrokerFull while it is full."""
        self.check_up()
        if self.is_full:
            msg = "the memory log is full"
            raise BrokerFull(msg)

    def _next_id(self) -> Id:
        if _text(self.last) == LAST_POSSIBLE_ID:
            msg = "the memory log holds the last possible id and takes no entry any more"
            raise StreamExhausted(msg)
        now_ms = int(datetime.now(UTC).timestamp() * 1000)
        if now_ms > self.last[0]:
            return now_ms, 0
        ms, seq = self.last
        return (ms, seq + 1) if seq < LAST_SEQ else (ms + 1, 0)


class MemorySource:
    """EventSource over a MemoryLog; `owner` is the UUID of the state directory."""

    def __init__(self, log: MemoryLog, owner: str = "memory", ttl_s: float = 10.0) -> None:
        self.log = log
        self._owner = owner
        self._ttl_s = ttl_s
        self._nonce = secrets.token_hex(8)
        self._mine: Lease | None = None

    def read(self, start: str, count: int) -> list[Entry]:
        """Entries with id >= start, in order, at most `count`."""
        with self.log.changed:
            self.log.check_up()
            at = self.log.place(start)
            return [entry for _, entry in self.log.rows[at : at + count]]

    def wait(self, after: str, timeout_s: float) -> bool:
        """Sleep until an entry with id > after exists."""
        with self.log.changed:
            self.log.check_up()
            return self.log.changed.wait_for(lambda: self._has_after(after), timeout_s)

    def _has_after(self, after: str) -> bool:
        return bisect_right(self.log.rows, id_tuple(after), key=itemgetter(0)) < len(self.log.rows)

    def bounds(self) -> Bounds:
        """The log's counters and the group's position."""
        with self.log.changed:
            self.log.check_up()
            group = self.log.group
            return Bounds(
                last_id=_text(self.log.last),
                entries_added=self.log.entries_added,
                length=len(self.log.rows),
                first_id=self.log.rows[0][1].id if self.log.rows else None,
                group_last_id=group[0] if group else None,
                group_entries_read=group[1] if group else None,
            )

    def append(self, fields: Mapping[str, str | bytes]) -> str:
        """Append a decision to the log; returns its id."""
        with self.log.changed:
            self._check_fence()
            return self.log.add(fields)

    def deliver(self, dead: Sequence[Json], journal: Sequence[Json], mark: str) -> None:
        """Append to dead and journal and set the mark."""
        with self.log.changed:
            self._check_fence()
            self.log.dead.extend(dead)
            self.log.journal.extend(journal)
            self.log.sent = mark

    def sent_mark(self) -> str | None:
        """The mark of the last delivery."""
        self.log.check_up()
        return self.log.sent

    def display(self, last_id: str, entries_read: int, create: bool = True) -> bool:
        """Show a position in the group; False where it is missing and `create` forbids to make it."""
        with self.log.changed:
            self._check_fence()
            if self.log.group is None and not create:
                return False
            self.log.group = (last_id, entries_read)
            return True

    def trim(self, min_id: str) -> int:
        """Remove entries below an id, also from a full log."""
        with self.log.changed:
            self.log.check_up()
            holder = self._holder()
            removed = self.log.trim_to(min_id)
            if holder is None and self._mine is not None:
                self._retake()
            return removed

    def acquire(self, own_token: int, takeover_wait_s: float) -> int:
        """Take the lease and return its token; LeaseLost when a foreign one lives on."""
        deadline = time.monotonic() + takeover_wait_s
        with self.log.changed:
            while True:
                self.log.check_writable()
                found = self._live()
                if found is None or found.is_free_for(self._owner):
                    token = max(own_token, self.log.lease[0].token if self.log.lease else 0) + 1
                    self._mine = Lease(token, self._owner, self._nonce)
                    self._set(self._mine)
                    return token
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    msg = f"the state directory {found.uuid} holds the lease with token {found.token}; stop that daemon"
                    raise LeaseLost(msg)
                self.log.changed.wait(min(left_s, POLL_S))

    def renew(self) -> None:
        """Extend the lease; LeaseLost when somebody else has it."""
        with self.log.changed:
            self.log.check_up()
            if self._holder() is None or self._mine is None:
                self._retake()
            else:
                self._set(self._mine)

    def close(self) -> None:
        """Release the lease if it is ours."""
        with self.log.changed:
            if self._mine is not None and self._live() == self._mine and not self.log.is_down:
                self.log.lease = (Lease(self._mine.token), float("inf"))
            self._mine = None

    def describe(self) -> str:
        """What it is, for people."""
        return "memory memory://"

    def _live(self) -> Lease | None:
        lease = self.log.lease
        return lease[0] if lease is not None and lease[1] > self.log.clock() else None

    def _set(self, lease: Lease) -> None:
        self.log.lease = (lease, self.log.clock() + self._ttl_s)

    def _holder(self) -> Lease | None:
        """Us or nobody; LeaseLost for anybody else."""
        found = self._live()
        before_taking = self._mine is None and found is not None and found.is_free_for(self._owner)
        if not (found is None or found == self._mine or before_taking):
            msg = f"the lease is held by {found.uuid or 'nobody'} with token {found.token}: this one writes nothing more"
            raise LeaseLost(msg)
        return found

    def _retake(self) -> None:
        if self._mine is None:
            msg = "the lease was never taken by us; acquire it before writing"
            raise LeaseLost(msg)
        self.log.check_writable()
        self._set(self._mine)

    def _check_fence(self) -> None:
        """A write happens only on a log that takes it and while the lease is ours."""
        self.log.check_writable()
        if self._holder() is None or self._mine is None:
            self._retake()


def _text(at: Id) -> str:
    return f"{at[0]}-{at[1]}" if at != (0, 0) else FIRST_ID
