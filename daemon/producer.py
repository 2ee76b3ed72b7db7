"""The client that other programs import to push rows and task events; it waits when the daemon is behind.

An event has an id, and the daemon applies an id once: after a lost reply the same event is simply sent again.
The source is the name and a UUID of this start, so two starts never share ids.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from daemon.encode import JSON, encode
from daemon.errors import BrokerFull, BrokerUnreachable, DaemonError, Refused, TimedOut
from daemon.sources.lag import unread
from daemon.sources.link import Command, Keys, Link, checked, is_error
from daemon.types import Json, Limits

T = TypeVar("T")
RECEIPTS_KEPT = 65_536  # between two flushes; older ones are dropped
FIRST_PAUSE_S, LONGEST_PAUSE_S = (
    0.005,
    0.25,
)  # between two looks at a daemon that is behind or a server that is gone
DURABLE_S = 4.0  # how long an fsync of the server may take; below the time-out of a reply


@dataclass(frozen=True, slots=True)
class Receipt:
    """An event that the server took. `is_durable`: it is on the server's disk, known only after `flush(durable=True)`."""

    id: str  # of the event, unique within its source
    source: str
    entry_id: str  # its place in the log
    is_durable: bool = False


class Producer:
    """Pushes events into one log, at a URL or over a link that exists; not for several threads at once.

    `max_unread` bounds how far the daemon may be behind (each producer may overshoot by half of what was free
    at its last look); `timeout_s` is how long a push waits for that, or for a server that is down or full.
    `durable`: every flush has the server write to its disk first (WAITAOF, Redis 7.2 or Valkey); the first push is
    refused, before anything is sent, by a server that cannot.
    """

    def __init__(
        self,
        url: str | Link,
        namespace: str = "default",
        name: str | None = None,
        *,
        max_unread: int = 10_000,
        timeout_s: float = 60.0,
        password_file: Path | None = None,
        durable: bool = False,
    ) -> None:
        if max_unread < 1:
            msg = f"max_unread is {max_unread}; it must be at least 1"
            raise ValueError(msg)
        self._link = url if isinstance(url, Link) else Link.open(url, password_file=password_file)
        self._keys = Keys.of(namespace)
        self.source = f"{name or socket.gethostname()}/{uuid.uuid4().hex}"
        self._sequence = 0
        self._max_unread = max_unread
        self._timeout_s = timeout_s
        self._durable = durable
        self._is_probed = not durable
        self._room = 0  # events that may be sent before the lag is asked for again
        self._receipts: deque[tuple[int, Receipt]] = deque(
            maxlen=RECEIPTS_KEPT
        )  # with the connection they came on

    def push(
        self,
        task: str | None,
        x: Any,
        y: Any = None,
        *,
        mask: Any = None,
        weight: Any = None,
        id: str | None = None,
    ) -> Receipt:
        """Send rows of one task, or with `task=None` and dicts by task rows that serve several; `y=None`: unlabelled."""
        content_type, data, num_rows = encoded(task, x, y, mask, weight)
        return self._send("mtl.data.v1", task, content_type, data, id=id, rows=num_rows)

    def add_task(self, name: str, **spec: Any) -> Receipt:
        """Declare a task; the keywords are those of TaskSpec."""
        return self._tell("mtl.task.add.v1", name, spec)

    def switch(self, task: str, phase: str | None = None) -> Receipt:
        """Mark the end of a stretch of the stream: what follows is `task`, in `phase`."""
        return self._tell("mtl.task.switch.v1", task, {} if phase is None else {"phase": phase})

    def update_task(self, name: str, **changes: float | str) -> Receipt:
        """Change share, min_share, loss_weight, tolerance or decision of a task."""
        return self._tell("mtl.task.update.v1", name, changes)

    def retire_task(self, name: str) -> Receipt:
        """End a task; its head and its replay rows are given up."""
        return self._tell("mtl.task.retire.v1", name, {})

    def flush(self, durable: bool | None = None) -> list[Receipt]:
        """Receipts of everything pushed since the last flush; with `durable` the server fsyncs first.

        Events pushed before a connection broke are not known to be durable: their receipts say so.
        """
        durable = self._durable if durable is None else durable
        if durable and self._receipts:
            self._wait_for_disk(DURABLE_S)
        known = self._link.breaks
        receipts = [
            replace(receipt, is_durable=durable and came_on == known)
            for came_on, receipt in self._receipts
        ]
        self._receipts.clear()
        return receipts

    def lag(self) -> int:
        """Events in the log that no durable checkpoint of the daemon covers."""
        return unread(self._link, self._keys.events)

    def close(self) -> None:
        """Disconnect; nothing is held back, so nothing is lost."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, kind: str, task: str, document: Json) -> Receipt:
        data = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
        return self._send(kind, task, JSON, data)

    def _send(
        self,
        kind: str,
        subject: str | None,
        content_type: str,
        data: bytes,
        *,
        id: str | None = None,
        rows: int | None = None,
    ) -> Receipt:
        self._sequence += 1
        event_id = id or str(self._sequence)
        fields: dict[str, str | bytes | None] = {
            "specversion": "1.0",
            "id": event_id,
            "source": self.source,
            "type": kind,
            "subject": subject,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "sequence": str(self._sequence),
            "mtlrows": None if rows is None else str(rows),
            "datacontenttype": content_type,
            "data": data,
        }
        flat = [
            part for name, value in fields.items() if value is not None for part in (name, value)
        ]
        command: Command = ("XADD", self._keys.events, "*", *flat)
        if not self._is_probed:
            self._insist(self._can_fsync, "")
            self._is_probed = True
        self._insist(
            self._take_room, f"the daemon is {self._max_unread} events behind; is it running?"
        )
        entry_id = self._insist(lambda: checked(self._link.exchange([command])[0]), "")
        receipt = Receipt(event_id, self.source, cast("bytes", entry_id).decode())
        self._receipts.append((self._link.breaks, receipt))
        return receipt

    def _take_room(self) -> bool | None:
        """True once one more event may be sent."""
        if self._room <= 0:
            free = self._max_unread - self.lag()
            self._room = (free + 1) // 2
        if self._room <= 0:
            return None
        self._room -= 1
        return True

    def _insist(self, attempt: Callable[[], T | None], why: str) -> T:
        """Repeat an attempt until it gives something; what a server that is down or full says is waited out."""
        deadline, pause_s, pause = (
            time.monotonic() + self._timeout_s,
            FIRST_PAUSE_S,
            threading.Event(),
        )
        while True:
            problem: DaemonError = TimedOut(f"waited {self._timeout_s:g} s: {why}")
            try:
                found = attempt()
                if found is not None:
                    return found
            except (BrokerUnreachable, BrokerFull) as error:
                problem = error
            if time.monotonic() + pause_s > deadline:
                raise problem
            pause.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _can_fsync(self) -> bool:
        """True for a server that can; it has nothing to write yet, so how long it took says nothing."""
        self._fsync(0.001)
        return True

    def _wait_for_disk(self, timeout_s: float) -> None:
        if not self._fsync(timeout_s):
            msg = f"the server did not write to its disk within {timeout_s:g} s; the events are in its memory"
            raise TimedOut(msg)

    def _fsync(self, timeout_s: float) -> bool:
        """Whether all that this connection wrote is on the server's disk by then."""
        reply = self._link.exchange([("WAITAOF", 1, 0, int(timeout_s * 1000))])[0]
        if is_error(reply, "unknown command"):
            msg = "this server has no WAITAOF (Redis before 7.2): go on without durable, or use Redis 7.2 or Valkey"
            raise Refused(msg)
        if is_error(reply, "appendonly"):
            msg = "this server writes no append-only file (appendonly no), so nothing is durable: switch it on"
            raise Refused(msg)
        local, _ = checked(reply)
        return bool(local)


def encoded(
    task: str | None, x: Any, y: Any = None, mask: Any = None, weight: Any = None
) -> tuple[str, bytes, int]:
    """Content type, bytes and number of rows of one event, as `push` sends it; ValueError where they are no event."""
    columns = {"x": x}
    for field, value in (("y", y), ("mask", mask), ("weight", weight)):
        columns |= _columns(task, field, value)
    content_type, data, num_rows = encode(columns)
    limits = Limits()
    if num_rows > limits.max_rows or len(data) > limits.max_event_bytes:
        msg = (
            f"{num_rows} rows in {len(data)} bytes are too much for one event; allowed are {limits.max_rows} "
            f"rows and {limits.max_event_bytes} bytes: push them in parts (`mtld push --rows-per-event`)"
        )
        raise ValueError(msg)
    return content_type, data, num_rows


def _columns(task: str | None, field: str, value: Any) -> dict[str, Any]:
    """`y` of one task as it is, `y` of several as `y.<task>`."""
    if isinstance(value, Mapping):
        by_task = cast("Mapping[str, Any]", value)
        if task is not None:
            msg = (
                f"{field} is a mapping by task, and the task {task!r} is given too: give task=None"
            )
            raise ValueError(msg)
        return {f"{field}.{name}": column for name, column in by_task.items()}
    if task is None and value is not None:
        msg = f"without a task {field} must be a mapping from task to its rows, found {type(value).__name__}"
        raise ValueError(msg)
    return {field: value}
