"""The log in Redis or Valkey: streams read by id, a group that only displays, and writes fenced by a lease.

Keys, all in one hash slot (`<ns>` is the namespace), and nothing else:

| Key                  | Type   | Written by        | Holds                                                         |
|----------------------|--------|-------------------|---------------------------------------------------------------|
| `mtl:{<ns>}:events`  | stream | producers, daemon | the log; one event per entry, CloudEvents attributes as fields |
|   group `mtld`       | group  | daemon            | last-delivered-id and entries-read of the last checkpoint      |
| `mtl:{<ns>}:dead`    | stream | daemon            | refused events by id with their reason, newest `DEAD_KEPT`     |
| `mtl:{<ns>}:journal` | stream | daemon            | what happened, newest `JOURNAL_KEPT` lines                     |
| `mtl:{<ns>}:lease`   | string | daemon            | `token:uuid:nonce` with an expiry, `token::` when released     |
| `mtl:{<ns>}:sent`    | string | daemon            | `<epoch>:<seq>` of the last delivery to dead and journal       |

Evictions from the capped streams stay visible: `entries-added` minus `length`. A field is at most
`FIELD_BYTES`, which with the counts bounds the bytes. Only commands of Redis 7.0 are used.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from daemon import failpoints, finite
from daemon.identity import FIRST_ID
from daemon.sources.fence import Fence
from daemon.sources.link import Command, Keys, Link, checked, is_error, pairs, server_info
from daemon.types import Bounds, Entry, Json

if TYPE_CHECKING:
    from redis.connection import ConnectionPool

GROUP = "mtld"
DEAD_KEPT = 10_000  # dead letters; the 10,001st evicts the oldest
JOURNAL_KEPT = 100_000  # journal lines
FIELD_BYTES = 16_384  # of one field of a dead letter or a journal line; longer ones are cut
BLOCK_S = 2.0  # longest single XREAD BLOCK; a longer wait is several
ANSWER_S = 5.0  # how long the server may take beyond a BLOCK before we call it unreachable


class RedisStreams:
    """EventSource over one namespace of a server; `owner` is the UUID of the state directory."""

    def __init__(
        self, link: Link, waiter: Link, namespace: str, owner: str, ttl_s: float = 10.0
    ) -> None:
        self.keys = Keys.of(namespace)
        self._link = link
        self._waiter = (
            waiter  # its own connection, so that a lease can be renewed while a read blocks
        )
        self._fence = Fence(link, self.keys.lease, owner, ttl_s)

    @classmethod
    def open(
        cls,
        url: str,
        namespace: str,
        owner: str,
        *,
        ttl_s: float = 10.0,
        password_file: Path | None = None,
    ) -> Self:
        """A source at a URL; nothing is sent before the first use."""
        timeout_s = (
            BLOCK_S + ANSWER_S
        )  # must be above BLOCK, or a quiet log looks like a dead server
        link = Link.open(url, password_file=password_file, timeout_s=ANSWER_S)
        waiter = Link.open(url, password_file=password_file, timeout_s=timeout_s)
        return cls(link, waiter, namespace, owner, ttl_s)

    @classmethod
    def over(cls, pool: ConnectionPool, namespace: str, owner: str, ttl_s: float = 10.0) -> Self:
        """A source over a connection pool that somebody else configured."""
        return cls(Link(pool), Link(pool), namespace, owner, ttl_s)

    # Reading -----------------------------------------------------------------------------------------------------

    def read(self, start: str, count: int) -> list[Entry]:
        """Entries with id >= start, in order, at most `count`."""
        rows = self._link.call("XRANGE", self.keys.events, start, "+", "COUNT", count)
        return [Entry(row[0].decode(), pairs(row[1])) for row in rows]

    def wait(self, after: str, timeout_s: float) -> bool:
        """Sleep until an entry with id > after exists; the rows that wake us are thrown away and read by id."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            block_ms = max(1, int(min(left_s, BLOCK_S) * 1000))  # 0 would block for ever
            command = ("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", self.keys.events, after)
            if self._waiter.call(*command):
                return True
        return False

    def bounds(self) -> Bounds:
        """The stream's counters and the group's position; an absent stream is all zeros."""
        events = self.keys.events
        # Groups first: if the stream vanishes in between, the younger half of the answer shows it.
        groups, stream = self._link.exchange(
            [("XINFO", "GROUPS", events), ("XINFO", "STREAM", events)]
        )
        if is_error(stream, "no such key"):
            return Bounds(FIRST_ID, 0, 0, None, None, None)
        said = pairs(checked(stream))
        length = int(said[b"length"])
        group = next(
            (
                row
                for row in map(pairs, [] if is_error(groups, "no such key") else checked(groups))
                if row[b"name"] == GROUP.encode()
            ),
            None,
        )
        return Bounds(
            last_id=said[b"last-generated-id"].decode(),
            entries_added=int(said[b"entries-added"]),
            length=length,
            first_id=said[b"recorded-first-entry-id"].decode() if length else None,
            group_last_id=group[b"last-delivered-id"].decode() if group else None,
            group_entries_read=group[b"entries-read"] if group else None,
        )

    def sent_mark(self) -> str | None:
        """The mark of the last delivery that the server executed."""
        mark = self._link.call("GET", self.keys.sent)
        return None if mark is None else mark.decode()

    # Writing -----------------------------------------------------------------------------------------------------

    def append(self, fields: Mapping[str, str | bytes]) -> str:
        """Append a decision to the log; returns its id."""
        flat = [part for pair in fields.items() for part in pair]
        (entry_id,) = self._fence.run(
            [("XADD", self.keys.events, "*", *flat)], lambda: failpoints.reach("control_sent")
        )
        return checked(entry_id).decode()

    def deliver(self, dead: Sequence[Json], journal: Sequence[Json], mark: str) -> None:
        """Append to dead and journal and set the mark, all or nothing."""
        commands: list[Command] = [_capped_add(self.keys.dead, DEAD_KEPT, line) for line in dead]
        commands += [_capped_add(self.keys.journal, JOURNAL_KEPT, line) for line in journal]
        commands.append(("SET", self.keys.sent, mark))
        checked(self._fence.run(commands, lambda: failpoints.reach("outbox_sent")))
        failpoints.reach("outbox_done")

    def display(self, last_id: str, entries_read: int, create: bool = True) -> bool:
        """Show a position in the group; False where the group is missing and `create` forbids to make it."""
        position = (self.keys.events, GROUP, last_id)
        (reply,) = self._fence.run([("XGROUP", "SETID", *position, "ENTRIESREAD", entries_read)])
        if not is_error(reply, "NOGROUP", "No such", "requires the key to exist"):
            checked(reply)
            return True
        if create:
            checked(
                self._fence.run(
                    [("XGROUP", "CREATE", *position, "MKSTREAM", "ENTRIESREAD", entries_read)]
                )
            )
        return create

    def trim(self, min_id: str) -> int:
        """Remove entries below an id; a server that is out of memory still accepts this."""
        return int(self._fence.run_outside("XTRIM", self.keys.events, "MINID", "=", min_id))

    # The lease ---------------------------------------------------------------------------------------------------

    def acquire(self, own_token: int, takeover_wait_s: float) -> int:
        """Take the lease; a foreign live one is waited for, then LeaseLost says who holds it."""
        return self._fence.acquire(own_token, takeover_wait_s)

    def renew(self) -> None:
        """Extend the lease; LeaseLost when somebody else has it."""
        self._fence.renew()

    def close(self) -> None:
        """Release the lease, keeping its token, and disconnect; what cannot be released expires."""
        self._fence.release()
        self._link.close()
        self._waiter.close()

    def describe(self) -> str:
        """The server's name, version and address, for people."""
        info = server_info(self._link)
        name = info.get("server_name", "redis")
        return f"{name} {info.get(f'{name}_version', info.get('redis_version', '?'))} {self._link.shown}"


def _capped_add(key: str, kept: int, line: Json) -> Command:
    flat = [
        part for name, value in line.items() if value is not None for part in (name, _text(value))
    ]
    return ("XADD", key, "MAXLEN", "=", kept, "*", *flat)


def _text(value: Any) -> str:
    """A field of a dead letter or journal line; a cut JSON value stays valid JSON."""
    if isinstance(value, str):
        return value.encode()[:FIELD_BYTES].decode("utf-8", "ignore")
    text = finite.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if len(text.encode()) <= FIELD_BYTES else finite.dumps({"cut": text[:1000]})
