"""A reader that applies what it reads, as the loop does, and remembers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.identity import FIRST_ID, event_key, id_tuple
from daemon.reader import Position, Reader

if TYPE_CHECKING:
    from daemon.types import EventSource
    from tests.support.drivers import Driver


class Follower:
    """Applies entries in order; `lost` adds up what the reader reports."""

    def __init__(
        self, source: EventSource, position: Position | None = None, displayed: str = FIRST_ID
    ) -> None:
        self.source = source
        self.reader = Reader(source, position or Position(), displayed)
        self.applied: list[str] = []
        self.lost = 0

    def apply(self, count: int = 1000) -> list[str]:
        """Read and apply at most `count` entries; returns their ids."""
        applied: list[str] = []
        while len(applied) < count:
            entries = self.reader.read(count - len(applied))
            if not entries:
                break
            for entry in entries:
                self.reader.advance(entry, event_key(entry))
                applied.append(entry.id)
        self.applied += applied
        self.lost += self.reader.take_lost()
        return applied

    def settle(self) -> int:
        """Fence and apply what there is, twice, since the first fence may be an older one: returns all losses so far."""
        for _ in range(2):
            self.reader.fence()
            self.apply()
        return self.lost

    def display(self) -> bool:
        """Show where we are, as after a durable checkpoint."""
        return self.reader.display(self.reader.position)


def following(log: Driver, num: int) -> Follower:
    """A follower that has applied and displayed `num` events and has no fence outstanding."""
    source = log.source()
    source.acquire(0, 0.0)
    source.display(FIRST_ID, 0)
    follower = Follower(source)
    for _ in range(num):
        log.add()
    assert follower.settle() == 0
    follower.display()
    return follower


def add_above(log: Driver, entry_id: str, num: int) -> list[str]:
    """Append `num` new events with ids that are all higher than `entry_id`; returns the ids."""
    ms, _ = id_tuple(entry_id)
    return [log.add(entry_id=f"{ms + 1000 + i}-0") for i in range(num)]
