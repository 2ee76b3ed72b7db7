"""What waits to leave the daemon: dead letters and journal lines, numbered, inside the checkpoint.

Nothing leaves before the checkpoint that contains its cause is durable, and each item leaves once: the server
keeps the number of the last item it took (`epoch:seq`), and whatever that covers is skipped.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from daemon.identity import text_fields

if TYPE_CHECKING:
    from daemon.types import Entry, Json

CAPACITY = 10_000  # items; a fuller outbox stops reading, since dropping a dead letter would be a silent loss

RECENT = 8  # journal lines shown by `status`, and as many dead letters


@dataclass(frozen=True, slots=True)
class Item:
    """One line for the dead-letter or the journal stream."""

    epoch: int
    seq: int
    kind: str  # "dead" or "journal"
    body: dict[str, Any]

    @property
    def mark(self) -> str:
        """What the server keeps once it has taken this item and all before it."""
        return f"{self.epoch}:{self.seq}"


class Outbox:
    """Items in the order they arose; `capacity` bounds how many may wait."""

    def __init__(self) -> None:
        self.epoch = 1
        self.next_seq = 1
        self._items: deque[Item] = deque()
        # For `status`, not part of the state: they begin anew with every process.
        self.recent: deque[Json] = deque(maxlen=RECENT)
        self.recent_dead: deque[Json] = deque(maxlen=RECENT)
        self.dead_reasons: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_full(self) -> bool:
        return len(self._items) >= CAPACITY

    @property
    def last_seq(self) -> int:
        """The number of the newest item ever added."""
        return self.next_seq - 1

    def add(self, kind: str, body: Json) -> None:
        """Append one item under the current epoch."""
        self._items.append(Item(self.epoch, self.next_seq, kind, body))
        self.next_seq += 1
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        if kind == "journal":
            self.recent.append({"at": at, **body})
        else:
            self.dead_reasons[str(body.get("reason"))] += 1
            self.recent_dead.append({"at": at, "kind": "dead_letter", **body})

    def newest(self) -> list[Json]:
        """The last journal lines and dead letters, oldest first."""
        return sorted([*self.recent, *self.recent_dead], key=itemgetter("at"))

    def waiting(self) -> list[Item]:
        """All items that the server has not taken."""
        return list(self._items)

    def restart(self, epoch: int, waiting: list[Item]) -> None:
        """Under a new epoch only these wait; whatever else a restored state had has left or is among them."""
        self.epoch = epoch
        self._items.clear()
        for item in waiting:
            self._items.append(Item(epoch, self.next_seq, item.kind, item.body))
            self.next_seq += 1

    def up_to(self, seq: int, limit: int = 500) -> list[Item]:
        """The oldest waiting items whose number is at most `seq`, at most `limit` of them."""
        found: list[Item] = []
        for item in self._items:
            if item.seq > seq or len(found) == limit:
                break
            found.append(item)
        return found

    def drop_covered(self, mark: str | None) -> None:
        """Forget what the server already took."""
        if mark is None:
            return
        epoch, _, seq = mark.partition(":")
        covered = (int(epoch), int(seq))
        while self._items and (self._items[0].epoch, self._items[0].seq) <= covered:
            self._items.popleft()

    def state_dict(self) -> Json:
        return {
            "epoch": self.epoch,
            "next_seq": self.next_seq,
            "items": [asdict(item) for item in self._items],
        }

    def load_state_dict(self, state: Json) -> None:
        self.epoch = int(state["epoch"])
        self.next_seq = int(state["next_seq"])
        self._items = deque(Item(**item) for item in state["items"])


def dead_letter(entry: Entry, reason: str, message: str) -> Json:
    """What is told of a refused entry; the entry itself is still in the log."""
    told = text_fields(entry.fields)
    return {
        "id": entry.id,
        "event_id": told.get("id", "")[:256],
        "source": told.get("source", "")[:256],
        "type": told.get("type", "")[:128],
        "subject": told.get("subject", "")[:256],
        "hop": told.get("mtlhop", "0")[:4],
        "rows": declared_rows(entry),
        "reason": reason,
        "message": message[:500],
    }


def declared_rows(entry: Entry) -> int:
    """The producer's own count of rows (`mtlrows`), 0 where it gave none that can be read."""
    told = entry.fields.get(b"mtlrows", b"")
    return int(told) if told.isdigit() and len(told) < 7 else 0
