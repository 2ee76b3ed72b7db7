"""What follows a durable checkpoint, in this order: dead letters and journal leave, the group shows it, the log is trimmed.

Every step may be repeated: the mark on the server skips what it took, setting the group and trimming twice
changes nothing. A server that is out of memory is trimmed first, since nothing else can free it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from daemon.cut import position_of
from daemon.errors import BrokerFull
from daemon.failpoints import reach
from daemon.identity import FIRST_ID, id_tuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.config import Stream
    from daemon.cut import Process
    from daemon.outbox import Item, Outbox
    from daemon.reader import Position, Reader
    from daemon.types import EventSource, Json


class Committer:
    """Brings the outside up to date with the newest durable checkpoint."""

    def __init__(self, source: EventSource, stream: Stream, start: Position) -> None:
        self._source = source
        self._stream = stream
        self._header: Json | None = (
            None  # of the newest durable checkpoint that is not yet committed
        )
        self._retained: Sequence[Json] = ()
        self.trimmed_to = FIRST_ID
        self.shown = start  # what the group may show now: never more than is durable

    @property
    def is_due(self) -> bool:
        """Whether a durable checkpoint waits to be shown outside."""
        return self._header is not None

    def durable(self, header: Json, retained: Sequence[Json]) -> None:
        """A checkpoint became current; `retained` are the manifests kept, newest first."""
        self._header = header
        self._retained = list(retained)

    def restart(self, position: Position) -> None:
        """The stream went back: what an older checkpoint wanted shown is of a stream that is no more."""
        self._header = None
        self.trimmed_to = FIRST_ID
        self.shown = position

    def commit(self, outbox: Outbox, process: Process, reader: Reader) -> bool:
        """Carry out what is due; raises what the source raises, and may then be called again.

        Returns whether the group was gone and had to be made again.
        """
        header = self._header
        if header is None:
            return False
        try:
            self._deliver(outbox, header["outbox_seq"])
            was_gone = reader.display(position_of(header))
            self.shown = position_of(header)
            reach("displayed")
        except BrokerFull:
            self._trim(
                str(header["watermark"])
            )  # give up replaying old checkpoints rather than stop for ever
            raise
        process.displayed = header["watermark"]
        self._trim(self._horizon(header))
        self._header = None
        return was_gone

    def _deliver(self, outbox: Outbox, seq: int) -> None:
        while items := outbox.up_to(seq):
            dead = [_line(item) for item in items if item.kind == "dead"]
            journal = [_line(item) for item in items if item.kind == "journal"]
            self._source.deliver(dead, journal, items[-1].mark)
            outbox.drop_covered(items[-1].mark)

    def _horizon(self, header: Json) -> str:
        """The oldest id that a retained checkpoint of this very log still needs, within the bounds set for the log."""
        oldest = str(header["watermark"])
        since = datetime.now(UTC) - timedelta(hours=self._stream.log_retain_hours)
        first_ms = int(since.timestamp() * 1000)
        for kept in self._retained:
            too_big = header["log_bytes"] - kept["log_bytes"] > self._stream.log_retain_bytes
            if (
                kept.get("regressions", 0) != header.get("regressions", 0)
                or too_big
                or _stands_at_ms(kept) < first_ms
            ):
                break
            oldest = str(kept["watermark"])
        return oldest

    def _trim(self, min_id: str) -> None:
        if min_id not in (FIRST_ID, self.trimmed_to):
            self._source.trim(min_id)
            reach("trimmed")
            self.trimmed_to = min_id


def _stands_at_ms(header: Json) -> float:
    """When the last entry of a cut was added; one from before every entry has only a time of its own."""
    if header["watermark"] == FIRST_ID:
        return datetime.fromisoformat(header["at"]).timestamp() * 1000
    return id_tuple(header["watermark"])[0]


def _line(item: Item) -> Json:
    return {
        "seq": item.mark,
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **item.body,
    }
