"""How the trainer is, in one place: collected by the loop, written to the vitals file once a second."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from importlib import metadata
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from daemon import notify, vitals
from daemon.learned import Learned
from daemon.tally import CHECKPOINT_S, STEP_S, Arrivals, Histogram
from daemon.types import Vitals

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from daemon.checkpointer import Written
    from daemon.loop import Loop
    from daemon.machine import LogMachine
    from daemon.publication import Published
    from daemon.types import Bounds, Json

WRITE_S = 1.0  # how often the vitals file is replaced; also how stale `status` may be
SOON_S = 0.1  # after a change of state
# s after which the loop hangs rather than works, by what it is busy with and writes no vitals meanwhile.
BUSY_S = {"loading": 600.0, "evaluation": 300.0, "publishing": 300.0, "checkpoint": 600.0}

log = structlog.get_logger("mtld")


class Health:
    """Facts for `status`; nothing here is read back by the loop but `write_s`, which only times checkpoints."""

    def __init__(self, path: Path, namespace: str, broker: str = "") -> None:
        self.path = path
        self.build: Json = {}
        self.write_s = 0.0  # how long the last checkpoint took to write
        self.last_snapshot: Json = {}
        self.broker_up = False
        self.step_seconds = Histogram(STEP_S)
        self.arrivals = Arrivals()
        self.learned = Learned()
        self._waits = Histogram(CHECKPOINT_S)
        self._totals: Counter[str] = Counter()
        self._vitals = Vitals(
            pid=os.getpid(), pid_namespace=vitals.pid_namespace(), boot=uuid.uuid4().hex,
            started_at=vitals.now(), namespace=namespace, broker=broker,
        )  # fmt: skip
        self._next_write = 0.0
        self._is_written = True
        self._entries_added: int | None = None
        self._rate_from = (monotonic(), 0)
        self._has_stepped = False
        self._switched: tuple[Json, Json] | None = None  # no step was taken since this switch

    @property
    def boot(self) -> str:
        return self._vitals.boot

    @property
    def condition(self) -> tuple[str, str]:
        """State and reason, as `status` shows them."""
        return self._vitals.state, self._vitals.reason

    # -- what the loop is doing --------------------------------------------------------------------------------

    def begin(self, what: str) -> None:
        """Say what keeps the loop from writing vitals, and until when that is no reason to think that it hangs."""
        until = datetime.now(UTC) + timedelta(seconds=BUSY_S[what])
        self._vitals.busy, self._vitals.busy_until = what, until.isoformat(timespec="seconds")
        self._put()
        notify.busy(BUSY_S[what])

    def end(self) -> None:
        """The loop ticks again."""
        self._vitals.busy = self._vitals.busy_until = ""
        self._next_write = 0.0
        notify.usual()

    @contextmanager
    def busy(self, what: str) -> Generator[None]:
        """Busy as long as this block takes."""
        before = self._vitals.busy, self._vitals.busy_until
        self.begin(what)
        try:
            yield
        finally:
            self.end()
            self._vitals.busy, self._vitals.busy_until = before

    # -- facts -----------------------------------------------------------------------------------------------

    def connected(self, broker: str, build: Json) -> None:
        """The server answers and the engine is built."""
        self.build, self.broker_up = build, True
        self._vitals.broker, self._vitals.build = broker, {"version": _version(), **build}

    def count(self, what: str) -> None:
        """One more of something that `totals` tells of this process."""
        self._totals[what] += 1

    def switched(self, machine: LogMachine, begun_s: float) -> None:
        """A task switch that was begun then is applied; its evaluation is part of how long it took."""
        took_s = monotonic() - begun_s
        self.count("task_switches")
        self._vitals.switch_s = round(took_s, 4)
        told = {"begun_monotonic_s": round(begun_s, 5), "applied_s": round(took_s, 5)}
        self._switched = machine.last_switch, {"switch": machine.entry_id, **told}

    def stepped(self, machine: LogMachine) -> None:
        """Steps were taken: the first since the start and the first after a task switch are logged.

        Stamps are on the clock that all processes of a machine share; `after` is the entry that made the step possible.
        """
        now_s = monotonic()
        if not self._has_stepped:
            self._has_stepped = True
            log.info("first step", at_monotonic_s=round(now_s, 3))
        if self._switched is None:
            return
        (switch, told), self._switched = self._switched, None
        if switch is machine.last_switch:  # else it was rolled back
            told |= {name: switch[name] for name in ("task", "phase")}
            stamps = {"after": machine.entry_id, "at_monotonic_s": round(now_s, 5)}
            log.info("first step of a phase", **told, **stamps)

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

    def not_bit_exact(self, reason: str) -> None:
        """The build differs from the checkpoint's, so the run goes on but not bit for bit."""
        self._vitals.bit_exact, self._vitals.bit_exact_reason = False, reason

    def resumed(self, header: Json) -> None:
        """The checkpoint that this process goes on from is the last one until it writes its own."""
        self._vitals.checkpoint = {name: header.get(name) for name in ("seq", "step", "at")}

    def checkpoint_failed(self, detail: str) -> None:
        """What it held waits for the next one."""
        self.count("checkpoint_failures")
        self.fault("checkpoint_failed", detail)

    def checkpointed(self, written: Written) -> None:
        self.count("checkpoints")
        self.arrivals.durable(datetime.now(UTC).timestamp() * 1e3, self._waits)
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
        self.count("snapshots_published")
        verdict = published.verdict or {}
        self.count(str(verdict.get("decision", "unjudged")))
        self.last_snapshot = {
            "version": published.version,
            "at": vitals.now(),
            "path": published.path,
            "verdict": verdict.get("decision"),
            "reason": verdict.get("reason"),
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
        self._put()

    def _put(self) -> None:
        self._vitals.written_at = vitals.now()
        try:
            vitals.write(self.path, self._vitals)
        except (
            OSError
        ) as error:  # a full disk must not end the training; probes see an old file and say so
            if self._is_written:
                log.warning("vitals cannot be written; tried again every second", error=str(error))
            self._is_written = False
            return
        self._is_written = True

    def _fill(self, loop: Loop, now: float) -> None:
        machine, engine, told = loop.machine, loop.machine.engine, self._vitals
        described = engine.describe()
        since, rows = self._rate_from
        trained = machine.counters.trained_rows
        if now - since >= WRITE_S:
            told.rows_per_s = round(max(0, trained - rows) / (now - since), 1)
            self._rate_from = (now, trained)
        told.epoch, told.token, told.step = (
            loop.process.epoch,
            loop.process.token,
            engine.step_count,
        )
        told.task, told.phase = engine.focus or (None, None)
        told.tasks = described["tasks"]
        told.watermark = loop.reader.position.id
        told.trimmed_to = loop.durability.committer.trimmed_to
        if self._entries_added is not None:
            told.lag_events = max(0, self._entries_added - loop.reader.position.n)
        told.pending_rows = len(machine.batcher)
        told.replay_rows, told.replay_bytes = described["replay_rows"], described["replay_bytes"]
        told.events = machine.outbox.newest()
        told.broker_up = self.broker_up
        told.paused, told.paused_until = loop.process.paused, loop.process.paused_until
        self._count_up(machine)
        self.learned.look(machine)
        told.losses, told.scores = self.learned.losses, self.learned.scores
        told.matrix = self.learned.matrix
        if self.learned.evaluation:
            told.evaluation = {**self.learned.evaluation, "every_s": loop.config.evaluate.every_s}
        told.guard = {"action": loop.config.guard.action, **self.learned.guard}
        told.senders = self.learned.senders
        told.skips = loop.process.skips_after(loop.reader.position.id)
        told.skipped_steps = described["skipped_steps"]

    def _count_up(self, machine: LogMachine) -> None:
        told = self._vitals
        told.counters = asdict(machine.counters)
        told.totals = dict(self._totals)
        told.drifts = dict(machine.phases.counts)
        told.dead_reasons = dict(machine.outbox.dead_reasons)
        told.step_seconds = self.step_seconds.to_dict()
        told.event_checkpoint_seconds = self._waits.to_dict()

    def stopped(self, loop: Loop) -> None:
        self.state("stopped")
        self.write(loop, force=True)


def _version() -> str:
    try:
        return metadata.version("mtld")
    except metadata.PackageNotFoundError:
        return "unknown"  # run from its source, not installed
