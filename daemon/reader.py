"""Reads the log by id and proves that nothing was skipped: the anchor, the fence, and what counts as a regression.

The anchor: every read starts at the last applied entry, which must still be there with the same key. The fence:
from one look at the server, the last id `G` and the count `A` of entries ever added. Once everything up to `G` is
applied, the stream must have given us `A - N` entries since position `N`; what is missing was trimmed or deleted
unread. Both hold for any source, since ids alone prove nothing: after FLUSHALL the new ids are higher than ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from daemon.errors import DaemonError, IntegrityError
from daemon.identity import FIRST_ID, event_key, id_tuple

if TYPE_CHECKING:
    from daemon.types import Bounds, Entry, EventSource

READ_BYTES = 32 << 20  # aimed at by one read; entries of unequal size may exceed it
FIRST_READ = 8  # entries of the first read, when their size is not known
COUNT_PAGE = 64  # entries fetched at a time only to be counted


@dataclass(frozen=True, slots=True)
class Position:
    """How far the log is applied; part of the checkpoint.

    `id` and `key` name the last applied entry (an empty key: unknown, the anchor is not checked), `n` is its
    position, that is `entries-added` when it was the last one, and `a_max`, `g_max` are the largest
    `entries-added` and its last id seen, `g_max` "0-0" where that is not known.
    """

    id: str = FIRST_ID
    key: bytes = b""
    n: int = 0
    a_max: int = 0
    g_max: str = FIRST_ID


class StreamRegressed(DaemonError):
    """The stream is not the one we read: `detail` says how it shows, `lost_at_least` what we know was unread."""

    exit_code = IntegrityError.exit_code

    def __init__(self, detail: str, lost_at_least: int) -> None:
        super().__init__(
            f"the stream regressed: {detail}; at least {lost_at_least} unread entries are gone"
        )
        self.detail = detail
        self.lost_at_least = lost_at_least


class Anchor(Enum):
    """What became of the last applied entry."""

    UNKNOWN = "unknown"  # nothing applied yet, or found missing before and found harmless
    PRESENT = "present"
    MISSING = "missing"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class _Fence:
    last: tuple[int, int]  # G
    added: int  # A


def join(source: EventSource, start: str | None = None) -> tuple[Position, int]:
    """Where a daemon without a state begins, and how many entries were trimmed before it came (not a loss).

    A group that has moved belongs to a state directory that is not here: refused unless `start` says
    `earliest` (everything that is still in the log) or `group` (after what the group shows).
    """
    bounds = source.bounds()
    moved = bounds.group_last_id is not None and bounds.group_last_id != FIRST_ID
    if start is None and moved:
        msg = (
            f"the state directory is empty but the stream was read up to {bounds.group_last_id}: restore the state "
            f"directory, or choose with --start earliest (read all of it again) or --start group (go on after it)"
        )
        raise IntegrityError(msg)
    added, last = bounds.entries_added, bounds.last_id
    if start != "group" or bounds.group_last_id is None or not moved:
        skipped = added - bounds.length
        return Position(n=skipped, a_max=added, g_max=last), skipped
    after = bounds.group_last_id
    rows = source.read(after, 1)
    key = event_key(rows[0]) if rows and rows[0].id == after else b""
    behind = count_entries(source, after, bounds.last_id, bounds.length)
    shown = bounds.group_entries_read
    n = (
        bounds.entries_added - behind
        if shown is None
        else min(shown, bounds.entries_added - behind)
    )
    return Position(after, key, n, added, last), 0


class Reader:
    """Entries after the last applied one, and the accounting of those that never came."""

    def __init__(self, source: EventSource, position: Position, displayed: str) -> None:
        self.position = position
        self.lost = 0
        self._source = source
        self._displayed = displayed
        self._saw_group = displayed != FIRST_ID  # from then on its absence means something
        self._fence: _Fence | None = None
        self._has_anchor = position.id != FIRST_ID and bool(position.key)
        self._is_suspect = True  # the stream may have been replaced while we did not look
        self._may_read = FIRST_READ

    def read(self, count: int) -> list[Entry]:
        """Entries after the last applied one, at most `count`; those not applied are returned again next time."""
        rows = self._source.read(self.position.id, min(count, self._may_read) + 1)
        anchor = self._anchor(rows[:1])
        if anchor in (Anchor.MISSING, Anchor.REPLACED) or self._is_suspect:
            self._check(self._source.bounds(), anchor)
        is_anchored = bool(rows) and rows[0].id == self.position.id
        entries = rows[1:] if is_anchored else rows[:count]
        if entries:
            self._adapt(entries)
        elif self._fence is not None:
            self._settle(self._fence)  # what it counted and this later read does not find is gone
        return entries

    def advance(self, entry: Entry, key: bytes) -> None:
        """The caller has applied this entry; a fence that it reaches or passes is settled, which may raise."""
        fence, at = self._fence, id_tuple(entry.id)
        if fence is not None and at > fence.last:
            self._move(entry, key, max(fence.added, self.position.n) + 1, fence.added)
        elif fence is not None and at == fence.last:
            self._move(entry, key, max(fence.added, self.position.n + 1), fence.added - 1)
        else:
            self.position = replace(self.position, id=entry.id, key=key, n=self.position.n + 1)
            self._has_anchor = bool(key)

    def _move(self, entry: Entry, key: bytes, n: int, before: int) -> None:
        """Apply an entry that settles the fence: `before` it, so many entries had been added."""
        lost = before - self.position.n
        self._fence = None
        self._has_anchor = bool(key)
        self.position = replace(self.position, id=entry.id, key=key, n=n)
        self._count(lost)

    def fence(self) -> Bounds:
        """Look whether the stream is still ours and take a fence unless one is outstanding."""
        # The anchor first: a stream replaced between the two looks then shows in the younger one.
        rows = self._source.read(self.position.id, 1) if self._has_anchor else []
        anchor = self._anchor(rows)
        bounds = self._source.bounds()
        self._check(bounds, anchor)
        if self._fence is None:
            self._fence = _Fence(id_tuple(bounds.last_id), bounds.entries_added)
            if id_tuple(self.position.id) >= self._fence.last:
                self._settle(self._fence)
        return bounds

    def display(self, position: Position) -> bool:
        """Show a durable position in the group; True where the group was gone and had to be made again.

        A missing group is evidence of a replaced stream, so it is judged before a new one hides it.
        """
        is_there = self._source.display(position.id, position.n, create=False)
        if not is_there:
            self.fence()
            self._source.display(position.id, position.n, create=True)
        was_known, self._saw_group = self._saw_group, True
        self._displayed = position.id
        return was_known and not is_there

    def reconnected(self) -> None:
        """After a connection error: the next read checks everything again."""
        self._is_suspect = True

    def take_lost(self) -> int:
        """Losses found since the last call."""
        lost, self.lost = self.lost, 0
        return lost

    def regress(self, retained: Sequence[Position]) -> Position:
        """Go back to the newest applied watermark that the stream still has, else to its beginning."""
        bounds = self._source.bounds()
        known = sorted(
            (self.position, *retained), key=lambda position: id_tuple(position.id), reverse=True
        )
        found = next((position for position in known if self._exists(position)), None)
        if found is None:
            # A stream that was made anew began with us at 0: what it has lost since counts. In any other case the
            # part before its first entry is what we trimmed ourselves.
            is_new = bounds.group_last_id is None and bounds.entries_added < self.position.a_max
            found = Position(n=0 if is_new else bounds.entries_added - bounds.length)
        else:
            behind = bounds.entries_added - count_entries(
                self._source, found.id, bounds.last_id, bounds.length
            )
            found = replace(found, n=min(found.n, behind))
        self.position = replace(found, a_max=bounds.entries_added, g_max=bounds.last_id)
        self._displayed = FIRST_ID
        self._saw_group = bounds.group_last_id is not None
        self._fence = None
        self._has_anchor = found.id != FIRST_ID and bool(found.key)
        return self.position

    def _anchor(self, rows: Sequence[Entry]) -> Anchor:
        if not self._has_anchor:
            return Anchor.UNKNOWN
        if not rows or rows[0].id != self.position.id:
            return Anchor.MISSING
        return Anchor.PRESENT if event_key(rows[0]) == self.position.key else Anchor.REPLACED

    def _check(self, bounds: Bounds, anchor: Anchor) -> None:
        """Raise StreamRegressed, or take note that the stream is ours, if trimmed or thinned out by somebody."""
        detail = self._what_is_wrong(bounds, anchor)
        if detail is not None:
            raise StreamRegressed(detail, self._lost_at_least())
        if anchor is Anchor.MISSING:
            self._has_anchor = False  # trimmed or deleted; the fence counts what else went
        self._is_suspect = False
        self._saw_group = self._saw_group or bounds.group_last_id is not None
        self.position = replace(self.position, a_max=bounds.entries_added, g_max=bounds.last_id)

    def _what_is_wrong(self, bounds: Bounds, anchor: Anchor) -> str | None:
        here, added = self.position, bounds.entries_added
        group = bounds.group_last_id
        known = max(here.a_max, here.n)
        watermark, last = id_tuple(here.id), id_tuple(bounds.last_id)
        set_back = group is not None and id_tuple(group) < id_tuple(self._displayed)
        no_anchor = anchor is Anchor.MISSING or (anchor is Anchor.UNKNOWN and self._saw_group)
        signs = [
            (anchor is Anchor.REPLACED, f"the entry {here.id} is not the one applied"),
            (last < watermark, f"its last id {bounds.last_id} is below the watermark {here.id}"),
            (added < known, f"it counts {added} entries ever added, {known} were counted before"),
            (set_back, f"the group shows {group} and was set to {self._displayed}"),
            (group is None and no_anchor, f"the group and the entry {here.id} are gone"),
        ]
        return next((detail for is_so, detail in signs if is_so), None)

    def _settle(self, fence: _Fence) -> None:
        self._fence = None
        lost = fence.added - self.position.n
        self.position = replace(self.position, n=max(fence.added, self.position.n))
        self._count(lost)

    def _count(self, lost: int) -> None:
        if lost < 0:
            detail = f"{-lost} more entries came than it says were ever added"
            raise StreamRegressed(detail, self._lost_at_least())
        self.lost += lost

    def _lost_at_least(self) -> int:
        """Entries known to have been added after our position, less those that may be among what is there now."""
        here = self.position
        unread = here.a_max - here.n
        if unread <= 0:
            return 0
        until = here.g_max if here.g_max != FIRST_ID else "+"
        return max(0, unread - count_entries(self._source, here.id, until, unread))

    def _exists(self, position: Position) -> bool:
        if position.id == FIRST_ID:
            return False
        rows = self._source.read(position.id, 1)
        is_there = bool(rows) and rows[0].id == position.id
        return is_there and (not position.key or event_key(rows[0]) == position.key)

    def _adapt(self, entries: Sequence[Entry]) -> None:
        """Let the next read ask for as many entries as fit the byte budget, at most twice as many as this one."""
        size = sum(len(value) for entry in entries for value in entry.fields.values()) // len(
            entries
        )
        self._may_read = max(1, min(2 * self._may_read, READ_BYTES // max(1, size)))


def count_entries(source: EventSource, after: str, until: str, at_most: int) -> int:
    """How many entries have after < id <= until; stops at `at_most`."""
    last = None if until == "+" else id_tuple(until)
    count, start = 0, after
    while count < at_most:
        rows = source.read(start, COUNT_PAGE + 1)
        page = [row for row in rows if row.id != start]
        inside = [row for row in page if last is None or id_tuple(row.id) <= last]
        count += len(inside)
        if len(inside) < len(page) or len(rows) <= COUNT_PAGE:
            break
        start = page[-1].id
    return min(count, at_most)
