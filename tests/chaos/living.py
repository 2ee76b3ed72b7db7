"""One daemon that lives through fault after fault, and a twin in this process that gets each surviving event once.

The twin is the bare state machine: no server, no checkpoints. Whatever the faults did, the daemon's next
checkpoint must be bit-equal to it; then nothing was skipped silently and nothing was applied twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save

from daemon.sources.link import Keys, Link
from daemon.sources.redis_streams import GROUP
from tests.support.daemon_process import DaemonProcess
from tests.support.proxy import Proxy
from tests.support.servers import NAMESPACE, Server
from tests.support.stream import TENSORS, Fields
from tests.support.twin import Twin, entry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from daemon.types import Entry, Json, Vitals

KEYS = Keys.of(NAMESPACE)
ROWS = 3  # of each event
# A flush would be a decision in a log that the faults destroy; without one the twin needs only the events.
SETTINGS = """
lease_ttl_s = 1.0
[engine]
buffer_rows = 40
replay_batch = 8
trunk = {width = 16, depth = 1}
[stream]
batch_size = 8
linger_s = 3600
[checkpoint]
every_s = 0.2
keep = 3
keep_hourly = 0
[publish]
every_s = 0
"""


@dataclass(slots=True)
class Living:
    """The server, the proxy in front of it, the daemon behind the proxy, and the twin."""

    folder: Path
    kind: str
    server: Server = field(init=False)
    proxy: Proxy = field(init=False)
    daemon: DaemonProcess = field(init=False)
    twin: Twin = field(init=False)
    made: int = 0

    def __post_init__(self) -> None:
        self.server = Server(self.folder / "server", self.kind)
        self.proxy = Proxy(self.folder / "proxy.sock", self.server.broker.socket_path)
        self.daemon = DaemonProcess(self.folder / "state", self.proxy.url, SETTINGS)
        self.twin = Twin(self.daemon)
        self.daemon.start()
        self.daemon.wait_started()
        self.survive([self.add([self.task()])[0]])

    def close(self) -> None:
        self.daemon.close()
        self.proxy.close()
        self.server.close()

    @property
    def admin(self) -> Link:
        """Past the proxy, as an operator or an accident."""
        return self.server.admin

    # -- events ------------------------------------------------------------------------------------------------

    def task(self) -> Fields:
        """The declaration of the one task."""
        body = json.dumps({"modality": "embedding", "holdout": 0.0}).encode()
        return self._event("mtl.task.add.v1", "application/json", body)

    def rows(self, num: int) -> list[Fields]:
        """New events of three rows."""
        return [self._rows() for _ in range(num)]

    def bad(self) -> Fields:
        """An event that becomes a dead letter."""
        return {**self._rows(), "specversion": "9.9"}

    def _rows(self) -> Fields:
        draw = np.random.Generator(np.random.PCG64(self.made))
        x = draw.standard_normal((ROWS, 4)).astype(np.float32)
        data = save({"x": x, "y": (x[:, 0] > 0).astype(np.int64)})
        return self._event("mtl.data.v1", TENSORS, data)

    def _event(self, kind: str, content_type: str, data: bytes) -> Fields:
        self.made += 1
        return {
            "specversion": "1.0", "id": f"e{self.made}", "source": "feed/1", "type": kind, "subject": "flow",
            "datacontenttype": content_type, "data": data, "mtlrows": str(ROWS),
        }  # fmt: skip

    def add(self, events: Iterable[Fields]) -> list[Entry]:
        """Append events to the log."""
        added: list[Entry] = []
        for event in events:
            flat = [part for pair in event.items() for part in pair]
            entry_id = self.admin.call("XADD", KEYS.events, "*", *flat).decode()
            added.append(entry(entry_id, event))
        return added

    # -- the twin ----------------------------------------------------------------------------------------------

    def survive(self, entries: Iterable[Entry]) -> None:
        """These entries reach the daemon: the twin applies each of them once."""
        self.twin.apply(entries)

    def send(self, num: int) -> list[Entry]:
        """New events, nothing in their way."""
        entries = self.add(self.rows(num))
        self.survive(entries)
        return entries

    def settle(self) -> Vitals:
        """Wait until the log is read, then compare the daemon's checkpoint with the twin."""
        told = self.caught_up()
        self.daemon.ask("checkpoint")
        self.twin.assert_equals_checkpoint()
        return told

    # -- what the daemon says ------------------------------------------------------------------------------------

    def caught_up(self) -> Vitals:
        """Wait until everything in the log is applied; rows may be pending."""

        def look(told: Vitals) -> bool:
            (newest,) = self.admin.call("XREVRANGE", KEYS.events, "+", "-", "COUNT", 1) or [(b"",)]
            return told.state == "idle" and told.watermark == newest[0].decode()

        return self.daemon.wait(look, what="everything in the log")

    def vitals(self) -> Vitals:
        """What it says now."""
        told = self.daemon.vitals()
        assert told is not None, self.daemon.tail()
        return told

    def faults(self, name: str) -> int:
        """How often a fault was counted."""
        return int(self.vitals().faults.get(name, {"count": 0})["count"])

    def wait_fault(self, name: str, beyond: int) -> Vitals:
        """Wait until a fault was counted more often than `beyond`."""
        return self.daemon.wait(
            lambda told: told.faults.get(name, {"count": 0})["count"] > beyond, what=name
        )

    def journal(self, kind: str) -> list[Json]:
        """The details of all journal lines of one kind that the server has."""
        found: list[Json] = []
        for _, flat in self.admin.call("XRANGE", KEYS.journal, "-", "+"):
            line = dict(zip(flat[::2], flat[1::2], strict=True))
            if line[b"kind"] == kind.encode():
                found.append(json.loads(line[b"detail"]))
        return found

    def dead(self) -> list[str]:
        """The ids of the events in the dead-letter stream."""
        rows = self.admin.call("XRANGE", KEYS.dead, "-", "+")
        return [
            dict(zip(flat[::2], flat[1::2], strict=True))[b"event_id"].decode() for _, flat in rows
        ]

    def group(self) -> dict[str, Any]:
        """What the display group shows."""
        (row,) = self.admin.call("XINFO", "GROUPS", KEYS.events)
        told = dict(zip(row[::2], row[1::2], strict=True))
        assert told[b"name"] == GROUP.encode()
        return {name.decode(): value for name, value in told.items()}

    def pause(self) -> None:
        self.daemon.ask("pause", reason="a test")

    def resume(self) -> None:
        self.daemon.ask("resume")
