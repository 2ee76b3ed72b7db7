"""How the trainer is, in one place: collected by the loop, written to the vitals file once a second."""

from __future__ import annotations

import os
import uuid
from dataclasses import asdict
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from daemon import vitals
from daemon.types import Vitals

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.checkpointer import Written
    from daemon.loop import Loop
    from daemon.publication import Published
    from daemon.types import Bounds, Json

WRITE_S = 1.0  # how often the vitals file is replaced; also how stale `status` may be
SOON_S = 0.1  # after a change of state

log = structlog.get_logger("mtld")


class Health:
    """Facts for `status`; nothing here is read back by the loop but `write_s`, which only times checkpoints."""

    def __init__(self, path: Path, namespace: str, broker: str, build: Json) -> None:
        self.path = path
        self.build = build
        self.write_s = 0.0  # how long the last checkpoint took to write
        self.last_snapshot: Json = {}
        self._vitals = Vitals(
            pid=os.getpid(), boot=uuid.uuid4().hex, namespace=namespace, broker=broker
        )
        self._next_write = 0.0
        self._entries_added: int | None = None
        self._rate_from = (monotonic(), 0)

    @property
    def boot(self) -> str:
        return self._vitals.boot

    @property
    def condition(self) -> tuple[str, str]:
        """State and reason, as `status` shows them."""
        return self._vitals.state, self._vitals.reason

    # -- facts -----------------------------------------------------------------------------------------------

    def state(self, state: str, reason: str = "") -> None:
        """Enter a named state; a change is written soon."""
        if (state, reason) != (self._vitals.state, self._vitals.reason):
            self._vitals.state, self._vitals.reason = state, reason
            self._next_write = min(self._next_write, monotonic() + SOON_S)

    def draining(self, by: str) -> None:
        log.info("draining: a last checkpoint, then exit", by=by)
        self.state("draining", by)

    def fault(self, name: str, detail: str) -> None:
        """Count a named condition; the operator sees it in `status` with the time of the last one."""
        known = self._vitals.faults.get(name, {"count": 0})
        self._vitals.faults[name] = {
            "count": known["count"] + 1,
            "last": vitals.now(),
            "detail": detail[:300],
        }
        log.warning("fault", name=name, detail=detail)

    def bounds(self, bounds: Bounds) -> None:
        self._entries_added = bounds.entries_added

    def recovered(self, seconds: float) -> None:
        """Ready to read: how long that took from the start of `main`."""
        self._vitals.recovery_s = round(seconds, 3)

    def first_step(self) -> None:
        """The first optimizer step since the start; the stamp is on the clock that all processes share."""
        log.info("first step", at_monotonic_s=round(monotonic(), 3))

    def not_bit_exact(self, reason: str) -> None:
        """The build differs from the checkpoint's, so the run goes on but not bit for bit."""
        self._vitals.bit_exact, self._vitals.bit_exact_reason = False, reason

    def checkpointed(self, written: Written) -> None:
        self.write_s = written.write_s
        self._vitals.checkpoint = {
            "seq": written.seq, "step": written.header["step"], "at": vitals.now(),
            "stage_ms": round(written.stage_s * 1e3, 2), "write_ms": round(written.write_s * 1e3, 1),
            "bytes": written.bytes_written,
        }  # fmt: skip
        log.info("checkpoint", **self._vitals.checkpoint)

    def published(self, published: Published) -> None:
        if published.error:
            self.fault("snapshot_failed", published.error)
            return
        self.last_snapshot = {
            "version": published.version,
            "at": vitals.now(),
            "path": published.path,
        }
        self._vitals.snapshot = {**self.last_snapshot, "scores": published.scores}
        log.info("snapshot published", version=published.version, path=published.path)

    # -- the file ----------------------------------------------------------------------------------------------

    def write(self, loop: Loop, force: bool = False) -> None:
        """Replace the vitals file if it is time."""
        now = monotonic()
        if now < self._next_write and not force:
            return
        self._next_write = now + WRITE_S
        self._fill(loop, now)
        vitals.write(self.path, self._vitals)

    def _fill(self, loop: Loop, now: float) -> None:
        machine, engine, told = loop.machine, loop.machine.engine, self._vitals
        described = engine.describe()
        since, rows = self._rate_from
        trained = machine.counters.trained_rows
        if now - since >= WRITE_S:
            told.rows_per_s = round(max(0, trained - rows) / (now - since), 1)
            self._rate_from = (now, trained)
        told.written_at = vitals.now()
        told.epoch, told.token, told.step = (
            loop.process.epoch,
            loop.process.token,
            engine.step_count,
        )
        told.task, told.phase = engine.focus or (None, None)
        told.tasks = described["tasks"]
        told.watermark = loop.reader.position.id
        if self._entries_added is not None:
            told.lag_events = max(0, self._entries_added - loop.reader.position.n)
        told.pending_rows = len(machine.batcher)
        told.counters = asdict(machine.counters)
        told.replay_rows, told.replay_bytes = described["replay_rows"], described["replay_bytes"]
        told.events = list(machine.outbox.recent)

    def stopped(self, loop: Loop) -> None:
        self.state("stopped")
        self.write(loop, force=True)
